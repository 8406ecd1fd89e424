"""The engine against transformers' eager Gemma 2 in fp32, and against itself in any company."""

import asyncio
import json
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.config import EngineConfig, Quantization
from model.engine import Engine
from model.errors import CheckpointError
from model.events import Finished, FinishReason, TokenEvent
from model.request import Guide, GuideKind, SamplingParams
from tests.unit.model.engines import (
    CONFIG,
    FOLDER,
    GREEDY,
    a_prompt,
    a_request,
    an_oracle,
    ask,
    collect,
    fault_reason,
    logprobs,
    running,
    scores,
    settled,
    text,
    tokens,
    usage,
)

PAST_THE_WINDOW = 700  # the stand-ins' window is 256
FREE = replace(GREEDY, ignore_eos=True)


@pytest.fixture(scope="module")
async def engine() -> AsyncIterator[Engine]:
    async with running() as made:
        yield made


@pytest.fixture(scope="module")
async def cramped() -> AsyncIterator[Engine]:
    """Few blocks and small steps: chunks, queueing and preemption are the rule."""
    config = EngineConfig(max_running=8, max_waiting=512, kv_tokens=512, max_step_tokens=32)
    async with running(config) as made:
        yield made


@pytest.fixture(scope="module")
def oracle() -> Any:
    return an_oracle()


def oracle_answer(oracle: Any, ids: tuple[int, ...], num: int) -> list[int]:
    with torch.no_grad():
        made = oracle.generate(torch.tensor([ids]), max_new_tokens=num, do_sample=False, eos_token_id=None,
                               pad_token_id=0)  # fmt: skip
    return list(made[0, len(ids) :].tolist())


async def test_every_prompt_position_has_the_oracles_probability(engine: Engine, oracle: Any) -> None:
    """Past the window, in chunks of 256: the window's edge, both caps, the scale, the normaliser and the tied head."""
    ids = a_prompt(PAST_THE_WINDOW)
    events = await ask(engine, ids, replace(GREEDY, max_tokens=1, prompt_logprobs=3))
    with torch.no_grad():
        expected = oracle(torch.tensor([ids])).logits[0].log_softmax(-1)  # [T, V]
    got = scores(events)
    assert len(got) == len(ids) - 1
    for position, score in enumerate(got):
        assert score.token_id == ids[position + 1]
        assert score.logprob == pytest.approx(float(expected[position, score.token_id]), abs=1e-4)
        for token, logprob in score.top:
            assert logprob == pytest.approx(float(expected[position, token]), abs=1e-4)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 255, 256, 257, 500])
async def test_greedy_tokens_and_their_logprobs_are_the_oracles(engine: Engine, oracle: Any, length: int) -> None:
    ids = a_prompt(length, seed=length)
    events = await ask(engine, ids, replace(FREE, max_tokens=24, logprobs=2))
    answer = tokens(events)
    assert answer == oracle_answer(oracle, ids, 24)
    with torch.no_grad():
        rows = oracle(torch.tensor([[*ids, *answer]])).logits[0, len(ids) - 1 : -1].log_softmax(-1)
    for row, each in zip(rows, logprobs(events), strict=True):
        assert each.logprob == pytest.approx(float(row[each.token_id]), abs=1e-4)
        assert [token for token, _ in each.top] == row.topk(2).indices.tolist()


async def test_an_answer_that_crosses_the_window(engine: Engine, oracle: Any) -> None:
    ids = a_prompt(240, seed=3)
    assert tokens(await ask(engine, ids, replace(FREE, max_tokens=64))) == oracle_answer(oracle, ids, 64)


@pytest.mark.parametrize(("quantization", "most"), [(Quantization.INT8, 0.03), (Quantization.INT4, 0.25)])
async def test_quantized_weights_lose_little(engine: Engine, quantization: Quantization, most: float) -> None:
    """Mean absolute change of the prompt's log-probabilities, in nats; shares of right answers are in the docs."""
    ids, params = (2, *json.loads((FOLDER / "golden_logits.json").read_text())["prompts"][0]["ids"][1:]), GREEDY
    params = replace(params, max_tokens=1, prompt_logprobs=0)
    whole = [each.logprob for each in scores(await ask(engine, ids, params))]
    async with running(CONFIG.model_copy(update={"quantization": quantization})) as made:
        lost = [each.logprob for each in scores(await ask(made, ids, params))]
        assert made.ranks()[0].weight_bytes < 0.35 * engine.ranks()[0].weight_bytes
    change = sum(abs(a - b) for a, b in zip(whole, lost, strict=True)) / len(whole)
    assert 0 < change < most


def mixed_requests() -> list[Any]:
    """Greedy and drawn, short and past the window, some with a prefix in common, penalties, drafts."""
    rng = random.Random(5)
    shared = a_prompt(280, seed=99)
    prompts = [a_prompt(rng.choice((3, 16, 40, 90)), seed) for seed in range(8)]
    prompts += [shared, (*shared[:272], *a_prompt(10, 7)), (*shared[:100], *a_prompt(9, 8)), shared[:33]]
    made = []
    for index, ids in enumerate(prompts):
        params = SamplingParams(rng.choice((4, 9, 14)), temperature=rng.choice((0.0, 0.8, 1.3)), seed=index, top_k=40,
                                frequency_penalty=rng.choice((0.0, 0.7)), logprobs=2, ignore_eos=True)  # fmt: skip
        made.append(a_request(ids, params, f"m{index}"))
    return made


