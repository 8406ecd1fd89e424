"""What telling one rank a step costs: our socket against gloo's broadcast. `python benchmarks/channel.py`.

A batch of 32 sequences of 1,000 tokens is sent and answered by one byte, so a figure is there and back.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from model.channel import Follower, Leader
from model.world import World

ROUNDS, PORT, SIZES = 500, 29_731, (16_384, 65_536)


def median_us(turn: Callable[[], None]) -> float:
    """Median of many turns, in microseconds."""
    took = []
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        turn()
        took.append(time.perf_counter() - began_s)
    return statistics.median(took) * 1e6


def main(rank: int) -> None:
    """Both sides; rank 0 prints."""
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{PORT}"
    leader = Leader(World(0, 2, "127.0.0.1", PORT + 1)) if rank == 0 else None
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    follower = Follower(World(1, 2, "127.0.0.1", PORT + 1)) if rank else None
    if leader:
        leader.accept()
    flag = torch.zeros(1)
    for size in SIZES:
        message, tensor = bytes(size), torch.zeros(size, dtype=torch.uint8)

        def by_socket(message: bytes = message) -> None:
            if leader:
                leader.send(message)
            elif follower:
                follower.receive()
            dist.all_reduce(flag)  # as a step's first collective: both are there

        def by_gloo(tensor: torch.Tensor = tensor) -> None:
            dist.broadcast(tensor, 0)
            dist.all_reduce(flag)

        alone = median_us(lambda: dist.all_reduce(flag))
        socket_us, gloo_us = median_us(by_socket) - alone, median_us(by_gloo) - alone
        if rank == 0:
            print(
                f"{size:,} bytes: socket {socket_us:.0f} us, gloo broadcast {gloo_us:.0f} us (all-reduce {alone:.0f})"
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(int(sys.argv[1]))
    else:
        other = subprocess.Popen([sys.executable, __file__, "1"])
        main(0)
        other.wait()
