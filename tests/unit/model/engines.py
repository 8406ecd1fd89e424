"""What the engine's tests share: requests from seeds, whole answers, and engines made for one purpose."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from model.config import EngineConfig
from model.engine import Engine
from model.events import Event, Failed, Finished, Logprob, PromptScored, TokenEvent, Usage
from model.request import GenerationRequest, RequestId, SamplingParams
from model.source import EMBEDDED_FOLDER

FOLDER = EMBEDDED_FOLDER / "nano-27b"
CONFIG = EngineConfig(max_running=16, max_waiting=64, kv_tokens=16_384, max_step_tokens=256)
GREEDY = SamplingParams(16, temperature=0.0)


def an_oracle() -> Any:
    """transformers' own Gemma 2 in fp32, whose attention is the plain one."""
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, attn_implementation="eager").eval()


@asynccontextmanager
async def running(config: EngineConfig = CONFIG, folder: Path = FOLDER) -> AsyncIterator[Engine]:
    engine = Engine(folder, config)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def a_prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    rng = random.Random(seed)
    return (2, *(rng.randrange(364, 1400) for _ in range(length - 1)))


def a_request(
    ids: Sequence[int], sampling: SamplingParams = GREEDY, name: str = "r", **more: object
) -> GenerationRequest:
    return replace(GenerationRequest(RequestId(name), tuple(ids), sampling, 120.0), **more)  # type: ignore[arg-type]


async def collect(engine: Engine, request: GenerationRequest) -> list[Event]:
    async with aclosing(engine.submit(request)) as events:
        return [event async for event in events]


async def ask(engine: Engine, ids: Sequence[int], sampling: SamplingParams = GREEDY, **more: object) -> list[Event]:
    return await collect(engine, a_request(ids, sampling, **more))


def tokens(events: list[Event]) -> list[int]:
    return [token for event in events if isinstance(event, TokenEvent) for token in event.token_ids]


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TokenEvent))


def logprobs(events: list[Event]) -> list[Logprob]:
    return [each for event in events if isinstance(event, TokenEvent) for each in event.logprobs]


def scores(events: list[Event]) -> list[Logprob]:
    return [each for event in events if isinstance(event, PromptScored) for each in event.logprobs]


def usage(events: list[Event]) -> Usage:
    last = events[-1]
    assert isinstance(last, Finished), last
    return last.usage


def fault_reason(events: list[Event]) -> str:
    last = events[-1]
    assert isinstance(last, Failed), last
    return last.fault.reason


async def settled(engine: Engine) -> None:
    """Until nobody is in; then every block is free or only cached."""
    async with asyncio.timeout(10):
        while (now := engine.load()).running or now.waiting or now.free_kv_tokens != now.total_kv_tokens:
            await asyncio.sleep(0.005)