async def test_same_request_any_company(cramped: Engine) -> None:
    """200 mixes of order, neighbours, chunk sizes, cache state and preemption: equal tokens and log-probabilities."""
    requests = mixed_requests()
    alone = []
    async with running(CONFIG.model_copy(update={"max_step_tokens": 512})) as roomy:
        for request in requests:
            events = await collect(roomy, request)
            alone.append((tokens(events), logprobs(events)))
        narrow = CONFIG.model_copy(update={"max_step_tokens": 16, "max_running": 3, "kv_tokens": 1024})
        async with running(narrow) as slow:
            rng = random.Random(1)
            hogs = [asyncio.create_task(hog(cramped, seed)) for seed in range(3)]
            for mix in range(200):
                engine = (cramped, cramped, roomy, slow)[mix % 4]
                picked = rng.sample(range(len(requests)), rng.randrange(1, 5))
                await asyncio.gather(*(same(engine, requests[i], alone[i], rng.random(), mix) for i in picked))
    for task in hogs:
        task.cancel()
    await asyncio.gather(*hogs, return_exceptions=True)
    assert cramped.stats().preemptions > 20  # else little was tried


async def hog(engine: Engine, seed: int) -> None:
    """Long answers that nobody waits for: they lose their blocks to whoever comes, and take them again."""
    while True:
        await ask(engine, a_prompt(100, seed), replace(FREE, max_tokens=100), priority=50)


