"""A runner's side of the pipe: JSON lines in, JSON lines out, and the clock. Standard library only.

The first line out is `{"ready": {"version": …}}`, then each `{"workload": {…}}` is answered by what was measured.
Trouble is answered by `{"error": "one sentence"}`. Whatever an engine prints goes to standard error.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TextIO

from model.bench.timing import Arrival, Measured, measured
from model.bench.workload import Workload, prompts, shared_prefix


@dataclass(frozen=True, slots=True)
class Setup:
    """What an engine has to know before it loads."""

    folder: str  # a Hugging Face folder, or for llama.cpp a GGUF file
    dtype: str
    threads: int
    vocabulary: int
    max_concurrency: int
    context_tokens: int  # of the longest request, prompt and answer
    prefix_caching: bool

    @property
    def kv_tokens(self) -> int:
        """Keys and values for all requests at once, each with room to fill its last block."""
        return self.max_concurrency * (self.context_tokens + 64)


class Runner(Protocol):
    """One engine. Greedy, no stop before `max_tokens`."""

    async def start(self) -> str:
        """Load; the engine's version."""

    def generate(self, prompt: list[int], max_tokens: int) -> AsyncIterator[int]:
        """How many tokens have just come, as they come."""

    async def close(self) -> None:
        """Give everything back."""


def run(make: Any) -> None:
    """Serve `make(setup)` until the pipe ends; the setup is the first argument, as JSON."""
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    asyncio.run(_serve(make, Setup(**json.loads(sys.argv[1])), pipe))


async def _serve(make: Any, setup: Setup, pipe: TextIO) -> None:
    try:
        runner: Runner = make(setup)
        version = await runner.start()
    except Exception as error:
        _say(pipe, {"error": _sentence(error)})
        raise
    _say(pipe, {"ready": {"version": version}})
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            try:
                workload = Workload(**json.loads(line)["workload"])
                _say(pipe, asdict(await _measure(runner, workload, setup)))
            except Exception as error:
                _say(pipe, {"error": _sentence(error)})
    finally:
        await runner.close()


async def _measure(runner: Runner, workload: Workload, setup: Setup) -> Measured:
    """All requests at once, from the instant they are sent."""
    if setup.prefix_caching and workload.shared_prefix_tokens:
        await _arrivals(runner, shared_prefix(workload, setup.vocabulary), 1)
    asked = prompts(workload, setup.vocabulary)
    began_s = time.perf_counter()
    came = await asyncio.gather(*(_arrivals(runner, prompt, workload.output_tokens) for prompt in asked))
    result = measured(began_s, came)
    if result.output_tokens != workload.total_output_tokens:
        raise ValueError(f"asked for {workload.total_output_tokens} tokens, {result.output_tokens} came")
    return result


async def _arrivals(runner: Runner, prompt: list[int], max_tokens: int) -> list[Arrival]:
    return [Arrival(time.perf_counter(), count) async for count in runner.generate(prompt, max_tokens) if count]


def _say(pipe: TextIO, answer: dict[str, Any]) -> None:
    pipe.write(json.dumps(answer) + "\n")
    pipe.flush()


def _sentence(error: Exception) -> str:
    words = str(error).strip() or "no words"
    return f"{type(error).__name__}: {words.splitlines()[0][:300]}"


def cpus(threads: int) -> list[int]:
    """The first processors that this process may use."""
    return sorted(os.sched_getaffinity(0))[:threads]
