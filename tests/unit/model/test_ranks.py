"""Two ranks without Ray: transformers' numbers, the same in any company, and an end when one of them ends."""

import asyncio
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.config import EngineConfig, Quantization
from model.engine import Engine
from model.events import Event
from model.request import GenerationRequest, SamplingParams
from tests.unit.model.engines import (
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
    tokens,
    usage,
)
from tests.unit.model.ranks import START_S, Group, a_group, close, start

FREE = replace(GREEDY, ignore_eos=True)
PAST_THE_WINDOW = 300  # the stand-ins' window is 256
# Few blocks and small steps: chunks, queueing and preemption are the rule.
CRAMPED = EngineConfig(max_running=6, max_waiting=64, kv_tokens=512, max_step_tokens=32)


@pytest.fixture(scope="module")
def group() -> Iterator[Group]:
    with a_group(CRAMPED) as made:
        difference = made.do(start, within_s=START_S)
        assert isinstance(difference, float), difference
        assert difference < 1e-3
        yield made


@pytest.fixture(scope="module")
def oracle() -> Any:
    return an_oracle()


def test_every_prompt_position_has_the_oracles_probability(group: Group, oracle: Any) -> None:
    """Past the window, in chunks of 32."""
    ids = a_prompt(PAST_THE_WINDOW)
    events = group.do(ask, ids, replace(GREEDY, max_tokens=1, prompt_logprobs=1))
    with torch.no_grad():
        expected = oracle(torch.tensor([ids])).logits[0].log_softmax(-1)
    got = scores(events)
    assert len(got) == len(ids) - 1
    for position, score in enumerate(got):
        assert score.logprob == pytest.approx(float(expected[position, score.token_id]), abs=1e-4)


@pytest.mark.parametrize("length", [1, 17, 250, PAST_THE_WINDOW])
def test_logits_and_greedy_tokens_are_the_oracles(group: Group, oracle: Any, length: int) -> None:
    ids = a_prompt(length, seed=length)
    with torch.no_grad():
        row = oracle(torch.tensor([ids])).logits[0, -1]
        made = oracle.generate(torch.tensor([ids]), max_new_tokens=16, do_sample=False, eos_token_id=None,
                               pad_token_id=0)  # fmt: skip
    assert (torch.tensor(group.do(Engine.logits, ids)) - row).abs().max() < 1e-4
    assert tokens(group.do(ask, ids, FREE)) == made[0, length:].tolist()


def test_a_prefix_is_read_once_on_both_ranks(group: Group) -> None:
    ids = a_prompt(200, seed=50)
    first, second = group.do(ask, ids, FREE), group.do(ask, ids, FREE)
    assert usage(first).cached_tokens == 0
    assert usage(second).cached_tokens >= 176
    assert (tokens(second), logprobs(second)) == (tokens(first), logprobs(first))


def mixed_requests() -> list[GenerationRequest]:
    """Greedy and drawn, short and past the window, some with a prefix in common."""
    rng = random.Random(5)
    shared = a_prompt(280, seed=99)
    prompts = [a_prompt(length, length) for length in (3, 16, 40, 90)]
    prompts += [shared, (*shared[:272], *a_prompt(10, 7)), shared[:33]]
    return [
        a_request(ids, SamplingParams(rng.choice((4, 9, 14)), temperature=rng.choice((0.0, 0.8)), seed=index, top_k=40,
                                      logprobs=2, ignore_eos=True), f"m{index}")
        for index, ids in enumerate(prompts)
    ]  # fmt: skip


async def in_any_company(engine: Engine, mixes: int) -> tuple[list[int], int]:
    """Mixes in which an answer was not the one given alone, and how often somebody lost his blocks."""
    requests, rng = mixed_requests(), random.Random(1)

    async def answer(request: GenerationRequest, late_s: float = 0.0) -> tuple[Any, Any]:
        await asyncio.sleep(late_s)
        events = await collect(engine, request)
        return tokens(events), logprobs(events)

    async def hog(seed: int) -> None:
        while True:
            await ask(engine, a_prompt(100, seed), replace(FREE, max_tokens=100), priority=50)

    alone = [await answer(request) for request in requests]
    hogs = [asyncio.create_task(hog(seed)) for seed in range(2)]
    different = []
    for mix in range(mixes):
        picked = rng.sample(range(len(requests)), rng.randrange(1, 4))
        answers = await asyncio.gather(*(answer(requests[i], rng.random() * 0.02) for i in picked))
        if answers != [alone[i] for i in picked]:
            different.append(mix)
    for task in hogs:
        task.cancel()
    await asyncio.gather(*hogs, return_exceptions=True)
    return different, engine.stats().preemptions


