"""Several choices of one request: seeds, indices, usage, and what happens when one of them fails or the client goes."""

import json
from dataclasses import replace

import openai
import pytest
from grpc.aio import AioRpcError

from model.errors import Code, Fault
from model.request import RequestId
from serving.rpc.gen.gemmule.v1 import gemmule_pb2 as pb
from tests.contract.faces import CHAT, Faces, a_message
from tests.fakes.router import Script

TEXT = {"model": "auto", "prompt": "hi"}
MANY = {"n": 3, "seed": 7}
ANSWERS = [f"Hello there #{seed}" for seed in (7, 8, 9)]


@pytest.fixture
async def client(faces: Faces):  # noqa: ANN201
    async with openai.AsyncOpenAI(base_url=faces.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_choices_by_index(faces: Faces, client: openai.AsyncOpenAI) -> None:
    faces.script(Script(cached_tokens=5))
    answer = await client.chat.completions.create(**{**CHAT, "model": "auto"}, **MANY)
    assert [(choice.index, choice.message.content) for choice in answer.choices] == list(enumerate(ANSWERS))
    assert answer.usage.completion_tokens == 12
    assert answer.usage.prompt_tokens == len(faces.router.submitted[0].prompt_token_ids)
    assert answer.usage.prompt_tokens_details.cached_tokens == 5
    text = await client.completions.create(**TEXT, **MANY, best_of=3, echo=True)
    assert [choice.text for choice in text.choices] == ["hi" + answer for answer in ANSWERS]


async def test_generations_differ_by_id_and_seed_and_follow_the_first(faces: Faces) -> None:
    answer = await faces.http.post("/v1/completions", json={**TEXT, **MANY})
    asked, facts = faces.router.submitted, faces.router.facts
    assert [request.request_id for request in asked] == [f"{answer.json()['id']}-{index}" for index in range(3)]
    assert [request.sampling.seed for request in asked] == [7, 8, 9]
    same = {
        replace(one, request_id=RequestId(""), timeout_s=0, sampling=replace(one.sampling, seed=0)) for one in asked
    }
    assert len(same) == 1
    assert asked[0].timeout_s >= asked[2].timeout_s
    assert [fact.size for fact in facts] == [None, "9b", "9b"]  # a tier chooses once
    assert answer.json()["gemmule"]["reason"] == "cheapest"


async def test_the_largest_seed_goes_on_with_the_least(faces: Faces) -> None:
    await faces.http.post("/v1/completions", json={**TEXT, "n": 2, "seed": 2**63 - 1})
    assert [request.sampling.seed for request in faces.router.submitted] == [2**63 - 1, -(2**63)]


async def test_streamed_choices_are_interleaved(faces: Faces, client: openai.AsyncOpenAI) -> None:
    faces.script(Script(wait_s=0.01))
    options = {"include_usage": True}
    stream = await client.chat.completions.create(**CHAT, **MANY, stream=True, stream_options=options)
    *chunks, usage = [chunk async for chunk in stream]
    texts, ends, order = ["", "", ""], {}, []
    for chunk in chunks:
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        order.append(choice.index)
        if choice.finish_reason:
            ends[choice.index] = choice.finish_reason
    assert texts == ANSWERS
    assert ends == {0: "stop", 1: "stop", 2: "stop"}
    assert order != sorted(order)
    assert (usage.choices, usage.usage.completion_tokens) == ([], 12)
    assert [chunk.choices[0].delta.role for chunk in chunks[:3]] == ["assistant"] * 3


async def test_choices_over_grpc(faces: Faces) -> None:
    request = a_message(n=3, sampling=pb.Sampling(seed=7))
    first, *chunks, last = [message async for message in faces.grpc.Generate(request)]
    assert first.HasField("started")
    texts = ["".join(m.chunk.text for m in chunks if m.chunk.index == index) for index in range(3)]
    assert texts == ANSWERS
    ended = [m.chunk.index for m in chunks if m.chunk.finish_reason == pb.FINISH_REASON_STOP]
    assert sorted(ended) == [0, 1, 2]
    assert last.finished.usage.output_tokens == 12


async def test_leaving_ends_all(faces: Faces) -> None:
    faces.script(Script(forever=True))
    async with faces.http.stream("POST", "/v1/chat/completions", json={**CHAT, "n": 3, "stream": True}) as answer:
        async for line in answer.aiter_lines():
            if len(faces.router.submitted) == 3 and "Hel" in line:
                break
    await faces.settle(3)
    faces.router.closed.clear()
    call = faces.grpc.Generate(a_message(n=3))
    await call.read()
    await call.read()
    call.cancel()
    await faces.settle(len(faces.router.submitted) - 3)


async def test_one_that_fails_fails_all(faces: Faces) -> None:
    faces.script(Script(fail=Fault(Code.REPLICA_LOST, "gone", "replica_lost")))
    plain = await faces.http.post("/v1/chat/completions", json={**CHAT, "n": 3})
    assert plain.json()["error"]["code"] == "replica_lost"
    streamed = await faces.http.post("/v1/chat/completions", json={**CHAT, "n": 3, "stream": True})
    assert json.loads(streamed.text.strip().rpartition("data: ")[2])["error"]["code"] == "replica_lost"
    with pytest.raises(AioRpcError):
        [message async for message in faces.grpc.Generate(a_message(n=3))]
