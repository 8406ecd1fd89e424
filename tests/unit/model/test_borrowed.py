"""The oracle: transformers' continuous batching behind our contract, and our engine beside it."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import torch
from transformers import AutoModelForCausalLM

from model.borrowed import BorrowedEngine
from model.config import STOP_IDS, EngineConfig
from model.engine import Engine
from model.events import Event, Finished, TokenEvent
from model.request import GenerationRequest, RequestId, SamplingParams
from model.source import EMBEDDED_FOLDER

FOLDER = EMBEDDED_FOLDER / "nano-27b"
CONFIG = EngineConfig(max_running=16, max_waiting=4, kv_tokens=16_384, max_step_tokens=128)
SMALL = EngineConfig(max_running=8, max_waiting=4, kv_tokens=512, max_step_tokens=64)


@pytest.fixture(scope="module")
async def engine() -> AsyncIterator[BorrowedEngine]:
    made = BorrowedEngine(FOLDER, CONFIG)
    await made.start()
    yield made
    await made.close()


def a_request(ids: tuple[int, ...], name: str = "r", timeout_s: float = 60.0, **sampling: object) -> GenerationRequest:
    params = SamplingParams(**{"max_tokens": 16, "temperature": 0.0, **sampling})  # type: ignore[arg-type]
    return GenerationRequest(RequestId(name), ids, params, timeout_s)


def a_prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    rng = random.Random(seed)
    return (2, *(rng.randrange(364, 1400) for _ in range(length)))


async def collect(engine: BorrowedEngine | Engine, request: GenerationRequest) -> list[Event]:
    async with aclosing(engine.submit(request)) as events:
        return [event async for event in events]


def tokens(events: list[Event]) -> list[int]:
    return [token for event in events if isinstance(event, TokenEvent) for token in event.token_ids]


async def test_greedy_tokens_equal_generate_for_any_company_and_past_the_window(engine: BorrowedEngine) -> None:
    """Prompts of very different length at once, some longer than the window (256) and than a step (128)."""
    prompts = [a_prompt(length, length) for length in (3, 17, 50, 300, 9, 70, 270, 33)]
    together = await asyncio.gather(
        *(collect(engine, a_request(prompt, f"r{index}")) for index, prompt in enumerate(prompts))
    )
    oracle = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, attn_implementation="eager")
    for prompt, events in zip(prompts, together, strict=True):
        out = oracle.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)
        expected = out[0, len(prompt) :].tolist()
        assert tokens(events) == [token for token in expected if token not in STOP_IDS]
        assert isinstance(events[-1], Finished)
        assert events[-1].usage.output_tokens == len(expected)


async def test_our_engine_says_the_same(engine: BorrowedEngine) -> None:
    """Two loops that share no line of code: same prompts, same company, same tokens."""
    asks = [a_request(a_prompt(length, length), f"s{length}") for length in (4, 30, 260, 90, 17, 400)]
    ours = Engine(FOLDER, CONFIG)
    await ours.start()
    theirs = await asyncio.gather(*(collect(engine, ask) for ask in asks))
    answers = await asyncio.gather(*(collect(ours, ask) for ask in asks))
    assert [tokens(events) for events in answers] == [tokens(events) for events in theirs]
    await ours.close()