def test_same_request_any_company(group: Group) -> None:
    """40 mixes of order, neighbours, chunks, cache state and preemption: equal tokens and logprobs, bit by bit."""
    different, preemptions = group.do(in_any_company, 40)
    assert different == []
    assert preemptions > 10  # else little was tried


async def lose(engine: Engine, pid: int, how: int) -> tuple[list[str], float, bool]:
    """The follower in mid-stream: how the streams end, after how long, and whether the engine is still well."""
    streams = [engine.submit(a_request(a_prompt(20, i), replace(FREE, max_tokens=400), f"l{i}")) for i in range(4)]
    for stream in streams:
        await anext(stream)

    async def rest(stream: Any) -> str:
        return fault_reason([event async for event in stream])

    os.kill(pid, how)
    began_s = time.monotonic()
    reasons = await asyncio.gather(*(rest(stream) for stream in streams))
    return reasons, time.monotonic() - began_s, engine.healthy()


def test_a_killed_rank_ends_the_requests_at_once(group: Group) -> None:
    """The last test on this group."""
    reasons, seconds, healthy = group.do(lose, group.follower_pid, signal.SIGKILL)
    assert reasons == ["replica_lost"] * 4
    assert seconds < 2
    assert not healthy
    assert fault_reason(group.do(ask, a_prompt(5))) == "not_ready"


@pytest.mark.ray  # needs none, but takes as long
@pytest.mark.parametrize("quantization", [Quantization.INT8, Quantization.INT4])
async def test_two_quantized_ranks_lose_no_more_than_one_process(oracle: Any, quantization: Quantization) -> None:
    """They lose other digits: an int8 row that is cut in two has two scales, also that of the head."""
    config = CRAMPED.model_copy(update={"quantization": quantization, "max_step_tokens": 128})
    ids, params = a_prompt(PAST_THE_WINDOW), replace(FREE, prompt_logprobs=0)
    with torch.no_grad():
        rows = oracle(torch.tensor([ids])).logits[0].log_softmax(-1)[:-1]
    expected = rows[torch.arange(len(rows)), torch.tensor(ids[1:])]

    def lost(events: list[Event]) -> float:
        got = torch.tensor([score.logprob for score in scores(events)])
        return float((got - expected).abs().mean())

    async with running(config) as one:
        lost_by_one = lost(await ask(one, ids, params))
    with a_group(config) as group:
        assert isinstance(await asyncio.to_thread(group.do, start, within_s=START_S), float)
        lost_by_two = lost(await asyncio.to_thread(group.do, ask, ids, params))
        print(f"{quantization}: one process loses {lost_by_one:.4f} nats, two ranks {lost_by_two:.4f}")
        assert 0 < lost_by_two < 1.15 * lost_by_one
        await asyncio.to_thread(how_it_ends[quantization], group)


def it_closes(group: Group) -> None:
    group.do(close)
    group.ranks[1].join(5)
    assert group.ranks[1].exitcode == 0


def it_is_stopped(group: Group) -> None:
    reasons, seconds, healthy = group.do(lose, group.follower_pid, signal.SIGSTOP)
    assert reasons == ["replica_lost"] * 4
    assert 3 < seconds < 7  # five seconds of silence, and a look each second
    assert not healthy


how_it_ends = {Quantization.INT8: it_closes, Quantization.INT4: it_is_stopped}  # a group's start is what takes long


@pytest.mark.ray
def test_a_wrong_shard_is_kept_out_and_told_by_how_much(tmp_path: Path) -> None:
    """Rank 1 reads a checkpoint in which one matrix is another."""
    folder = shutil.copytree(FOLDER, tmp_path / "wrong")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.3.mlp.down_proj.weight"] *= 1.1
    save_file(tensors, folder / "model.safetensors")
    with a_group(CRAMPED, folder) as group:
        message = group.do(start, within_s=START_S)
    assert "logits differ by " in message
    assert "0.001 is allowed in fp32; a shard is wrong" in message
