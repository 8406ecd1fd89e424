"""`python -m model.warm`: lets DeepSpeed compile its operation once, at install time or image build.

It takes about 50 s the first time and is cached by torch afterwards; without this the first start would pay for it.
"""

from pathlib import Path

from model.world import World


def main() -> None:
    """One sharded group of a single rank is enough to make DeepSpeed build what it needs."""
    import socket

    from model.shard import join

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    join(World(rank=0, size=1, master_port=port))
    from deepspeed.ops.op_builder.cpu.comm import ShareMemCommBuilder  # type: ignore[import-not-found, unused-ignore]

    ShareMemCommBuilder().load()
    print("DeepSpeed is ready", Path.cwd().name)


if __name__ == "__main__":
    main()
