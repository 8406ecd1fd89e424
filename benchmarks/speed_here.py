"""How fast a size answers through Ray on this machine, and how many processors that keeps busy, measured alone."""

import asyncio
import os
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psutil
from ray.serve.handle import DeploymentHandle

from cluster.config import SizeConfig
from cluster.speed import Speed
from model.config import Size
from model.events import Failed, Finished, TokenEvent
from model.request import GenerationRequest, RequestId, SamplingParams

FIRST_ID, LAST_ID = 364, 1700  # ordinary words of the embedded family
SHORT, LONG = 16, 400  # tokens of a prompt
LENGTH = 48  # tokens of an answer
TOGETHER = 6
ROUNDS = 9


@dataclass(frozen=True, slots=True)
class Measured:
    """One size. `hop_s` from the caller to the engine and back; `processors` that its ranks and we use meanwhile."""

    speed: Speed
    hop_s: float
    processors: float
    crowded: float = 1.0  # times longer a lone request's step takes while the other sizes answer one each
    crowded_hop: float = 1.0  # and what becomes of a short prompt's time


def a_prompt(name: str, tokens: int, max_tokens: int) -> GenerationRequest:
    """One that nobody has seen."""
    rng = random.Random(name)
    ids = (2, *(rng.randrange(FIRST_ID, LAST_ID) for _ in range(tokens - 1)))
    return GenerationRequest(RequestId(name), ids, SamplingParams(max_tokens, 0.0, ignore_eos=True), 60.0, salt=name)


async def answer(handle: DeploymentHandle, request: GenerationRequest) -> tuple[float, float]:
    """Seconds to the first token and to the last."""
    began_s, first_s = time.perf_counter(), 0.0
    async for event in handle.options(stream=True).generate.remote(request):
        match event:
            case TokenEvent() if not first_s:
                first_s = time.perf_counter() - began_s
            case Failed():
                raise RuntimeError(event.fault.message)
            case Finished():
                return first_s, time.perf_counter() - began_s
    raise RuntimeError("a stream ended without a last event")


async def median(run: Callable[[str], Awaitable[float]], name: str) -> float:
    return statistics.median([await run(f"{name}{number}") for number in range(ROUNDS)])


async def crowding(handle: DeploymentHandle, others: list[DeploymentHandle], tag: str) -> tuple[float, float]:
    """A short prompt's seconds and those between two tokens, while each of the others answers one after another."""
    stop = asyncio.Event()

    async def keep_busy(other: DeploymentHandle, name: str) -> None:
        number = 0
        while not stop.is_set():
            await answer(other, a_prompt(f"{name}{number}", SHORT, LENGTH))
            number += 1

    busy = [asyncio.create_task(keep_busy(other, f"{tag}k{place}-")) for place, other in enumerate(others)]
    await asyncio.sleep(0.5)
    took = [await answer(handle, a_prompt(f"{tag}x{number}", SHORT, LENGTH)) for number in range(ROUNDS)]
    stop.set()
    await asyncio.gather(*busy)
    first_s = statistics.median(each[0] for each in took)
    return first_s, statistics.median((last_s - first_s) / (LENGTH - 1) for first_s, last_s in took)


async def measure(handle: DeploymentHandle, size: Size, config: SizeConfig, tag: str = "") -> Measured:
    """Lone requests for the prompt's and the step's time, a few together for what each further one adds."""

    async def first(name: str, tokens: int) -> float:
        return (await answer(handle, a_prompt(name, tokens, 1)))[0]

    async def token(name: str, together: int) -> float:
        """Between two tokens, while so many decode; the stretch in which the others still read is left out."""
        asks = [a_prompt(f"{name}-{number}", SHORT, LENGTH) for number in range(together)]
        took = await asyncio.gather(*(answer(handle, ask) for ask in asks))
        began_s, ended_s = max(each[0] for each in took), min(each[1] for each in took)
        return (ended_s - began_s) / (LENGTH - 1)

    await token(f"{tag}warm", TOGETHER)
    short_s = await median(lambda name: first(name, SHORT), f"{tag}s")
    long_s = await median(lambda name: first(name, LONG), f"{tag}l")
    status = await handle.status.remote()
    ours = [psutil.Process(pid) for pid in (os.getpid(), *(rank.pid for rank in status.ranks))]
    used_s, began_s = _used_s(ours), time.perf_counter()
    alone_s = await median(lambda name: token(name, 1), f"{tag}a")
    crowd_s = await median(lambda name: token(name, TOGETHER), f"{tag}c")
    processors = (_used_s(ours) - used_s) / (time.perf_counter() - began_s)
    decode_s = max(0.0, (crowd_s - alone_s) / (TOGETHER - 1))
    step_s = max(0.0, alone_s - decode_s)
    prefill_s = max(0.0, (long_s - short_s) / (LONG - SHORT))
    engine = config.engine
    speed = Speed(
        size, "here", config.tensor_parallel, engine.quantization, step_s, prefill_s, decode_s, 0.0,
        engine.max_running, engine.kv_tokens, engine.max_step_tokens,
    )  # fmt: skip
    return Measured(speed, max(0.0, short_s - step_s - SHORT * prefill_s), processors)


def _used_s(processes: list[psutil.Process]) -> float:
    """Of all processors together."""
    return sum(times.user + times.system for times in (each.cpu_times() for each in processes))
