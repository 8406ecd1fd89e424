"""The first engine against transformers' own generate, on the embedded 27B stand-in in fp32."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AttentionInterface, AutoModelForCausalLM
from transformers.integrations.eager_paged import eager_paged_attention_forward

from model.borrowed import BorrowedEngine
from model.config import STOP_IDS, Dtype, EngineConfig
from model.errors import CheckpointError, Code
from model.events import Event, Failed, Finished, FinishReason, TokenEvent
from model.prompt import Prompter, Role, Turn
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


@pytest.fixture(scope="module")
async def small() -> AsyncIterator[BorrowedEngine]:
    made = await endless()
    yield made
    await made.close()


async def endless() -> BorrowedEngine:
    """An engine whose answers end by length only, so that what is still running does not hang on luck."""
    made = BorrowedEngine(FOLDER, SMALL)
    await made.start()

    def never_stop(_module: object, _args: object, output: Any) -> None:
        output.logits.index_fill_(-1, torch.tensor(STOP_IDS), -1e9)

    made._model.register_forward_hook(never_stop)
    return made


def a_request(ids: tuple[int, ...], name: str = "r", timeout_s: float = 60.0, **sampling: object) -> GenerationRequest:
    params = SamplingParams(**{"max_tokens": 16, "temperature": 0.0, **sampling})  # type: ignore[arg-type]
    return GenerationRequest(RequestId(name), ids, params, timeout_s)


def a_prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    rng = random.Random(seed)
    return (2, *(rng.randrange(364, 1400) for _ in range(length)))


async def collect(engine: BorrowedEngine, request: GenerationRequest) -> list[Event]:
    async with aclosing(engine.submit(request)) as events:
        return [event async for event in events]


def tokens(events: list[Event]) -> list[int]:
    return [token for event in events if isinstance(event, TokenEvent) for token in event.token_ids]


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TokenEvent))


async def settled(engine: BorrowedEngine) -> None:
    async with asyncio.timeout(5):
        while engine.load().running or engine.load().waiting:
            await asyncio.sleep(0.02)


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


async def test_golden_logits_are_reproduced(engine: BorrowedEngine) -> None:
    assert engine.logit_difference is not None
    assert engine.logit_difference < 1e-4


async def test_an_answer_stops_at_end_of_turn_and_hides_it(engine: BorrowedEngine) -> None:
    prompter = Prompter(FOLDER / "tokenizer.json")
    ids = tuple(prompter.chat([Turn(Role.USER, "What is 12 + 30?")]))
    events = await collect(engine, a_request(ids, max_tokens=64))
    assert text(events) == "12 + 30 is 42."
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.STOP


async def test_a_stop_string_ends_the_text_before_it(engine: BorrowedEngine) -> None:
    prompter = Prompter(FOLDER / "tokenizer.json")
    ids = tuple(prompter.chat([Turn(Role.USER, "What is 12 + 30?")]))
    events = await collect(engine, a_request(ids, max_tokens=64, stop=(" is",)))
    assert text(events) == "12 + 30"
    await settled(engine)


async def test_requests_sample_each_by_their_own_settings(engine: BorrowedEngine) -> None:
    """Greedy ones stay exact beside hot ones, and hot ones differ."""
    prompt = a_prompt(20, 7)
    alone = tokens(await collect(engine, a_request(prompt, "alone")))
    asks = [a_request(prompt, f"g{i}") for i in range(3)]
    asks += [a_request(prompt, f"h{i}", temperature=2.0) for i in range(3)]
    asks += [a_request(prompt, f"k{i}", temperature=2.0, top_k=1) for i in range(2)]
    out = [tokens(events) for events in await asyncio.gather(*(collect(engine, ask) for ask in asks))]
    assert out[0] == out[1] == out[2] == out[6] == out[7] == alone
    assert len({tuple(hot) for hot in out[3:6]}) > 1


async def test_leaving_frees_the_blocks(small: BorrowedEngine) -> None:
    await settled(small)
    before = small.load().free_kv_tokens
    async with aclosing(small.submit(a_request(a_prompt(200), "leaver", max_tokens=4000))) as events:
        await anext(events)
        assert small.load().free_kv_tokens < before
    await settled(small)
    assert small.load().free_kv_tokens == before


async def test_a_deadline_ends_a_running_request(small: BorrowedEngine) -> None:
    last = (await collect(small, a_request(a_prompt(20), "late", timeout_s=0.2, max_tokens=4000)))[-1]
    assert isinstance(last, Failed)
    assert last.fault.code is Code.DEADLINE_EXCEEDED
    await settled(small)


async def test_what_does_not_fit_the_queue_is_refused_at_once(engine: BorrowedEngine) -> None:
    asks = [a_request(a_prompt(10, i), f"many{i}", max_tokens=4) for i in range(25)]
    lasts = [events[-1] for events in await asyncio.gather(*(collect(engine, ask) for ask in asks))]
    refused = [last for last in lasts if isinstance(last, Failed)]
    assert len(refused) == 5  # 16 running + 4 waiting fit
    assert {last.fault.code for last in refused} == {Code.OVERLOADED}
    assert sum(isinstance(last, Finished) for last in lasts) == 20
    await settled(engine)


async def test_more_work_than_blocks_finishes_with_the_same_tokens(small: BorrowedEngine) -> None:
    """Eight contexts of up to 150 tokens in a cache of 512: the engine evicts and recomputes, nothing changes."""
    asks = [a_request(a_prompt(90 + i, i), f"full{i}", max_tokens=60) for i in range(8)]
    alone = [tokens(await collect(small, ask)) for ask in asks]
    together = await asyncio.gather(*(collect(small, ask) for ask in asks))
    assert [tokens(events) for events in together] == alone
    assert all(isinstance(events[-1], Finished) for events in together)


async def test_what_no_cache_can_hold_is_refused_and_hurts_nobody(small: BorrowedEngine) -> None:
    last = (await collect(small, a_request(a_prompt(600), "huge")))[-1]
    assert isinstance(last, Failed)
    assert last.fault.reason == "context_length_exceeded"
    assert isinstance((await collect(small, a_request(a_prompt(20), "next")))[-1], Finished)


async def test_a_full_context_ends_with_length(small: BorrowedEngine) -> None:
    """A prompt of 501 tokens leaves 11 of 512, whatever was asked for."""
    events = await collect(small, a_request(a_prompt(500), "long", max_tokens=4000))
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.output_tokens == len(tokens(events)) == 11
    assert events[-1].reason is FinishReason.LENGTH


async def test_a_request_whose_time_is_over_is_not_prefilled(engine: BorrowedEngine) -> None:
    steps = engine._manager.current_batch
    last = (await collect(engine, a_request(a_prompt(20), "old", timeout_s=0.0)))[-1]
    assert isinstance(last, Failed)
    assert last.fault.code is Code.DEADLINE_EXCEEDED
    await asyncio.sleep(0.2)
    assert engine._manager.current_batch == steps


async def test_abort_ends_the_stream_and_the_id_can_come_back(small: BorrowedEngine) -> None:
    async with aclosing(small.submit(a_request(a_prompt(20), "again", max_tokens=4000))) as events:
        await anext(events)
        small.abort(RequestId("again"))
        last = [event async for event in events][-1]
    assert isinstance(last, Failed)
    assert last.fault.code is Code.ABORTED
    assert isinstance((await collect(small, a_request(a_prompt(20), "again", max_tokens=4)))[-1], Finished)
    small.abort(RequestId("nobody"))


async def test_logits_of_a_served_token_are_those_of_the_plain_path(engine: BorrowedEngine) -> None:
    """Beside other traffic too."""
    prompt = a_prompt(300, 5)
    others = [asyncio.create_task(collect(engine, a_request(a_prompt(40, i), f"o{i}"))) for i in range(3)]
    got = torch.tensor(await engine.logits(prompt))
    oracle = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        expected = oracle(torch.tensor([prompt])).logits[0, -1]
    assert (got - expected).abs().max() < 1e-4
    await asyncio.gather(*others)


async def test_an_error_in_the_loop_fails_what_runs_and_ends_the_engine() -> None:
    made = await endless()

    def explode(*_: object) -> None:
        raise RuntimeError("a kernel broke")

    async with aclosing(made.submit(a_request(a_prompt(20), "victim", max_tokens=400))) as events:
        await anext(events)
        made._model.register_forward_hook(explode)
        last = [event async for event in events][-1]
    assert isinstance(last, Failed)
    assert last.fault.code is Code.INTERNAL
    async with asyncio.timeout(5):  # the loop's thread tells its requests first and ends a moment later
        while made.healthy():
            await asyncio.sleep(0.01)
    after = (await collect(made, a_request(a_prompt(20), "late")))[-1]
    assert isinstance(after, Failed)
    assert after.fault.code is Code.NOT_READY
    await made.close()


async def test_closing_fails_what_runs() -> None:
    made = await endless()
    async with aclosing(made.submit(a_request(a_prompt(20), "running", max_tokens=400))) as events:
        await anext(events)
        await made.close()
        last = [event async for event in events][-1]
    assert isinstance(last, Failed)
    assert last.fault.code is Code.REPLICA_LOST


async def test_the_gate_sees_what_only_the_served_path_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own paged attention drops the soft-cap, and only long prompts show it."""
    monkeypatch.setattr("model.batching.use_soft_cap", lambda: None)
    kept = AttentionInterface._global_mapping["paged|eager"]
    AttentionInterface.register("paged|eager", eager_paged_attention_forward)
    try:
        with pytest.raises(CheckpointError, match=r"golden_logits.json: logits differ by"):
            await (made := BorrowedEngine(FOLDER, CONFIG)).start()
        await made.close()
    finally:
        AttentionInterface.register("paged|eager", kept)


async def test_bf16_passes_its_gate_and_answers() -> None:
    made = BorrowedEngine(FOLDER, EngineConfig(dtype=Dtype.BF16, kv_tokens=1024))
    await made.start()
    assert made.logit_difference is not None
    assert 1e-4 < made.logit_difference < 1.0
    ids = tuple(Prompter(FOLDER / "tokenizer.json").chat([Turn(Role.USER, "What is 12 + 30?")]))
    assert text(await collect(made, a_request(ids, max_tokens=64))) == "12 + 30 is 42."
    await made.close()


async def test_the_gate_keeps_a_wrong_checkpoint_out(tmp_path: Path) -> None:
    """A query scale of the head size gives fluent text and wrong logits."""
    import json
    import shutil

    folder = tmp_path / "nano-27b"
    shutil.copytree(FOLDER, folder)
    config = json.loads((folder / "config.json").read_text())
    config["query_pre_attn_scalar"] = config["head_dim"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"golden_logits.json: logits differ by"):
        await BorrowedEngine(folder, CONFIG).start()
