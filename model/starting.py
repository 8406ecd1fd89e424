"""From a checkpoint folder to everything that a loop turns on: weights, caches, ranks in touch, in that order."""

import ctypes
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from transformers import AutoConfig

from model import shard
from model.capacity import SHORT_TOKENS, Capacity, num_blocks
from model.config import CONTEXT_TOKENS, EngineConfig
from model.contract import RankReport
from model.executor import Executor, FollowerLoop
from model.gemma2 import Gemma2
from model.kernels.library import kernels
from model.linear import Weight
from model.loader import Loader
from model.native import NativeOps
from model.ops import Ops
from model.plain import PlainOps
from model.runner import BLOCK_TOKENS, Runner
from model.scheduler import Scheduler
from model.shapes import model_shape
from model.tensors import FileTensors
from model.world import World

_AGING_S: Final = 10.0  # waiting so long counts as much as one step of priority


@dataclass(frozen=True, slots=True)
class Parts:
    """What a rank has once it is up; a follower has no use for scheduler and executor, rank 0 none for a follower."""

    tokenizer: Tokenizer
    model: Gemma2
    scheduler: Scheduler
    executor: Any
    follower: Any
    report: RankReport
    capacity: Capacity
    kernels: str  # which arithmetic: "native" or "plain"


def choose_ops(threads: int) -> tuple[Ops, str]:
    """Our kernels on CPU where they can be built, plain torch else."""
    if torch.cuda.is_available():
        return PlainOps("cuda"), "plain"
    library = kernels()
    return (PlainOps(), "plain") if library is None else (NativeOps(library, threads), "native")


def start_rank(
    folder: Path,
    config: EngineConfig,
    world: World,
    threads: int,
    start_s: dict[str, float],
    clock: Callable[[], float] = time.monotonic,
) -> Parts:
    """Blocks until this rank is ready to compute; writes the seconds of each part. Raises `CheckpointError`."""
    torch.set_num_threads(threads)
    began_s = clock()

    def mark(part: str) -> None:
        nonlocal began_s
        start_s[part], began_s = clock() - began_s, clock()

    if world.sharded:
        shard.join(world)
    mark("join")
    ops, name = choose_ops(threads)
    mark("kernels")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    gemma_config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with FileTensors(folder) as tensors:
        model = Loader(gemma_config, tensors, ops, config.dtype, config.quantization, world, device).load()
    _give_back()
    mark("weights")
    blocks = num_blocks(model_shape(gemma_config), world.size, config)
    runner = Runner(model, ops, blocks, config.dtype, world)
    executor, follower = _in_touch(runner, world)
    scheduler, holds = _scheduler(config, model, blocks), report(model, world)
    mark("engine")
    return Parts(
        tokenizer=Tokenizer.from_file(str(folder / "tokenizer.json")),
        model=model,
        scheduler=scheduler,
        executor=executor,
        follower=follower,
        report=holds,
        capacity=_capacity(holds.weight_bytes, runner.kv_bytes, blocks, scheduler),
        kernels=name,
    )


def _give_back() -> None:
    """Return to the system what loading freed: glibc keeps half a GB of it at the 2B's shape (2026-11-24)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # other C libraries keep less
        trim(0)


def _in_touch(runner: Runner, world: World) -> tuple[Executor | None, FollowerLoop | None]:
    if world.rank:
        return None, FollowerLoop(runner, world)
    return Executor(runner, world), None


def _capacity(weight_bytes: int, kv_bytes: int, blocks: int, scheduler: Scheduler) -> Capacity:
    full, short = scheduler.at_once(CONTEXT_TOKENS), scheduler.at_once(SHORT_TOKENS)
    return Capacity(weight_bytes, kv_bytes, blocks, full, short)


def _scheduler(config: EngineConfig, model: Gemma2, blocks: int) -> Scheduler:
    return Scheduler(
        num_blocks=blocks,
        block_tokens=BLOCK_TOKENS,
        window_tokens=model.window_tokens,
        max_running=config.max_running,
        max_waiting=config.max_waiting,
        max_step_tokens=config.max_step_tokens,
        aging_s=_AGING_S,
    )


def report(model: Gemma2, world: World) -> RankReport:
    """What this rank holds: shapes of the first layer, the embedding and the head. A tied head counts once."""
    shapes = {f"model.layers.0.{name}.weight": _shape(weight) for name, weight in model.layers[0].linears().items()}
    shapes |= {"model.embed_tokens.weight": _shape(model.embedding), "lm_head.weight": _shape(model.head)}
    weights = [weight for layer in model.layers for weight in layer.linears().values()]
    ends = {id(weight): weight for weight in (model.embedding, model.head)}
    weight_bytes = sum(weight.num_bytes for weight in [*weights, *ends.values()])
    return RankReport(world.rank, os.getpid(), weight_bytes, shapes)


def _shape(weight: Weight) -> tuple[int, ...]:
    return weight.rows, weight.width
