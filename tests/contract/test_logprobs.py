"""Log-probabilities on both faces: the same tokens, plain and streamed, and OpenAI's own client reads them."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import openai
import pytest
import pytest_asyncio

from model.prompt import Prompter
from serving.rpc.gen.gemmule.v1 import gemmule_pb2 as pb
from tests.contract.faces import CHAT, TOKENIZER, Faces, a_message
from tests.fakes.router import Script, scored

PROMPTER = Prompter(TOKENIZER)
ANSWER = "Hello ☃ there"
IDS = PROMPTER.encode(ANSWER)[1:]
TEXT = {"model": "2b", "prompt": "Hello there"}


@pytest_asyncio.fixture(scope="session")
async def client(_faces: Faces) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=_faces.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def spoken(faces: Faces) -> Faces:
    """An answer whose snowman's three bytes come in two events, the first without text."""
    begin = next(index for index, token_id in enumerate(IDS) if raw_of([token_id]) == b"\xe2")
    cuts = [IDS[:begin], IDS[begin : begin + 2], IDS[begin + 2 :]]
    faces.script(Script(pieces=("Hello ", "", "☃ there"), ids=cuts))
    return faces


def raw_of(ids: Sequence[int]) -> bytes:
    pieces = [PROMPTER._tokenizer.id_to_token(token_id) for token_id in ids]
    parts = [bytes.fromhex(p[3:5]) if p.startswith("<0x") else p.replace("▁", " ").encode() for p in pieces]
    return b"".join(parts)


