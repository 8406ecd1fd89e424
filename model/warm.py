"""`python -m model.warm`: lets DeepSpeed compile its operation once, at install time or image build.

It takes about 50 s the first time; without this the first start would pay for it.
"""

import os

from model.op_cache import load_op, prepare_environment


def main() -> None:
    """Build, or see that it is built."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    prepare_environment()
    load_op()


if __name__ == "__main__":
    main()
