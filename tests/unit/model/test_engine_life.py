"""The life of a request and of an engine: how answers end, what an abort leaves behind, what an error costs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from model.config import Dtype, EngineConfig
from model.engine import Engine
from model.events import Finished, FinishReason
from model.prompt import Prompter, Role, Turn
from model.request import RequestId, SamplingParams
from tests.unit.model.engines import (
    CONFIG,
    FOLDER,
    GREEDY,
    a_prompt,
    a_request,
    ask,
    collect,
    fault_reason,
    running,
    settled,
    text,
    tokens,
    usage,
)

FREE = replace(GREEDY, ignore_eos=True, max_tokens=4000)
SMALL = EngineConfig(max_running=8, max_waiting=4, kv_tokens=512, max_step_tokens=64)
QUESTION = tuple(Prompter(FOLDER / "tokenizer.json").chat([Turn(Role.USER, "What is 12 + 30?")]))


@pytest.fixture(scope="module")
async def engine() -> AsyncIterator[Engine]:
    async with running() as made:
        yield made


@pytest.fixture(scope="module")
async def small() -> AsyncIterator[Engine]:
    async with running(SMALL) as made:
        yield made


async def test_an_answer_stops_at_end_of_turn_and_hides_it(engine: Engine) -> None:
    events = await ask(engine, QUESTION, replace(GREEDY, max_tokens=64))
    assert text(events) == "12 + 30 is 42."
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.STOP
    assert usage(events).output_tokens == len(tokens(events)) + 1  # the end of the turn was made, and costs


async def test_a_stop_string_ends_the_text_before_it(engine: Engine) -> None:
    assert text(await ask(engine, QUESTION, replace(GREEDY, max_tokens=64, stop=(" is",)))) == "12 + 30"
    await settled(engine)


async def test_requests_sample_each_by_their_own_settings(engine: Engine) -> None:
    """Greedy ones stay exact beside hot ones, and hot ones differ."""
    ids, hot = a_prompt(20, 7), SamplingParams(16, temperature=2.0)
    alone = tokens(await ask(engine, ids))
    asks = [GREEDY] * 3 + [hot] * 3 + [replace(hot, top_k=1)] * 2
    out = [tokens(events) for events in await asyncio.gather(*(ask(engine, ids, params) for params in asks))]
    assert out[0] == out[1] == out[2] == out[6] == out[7] == alone
    assert len({tuple(each) for each in out[3:6]}) > 1


async def test_a_full_context_ends_with_length(small: Engine) -> None:
    """Whatever was asked for, prompt and answer together fit the cache."""
    events = await ask(small, a_prompt(500), FREE)
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.LENGTH
    room = small._door._context_tokens - 500
    assert events[-1].usage.output_tokens == len(tokens(events)) == room


async def test_what_no_cache_can_hold_is_refused_and_hurts_nobody(small: Engine) -> None:
    assert fault_reason(await ask(small, a_prompt(900))) == "context_length_exceeded"
    assert isinstance((await ask(small, a_prompt(20)))[-1], Finished)


async def test_a_request_whose_time_is_over_is_not_prefilled(engine: Engine) -> None:
    await settled(engine)
    steps = engine.instruments.total.steps
    assert fault_reason(await ask(engine, a_prompt(20), timeout_s=0.0)) == "deadline_exceeded"
    await asyncio.sleep(0.1)
    assert engine.instruments.total.steps == steps


async def test_an_aborted_id_can_come_back(small: Engine) -> None:
    async with aclosing(small.submit(a_request(a_prompt(20), FREE, "again"))) as events:
        await anext(events)
        small.abort(RequestId("again"))
        assert fault_reason([event async for event in events]) == "aborted"
    assert isinstance((await ask(small, a_prompt(20), name="again"))[-1], Finished)
    small.abort(RequestId("nobody"))


async def test_logits_beside_other_traffic_are_the_oracles(engine: Engine) -> None:
    ids = a_prompt(300, 5)
    others = [asyncio.create_task(ask(engine, a_prompt(40, i))) for i in range(3)]
    got = torch.tensor(await engine.logits(ids))
    oracle: Any = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        expected = oracle(torch.tensor([ids])).logits[0, -1]
    assert float((got - expected).abs().max()) < 1e-4
    await asyncio.gather(*others)


async def test_an_error_in_the_loop_fails_what_runs_and_ends_the_engine() -> None:
    async with running(SMALL) as made:

        def explode(*_: object) -> None:
            raise RuntimeError("a kernel broke")

        async with aclosing(made.submit(a_request(a_prompt(20), FREE, "victim"))) as events:
            await anext(events)
            made._here().executor.run = explode  # type: ignore[method-assign]
            assert fault_reason([event async for event in events]) == "internal_error"
        assert not made.healthy()
        assert fault_reason(await ask(made, a_prompt(20))) == "not_ready"


async def test_bf16_passes_its_gate_and_answers() -> None:
    async with running(CONFIG.model_copy(update={"dtype": Dtype.BF16})) as made:
        assert made.logit_difference is not None
        assert 1e-4 < made.logit_difference < 1.0
        assert text(await collect(made, a_request(QUESTION, replace(GREEDY, max_tokens=64)))) == "12 + 30 is 42."


async def test_plain_torch_gives_the_same_answers(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    """Where there is no compiler."""
    monkeypatch.setattr("model.starting.kernels", lambda: None)
    asks = [a_request(a_prompt(length, length)) for length in (5, 40, 300)]
    async with running() as plain:
        assert plain._here().kernels == "plain"
        got = await asyncio.gather(*(collect(plain, each) for each in asks))
    expected = await asyncio.gather(*(collect(engine, each) for each in asks))
    assert [tokens(events) for events in got] == [tokens(events) for events in expected]