async def test_a_chat_has_an_entry_for_each_token(spoken: Faces, client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(**CHAT, logprobs=True, top_logprobs=2)
    content = answer.choices[0].logprobs.content
    assert b"".join(bytes(entry.bytes) for entry in content).decode() == ANSWER == answer.choices[0].message.content
    assert [entry.logprob for entry in content] == [scored(token_id, 0).logprob for token_id in IDS]
    assert {len(entry.top_logprobs) for entry in content} == {2}
    assert "\\xe2" in [entry.token for entry in content]
    assert spoken.router.submitted[0].sampling.logprobs == 2


async def test_a_streamed_chat_has_the_same_entries(spoken: Faces, client: openai.AsyncOpenAI) -> None:
    plain = await client.chat.completions.create(**CHAT, logprobs=True, top_logprobs=1)
    stream = await client.chat.completions.create(**CHAT, logprobs=True, top_logprobs=1, stream=True)
    choices = [chunk.choices[0] async for chunk in stream]
    entries = [entry for choice in choices if choice.logprobs for entry in choice.logprobs.content]
    assert entries == plain.choices[0].logprobs.content
    assert choices[2].delta.content == ""  # bytes that are no text yet have log-probabilities
    assert choices[2].logprobs is not None


async def test_logprobs_without_likeliest(spoken: Faces, client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(**CHAT, logprobs=True)
    assert {len(entry.top_logprobs) for entry in answer.choices[0].logprobs.content} == {0}
    assert spoken.router.submitted[0].sampling.logprobs == 0
    silent = await client.chat.completions.create(**CHAT)
    assert silent.choices[0].logprobs is None
    assert spoken.router.submitted[1].sampling.logprobs is None


async def test_a_completion_has_four_lists(spoken: Faces, client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(**TEXT, logprobs=2)
    lists, text = answer.choices[0].logprobs, answer.choices[0].text
    assert len(lists.tokens) == len(lists.token_logprobs) == len(lists.top_logprobs) == len(lists.text_offset)
    assert "bytes:\\xe2" in lists.tokens
    for token, offset in zip(lists.tokens, lists.text_offset, strict=True):
        assert token.startswith("bytes:") or text[offset:].startswith(token)
    assert [offset for token, offset in zip(lists.tokens, lists.text_offset, strict=True) if ":" in token] == [6, 6, 6]
    assert all(token in top for token, top in zip(lists.tokens, lists.top_logprobs, strict=True))
    stream = await client.completions.create(**TEXT, logprobs=2, stream=True)
    choices = [chunk.choices[0] async for chunk in stream]
    joined = [offset for choice in choices if choice.logprobs for offset in choice.logprobs.text_offset]
    assert joined == lists.text_offset


async def test_the_token_itself_is_always_among_a_completions_likeliest(
    spoken: Faces, client: openai.AsyncOpenAI
) -> None:
    lists = (await client.completions.create(**TEXT, logprobs=0)).choices[0].logprobs
    expected = [{token: score} for token, score in zip(lists.tokens, lists.token_logprobs, strict=True)]
    assert lists.top_logprobs == expected


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("max_tokens", [0, 5])
async def test_an_echo_scores_the_prompt(
    spoken: Faces, client: openai.AsyncOpenAI, stream: bool, max_tokens: int
) -> None:
    ids = PROMPTER.encode(TEXT["prompt"])
    ask = {**TEXT, "echo": True, "logprobs": 1, "max_tokens": max_tokens}
    if stream:
        options = {"include_usage": True}
        chunks = [c async for c in await client.completions.create(**ask, stream=True, stream_options=options)]
        choices, usage = [chunk.choices[0] for chunk in chunks[:-1]], chunks[-1].usage
    else:
        answer = await client.completions.create(**ask)
        choices, usage = answer.choices, answer.usage
    tokens = [token for c in choices if c.logprobs for token in c.logprobs.tokens]
    scores = [score for c in choices if c.logprobs for score in c.logprobs.token_logprobs]
    tops = [top for c in choices if c.logprobs for top in c.logprobs.top_logprobs]
    offsets = [offset for c in choices if c.logprobs for offset in c.logprobs.text_offset]
    shown = (*ids, *IDS) if max_tokens else ids
    assert "".join(c.text for c in choices) == TEXT["prompt"] + (ANSWER if max_tokens else "")
    assert (tokens[0], scores[0], tops[0]) == ("<bos>", None, None)
    assert scores[1:] == [scored(token_id, 0).logprob for token_id in shown[1:]]
    assert offsets[len(ids) :] == ([] if not max_tokens else [11 + o for o in offsets_of_answer()])
    assert offsets[1] == 0
    assert (usage.prompt_tokens, usage.completion_tokens) == (len(ids), len(IDS) if max_tokens else 0)
    assert choices[-1].finish_reason == ("stop" if max_tokens else "length")
    sampling = spoken.router.submitted[0].sampling
    assert (sampling.prompt_logprobs, sampling.max_tokens) == (1, max(1, max_tokens))


def offsets_of_answer() -> list[int]:
    """Characters that are complete before each token."""
    return [len(raw_of(IDS[:index]).decode(errors="ignore")) for index in range(len(IDS))]


@pytest.mark.parametrize("prompt", ["Hello ☃", list(PROMPTER.encode("Hello ☃"))])
async def test_an_echo_without_scores_asks_for_none(
    faces: Faces, client: openai.AsyncOpenAI, prompt: str | list[int]
) -> None:
    answer = await client.completions.create(model="2b", prompt=prompt, echo=True)
    assert answer.choices[0].text == "Hello ☃Hello there"
    assert answer.choices[0].logprobs is None
    assert faces.router.submitted[0].sampling.prompt_logprobs is None


async def messages(faces: Faces, request: pb.GenerateRequest) -> list[pb.GenerateResponse]:
    return [message async for message in faces.grpc.Generate(request)]


async def test_both_faces_send_the_same_scores(spoken: Faces) -> None:
    sampling = pb.Sampling(logprobs=True, top_logprobs=2)
    answered = await messages(spoken, a_message(sampling=sampling))
    sent = [score for message in answered for score in message.chunk.logprobs]
    plain = await spoken.http.post("/v1/chat/completions", json={**CHAT, "logprobs": True, "top_logprobs": 2})
    content = plain.json()["choices"][0]["logprobs"]["content"]
    assert [plainly(score) for score in sent] == content
    one, two = spoken.router.submitted
    assert one.sampling == two.sampling


def plainly(score: pb.TokenLogprob | pb.TopLogprob, top: bool = True) -> dict[str, Any]:
    """A score as REST's chats write it."""
    raw = list(score.raw) if score.HasField("raw") else None
    entry: dict[str, Any] = {"token": score.token, "bytes": raw, "logprob": score.logprob}
    return entry | ({"top_logprobs": [plainly(one, False) for one in score.top_logprobs]} if top else {})


async def test_an_echo_over_grpc(spoken: Faces) -> None:
    request = pb.GenerateRequest(model="2b", prompt="Hello there", echo=True)
    request.sampling.MergeFrom(pb.Sampling(logprobs=True, max_tokens=0))
    first, echoed, end, last = await messages(spoken, request)
    ids = PROMPTER.encode("Hello there")
    assert first.HasField("started")
    assert (echoed.chunk.of_prompt, echoed.chunk.text) == (True, "Hello there")
    assert tuple(echoed.chunk.token_ids) == tuple(score.token_id for score in echoed.chunk.logprobs) == ids
    assert not echoed.chunk.logprobs[0].HasField("logprob")
    assert not echoed.chunk.logprobs[0].HasField("raw")
    assert end.chunk.finish_reason == last.finished.reason == pb.FINISH_REASON_LENGTH
    assert last.finished.usage.output_tokens == 0


@pytest.mark.parametrize("echo", [False, True])
async def test_an_engine_that_cannot_score_is_an_error_and_no_silence(faces: Faces, echo: bool) -> None:
    faces.script(Script(scores=False))
    answer = await faces.http.post("/v1/completions", json={**TEXT, "logprobs": 1, "echo": echo})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