async def same(engine: Engine, request: Any, expected: Any, chance: float, mix: int) -> None:
    """Ask a little later, sometimes with a draft that is half right, and compare bit by bit."""
    await asyncio.sleep(chance * 0.02)
    if mix % 3 == 0:
        answer = expected[0]
        request = replace(request, draft_token_ids=(*answer[: len(answer) // 2], 999, *answer[len(answer) // 2 :]))
    events = await collect(engine, request)
    assert (tokens(events), logprobs(events)) == expected


async def test_ten_times_more_work_than_blocks(cramped: Engine) -> None:
    """Everything finishes, nothing repeats, and the blocks are all there afterwards."""
    asks = [a_request(a_prompt(60, seed), replace(FREE, max_tokens=40), f"w{seed}") for seed in range(60)]
    answers = await asyncio.gather(*(collect(cramped, each) for each in asks))
    assert [usage(events).output_tokens for events in answers] == [40] * 60
    assert all(len(tokens(events)) == 40 for events in answers)
    await settled(cramped)


async def test_a_prefix_is_read_once(engine: Engine) -> None:
    ids = a_prompt(400, seed=50)
    first, second = await ask(engine, ids), await ask(engine, (*ids, 400, 401))
    assert usage(first).cached_tokens == 0
    assert usage(second).cached_tokens == 400
    other = await ask(engine, ids, salt="someone else")
    assert usage(other).cached_tokens == 0
    assert tokens(other) == tokens(first)


async def test_drafts_change_the_pace_and_not_the_text(engine: Engine) -> None:
    ids, params = a_prompt(30, seed=60), replace(FREE, max_tokens=40)
    plain = await ask(engine, ids, params)
    before = engine.instruments.total.steps
    guessed = await ask(engine, ids, params, draft_token_ids=tuple(tokens(plain)))
    steps = engine.instruments.total.steps - before
    assert tokens(guessed) == tokens(plain)
    assert usage(guessed).accepted_draft_tokens > 30
    assert steps < 15  # instead of 40
    wrong = await ask(engine, ids, params, draft_token_ids=(*tokens(plain)[:5], *range(500, 540), 10**6, -1))
    assert tokens(wrong) == tokens(plain)
    assert usage(wrong).rejected_draft_tokens > 0


async def test_the_rest_of_a_draft_stays_useful(engine: Engine) -> None:
    """The first word is wrong, the rest is right: look-up finds its place again."""
    ids, params = a_prompt(30, seed=61), replace(FREE, max_tokens=40)
    plain = tokens(await ask(engine, ids, params))
    guessed = await ask(engine, ids, params, draft_token_ids=(777, 778, *plain))
    assert tokens(guessed) == plain
    assert usage(guessed).accepted_draft_tokens > 20


async def test_a_seed_gives_one_text(engine: Engine) -> None:
    ids, params = a_prompt(20, seed=70), SamplingParams(20, temperature=3.0, seed=11, ignore_eos=True)
    first = tokens(await ask(engine, ids, params))
    others = await asyncio.gather(*(ask(engine, ids, replace(params, seed=seed)) for seed in (11, 12, 13)))
    assert tokens(others[0]) == first
    assert len({tuple(tokens(each)) for each in others}) == 3


async def test_stop_strings_and_ids(engine: Engine) -> None:
    ids, params = a_prompt(20, seed=71), replace(FREE, max_tokens=30)
    events = await ask(engine, ids, params)
    said, answer = text(events), tokens(events)
    stop = said[len(said) // 2 : len(said) // 2 + 3]
    cut = await ask(engine, ids, replace(params, stop=(stop,)))
    assert text(cut) == said[: said.index(stop)]
    assert isinstance(cut[-1], Finished)
    assert cut[-1].reason is FinishReason.STOP
    by_id = await ask(engine, ids, replace(params, stop_token_ids=(answer[5],)))
    assert tokens(by_id) == answer[: answer.index(answer[5])]
    later = await ask(engine, ids, replace(params, stop_token_ids=(answer[5],), min_tokens=8))
    assert len(tokens(later)) >= 8


async def test_guided_answers_are_in_shape(engine: Engine) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9, "minimum": 0}},
              "required": ["n"], "additionalProperties": False}  # fmt: skip
    guide = Guide(GuideKind.JSON_SCHEMA, json.dumps(schema))
    answers = await asyncio.gather(
        *(
            ask(engine, a_prompt(12, seed), SamplingParams(64, guide=guide, seed=seed, temperature=0.7))
            for seed in range(4)
        ),
        ask(engine, a_prompt(12, 5), SamplingParams(16, guide=Guide(GuideKind.CHOICE, '["yes", "no"]'), seed=1)),
    )
    for events in answers[:4]:
        said = json.loads(text(events))
        assert list(said) == ["n"]
        assert 0 <= said["n"] <= 9
    assert text(answers[4]) in ("yes", "no")


async def test_a_bad_guide_harms_nobody(engine: Engine) -> None:
    neighbour = asyncio.create_task(ask(engine, a_prompt(20, 1), replace(FREE, max_tokens=30)))
    bad = await ask(engine, a_prompt(5), replace(GREEDY, guide=Guide(GuideKind.REGEX, "(unclosed")))
    assert fault_reason(bad)
    assert usage(await neighbour).output_tokens == 30


async def test_leaving_frees_the_blocks(engine: Engine) -> None:
    streams = [engine.submit(a_request(a_prompt(200, i), replace(FREE, max_tokens=4000), f"l{i}")) for i in range(6)]
    for stream in streams:
        assert isinstance(await anext(stream), TokenEvent)
    assert engine.load().running == 6
    for stream in streams:
        await stream.aclose()
    await settled(engine)


async def test_abort_deadline_and_refusals(engine: Engine) -> None:
    async with aclosing(engine.submit(a_request(a_prompt(9), replace(FREE, max_tokens=4000), "x"))) as stream:
        await anext(stream)
        engine.abort("x")  # type: ignore[arg-type]
        rest = [event async for event in stream]
    assert fault_reason(rest) == "aborted"
    late = await ask(engine, a_prompt(9), replace(FREE, max_tokens=8000), timeout_s=0.05)
    assert fault_reason(late) == "deadline_exceeded"
    assert fault_reason(await ask(engine, a_prompt(8192))) == "context_length_exceeded"
    assert fault_reason(await ask(engine, ())) == "context_length_exceeded"
    bias = replace(GREEDY, logit_bias=((99_999, 1.0),))
    assert fault_reason(await ask(engine, a_prompt(3), bias)) == "invalid_value"
    await settled(engine)


async def test_too_many_are_refused(engine: Engine) -> None:
    config = EngineConfig(max_running=1, max_waiting=1, kv_tokens=512, max_step_tokens=64)
    async with running(config) as small:
        tasks = [asyncio.create_task(ask(small, a_prompt(9, i), replace(FREE, max_tokens=300))) for i in range(2)]
        async with asyncio.timeout(5):
            while small.load().running + small.load().waiting < 2:
                await asyncio.sleep(0.005)
        assert fault_reason(await ask(small, a_prompt(9))) == "overloaded"
        for task in tasks:
            task.cancel()


async def test_closing_ends_what_runs() -> None:
    async with running() as made:
        task = asyncio.create_task(ask(made, a_prompt(9), replace(FREE, max_tokens=8000)))
        await asyncio.sleep(0.1)
        await made.close()
        assert fault_reason(await task) == "replica_lost"
        assert not made.healthy()


def a_copy(folder: Path, **changes: object) -> Path:
    """The checkpoint with other words in its config, whose manifest nobody asks here."""
    shutil.copytree(FOLDER, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


@pytest.mark.parametrize(
    "change",
    [{"query_pre_attn_scalar": 32}, {"attn_logit_softcapping": None}, {"sliding_window": 255}, {"rms_norm_eps": 1e-2},
     {"final_logit_softcapping": 29.0}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
async def test_the_gate_keeps_wrong_numbers_out(tmp_path: Path, change: dict[str, object]) -> None:
    """And says by how much."""
    engine = Engine(a_copy(tmp_path / "copy", **change), CONFIG)
    with pytest.raises(CheckpointError, match=r"logits differ by [0-9.e+-]+, 0.001 is allowed in fp32"):
        await engine.start()
    await engine.close()


async def test_the_gate_says_how_near_it_was(engine: Engine) -> None:
    assert engine.logit_difference is not None
    assert engine.logit_difference < 1e-4
