"""A real size, loaded and decoding on this machine, with random weights: what it takes and how fast it is.

usage: python benchmarks/real_shape.py --size 27b --quantization int4 --degree 2 [--tokens 16] [--json FILE]

A short prompt is read, then a token a step is decoded, by the loader, the kernels and the channel that serve; only the
tensors come from noise. The 27B in int4 takes 16 GB at degree 1 and 19 GB at degree 2, where both ranks hold the whole
embedding. A rank that finds less than a gigabyte left while it loads gives up.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from model import shard
from model.batch import Batch
from model.checkpoint import shape_of, tensor_shapes
from model.config import Dtype, Quantization, Size
from model.executor import Executor, FollowerLoop
from model.loader import Loader
from model.runner import BLOCK_TOKENS, Runner
from model.shapes import real_config
from model.starting import choose_ops, report
from model.tensors import RandomTensors
from model.world import World

GB = 1e9
LEAST_BYTES = 1e9
PROMPT_TOKENS = 16


class CarefulTensors(RandomTensors):
    """Ends the process rather than the machine."""

    def read(self, name: str, rows: slice, columns: slice | None = None) -> torch.Tensor:
        if psutil.virtual_memory().available < LEAST_BYTES:
            raise SystemExit(f"less than a gigabyte is left while {name} is read")
        return super().read(name, rows, columns)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=Size, choices=list(Size), default=Size.B2)
    parser.add_argument("--quantization", type=Quantization, choices=list(Quantization))
    parser.add_argument("--degree", type=int, default=1, choices=(1, 2))
    parser.add_argument("--threads", type=int, help="of each rank; all processors, shared out, unless given")
    parser.add_argument("--tokens", type=int, default=16, help="decoded and timed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def load(args: argparse.Namespace, world: World, threads: int) -> tuple[Runner, dict[str, Any]]:
    """One rank, and what it took."""
    Path("/proc/self/oom_score_adj").write_text("1000")  # should it come to that, this process and no other
    torch.set_num_threads(threads)
    if world.sharded:
        shard.join(world)
    ops, kernels = choose_ops(threads)
    before_bytes, began_s = psutil.Process().memory_info().rss, time.perf_counter()
    tensors = CarefulTensors(tensor_shapes(shape_of(args.size)))
    model = Loader(real_config(args.size), tensors, ops, Dtype.BF16, args.quantization, world).load()
    loaded_s = time.perf_counter() - began_s
    peak_bytes = next(
        1024 * int(line.split()[1])
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    runner = Runner(model, ops, 2 * blocks_for(args.tokens), Dtype.BF16, world)
    facts = {"weight_bytes": report(model, world).weight_bytes, "process_bytes": before_bytes,
             "peak_rss_bytes": peak_bytes, "load_s": loaded_s, "kernels": kernels}  # fmt: skip
    return runner, facts


def blocks_for(tokens: int) -> int:
    """Of either kind."""
    return -(-(PROMPT_TOKENS + tokens + 1) // BLOCK_TOKENS)


def a_batch(ids: list[int], start: int, blocks: int) -> Batch:
    """One sequence's next tokens; the last one needs logits."""
    table = np.arange(blocks, dtype=np.int32)[None]
    ints = [np.array(numbers, np.int32) for numbers in (ids, range(start, start + len(ids)), (0, len(ids)))]
    return Batch(ints[0], ints[1], ints[2], np.array([len(ids) - 1], np.int32), table, table + blocks)


def decode(executor: Executor, tokens: int) -> list[float]:
    """Seconds of the prompt's step and of each decoding step."""
    blocks, took_s = blocks_for(tokens), []
    ids, at = [2, *range(1000, 1000 + PROMPT_TOKENS - 1)], 0
    for _ in range(tokens + 1):
        began_s = time.perf_counter()
        logits = executor.run(a_batch(ids, at, blocks))
        took_s.append(time.perf_counter() - began_s)
        if not bool(logits.isfinite().all()):
            raise SystemExit("logits are not finite")
        at, ids = at + len(ids), [int(logits[0].argmax())]
    return took_s


def follow(args: argparse.Namespace, threads: int) -> None:
    """Rank 1's whole life."""
    world = World(1, 2, "127.0.0.1", args.port)
    runner, facts = load(args, world, threads)
    loop = FollowerLoop(runner, world)
    print(json.dumps(facts), flush=True)
    loop.wait()


def lead(args: argparse.Namespace, threads: int) -> dict[str, Any]:
    """Rank 0; starts and ends the other."""
    world = World(0, args.degree, "127.0.0.1", a_free_port() if args.degree > 1 else 0)
    command = [sys.executable, __file__, *sys.argv[1:], "--rank", "1", "--port", str(world.master_port)]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True) if world.sharded else None
    try:
        runner, facts = load(args, world, threads)
        executor = Executor(runner, world)
        ranks = [facts]
        if other is not None and other.stdout is not None:
            ranks.append(json.loads(next(line for line in other.stdout if line.startswith("{"))))
        prompt_s, *steps_s = decode(executor, args.tokens)
        executor.close()
        if other is not None:
            other.wait(30)
    finally:
        if other is not None:
            other.kill()
    step_s = statistics.median(steps_s)
    return {
        "size": str(args.size),
        "weights": str(args.quantization or Dtype.BF16),
        "degree": args.degree,
        "threads": threads,
        "kernels": facts["kernels"],
        "load_s": max(rank["load_s"] for rank in ranks),
        "weight_bytes": [rank["weight_bytes"] for rank in ranks],
        "peak_rss_bytes": [rank["peak_rss_bytes"] for rank in ranks],
        "process_bytes": [rank["process_bytes"] for rank in ranks],
        "prompt_ms": prompt_s * 1000,
        "step_ms": step_s * 1000,
        "tokens_per_s": 1 / step_s,
        "read_gb_per_s": max(rank["weight_bytes"] for rank in ranks) * args.degree / step_s / GB,
    }


def table(row: dict[str, Any]) -> str:
    """For a person."""

    def gb(numbers: list[int]) -> str:
        return " + ".join(f"{number / GB:.2f}" for number in numbers)

    return (
        "| size | weights | degree | load s | weights GB | peak RSS GB | before loading | ms a step | tokens/s |\n"
        "|---|---|---|---|---|---|---|---|---|\n"
        f"| {row['size']} | {row['weights']} | {row['degree']} | {row['load_s']:.0f} | {gb(row['weight_bytes'])} "
        f"| {gb(row['peak_rss_bytes'])} | {gb(row['process_bytes'])} | {row['step_ms']:.0f} "
        f"| {row['tokens_per_s']:.2f} |"
    )


if __name__ == "__main__":
    asked = arguments()
    shared_out = asked.threads or max(1, len(os.sched_getaffinity(0)) // asked.degree)
    if asked.rank:
        follow(asked, shared_out)
    else:
        found = lead(asked, shared_out)
        print(table(found))
        if asked.json:
            asked.json.write_text(json.dumps([found], indent=2) + "\n")
