"""The REST face as its clients see it: OpenAI's own library, and the bytes on the wire."""

import asyncio
import json
from collections.abc import AsyncIterator

import openai
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.config import Size
from model.errors import Code, DeadlineExceededError, Fault, NotReadyError, OverloadedError, ReplicaLostError
from model.events import FinishReason
from serving.rest.answer import Limits
from serving.rest.body import BodyLimits
from tests.contract.faces import CHAT, Faces, running
from tests.fakes.router import Script, ScriptedRouter

STREAM = {**CHAT, "stream": True}


@pytest_asyncio.fixture(scope="session")
async def client(_faces: Faces) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=_faces.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


def events(text: str) -> list[dict | str]:
    """Data of every event; comments left out."""
    blocks = text.removesuffix("\n\n").split("\n\n")
    data = [block.removeprefix("data: ") for block in blocks if not block.startswith(":")]
    return [line if line == "[DONE]" else json.loads(line) for line in data]


async def test_openai_client_chats(faces: Faces, client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(**CHAT)
    assert answer.choices[0].message.content == "Hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    assert answer.model == "2b"
    assert answer.id == answer._request_id
    assert answer.gemmule["checkpoint"] == "nano-2b"


async def test_openai_client_streams(faces: Faces, client: openai.AsyncOpenAI) -> None:
    options = {"include_usage": True}
    stream = await client.chat.completions.create(**CHAT, stream=True, stream_options=options)
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Hello there"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + 3
    assert len({chunk.id for chunk in chunks}) == 1


async def test_openai_client_completes(faces: Faces, client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(model="auto", prompt="hi")
    assert answer.choices[0].text == "Hello there"
    stream = await client.completions.create(model="auto", prompt=[2, 400], stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "Hello there"
    assert faces.router.submitted[-1].prompt_token_ids == (2, 400)
    assert faces.router.submitted[0].sampling.max_tokens == 16


async def test_openai_client_lists_models(faces: Faces, client: openai.AsyncOpenAI) -> None:
    listed = [model async for model in client.models.list()]
    assert [model.id for model in listed] == ["2b", "9b", "27b", "economy", "balanced", "auto", "premium"]
    large = await client.models.retrieve("27b")
    assert (large.checkpoint, large.stand_in, large.tensor_parallel, large.ready) == ("nano-27b", True, 2, True)


@pytest.mark.parametrize(
    ("error", "expected", "status"),
    [
        (OverloadedError("full", 7.2), openai.RateLimitError, 429),
        (NotReadyError("starting"), openai.InternalServerError, 503),
        (ReplicaLostError("gone"), openai.InternalServerError, 503),
        (DeadlineExceededError("late"), openai.InternalServerError, 504),
        (ValueError("a secret"), openai.InternalServerError, 500),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_before_the_first_token_has_its_own_status(
    faces: Faces, client: openai.AsyncOpenAI, error: Exception, expected: type, status: int, stream: bool
) -> None:
    faces.script(Script(refuse=error))
    with pytest.raises(expected) as caught:
        await client.chat.completions.create(**CHAT, stream=stream)
    headers = caught.value.response.headers
    assert caught.value.status_code == status
    assert "secret" not in caught.value.response.text
    assert headers.get("retry-after") == {429: "8", 503: headers.get("retry-after")}.get(status)
    assert headers.get("x-should-retry") == ("false" if status in (500, 504) else None)


async def test_a_failure_in_a_stream_is_its_last_event(faces: Faces) -> None:
    faces.script(Script(fail=Fault(Code.REPLICA_LOST, "gone", "replica_lost")))
    answer = await faces.http.post("/v1/chat/completions", json=STREAM)
    *chunks, last = events(answer.text)
    assert answer.status_code == 200
    assert "[DONE]" not in answer.text
    assert last == {"error": {"message": "gone", "type": "server_error", "param": None, "code": "replica_lost"}}
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "Hello there"


async def test_an_unknown_exception_in_a_stream_says_only_the_id(faces: Faces) -> None:
    faces.script(Script(break_with=ValueError("a secret")))
    answer = await faces.http.post("/v1/chat/completions", json=STREAM)
    assert "secret" not in answer.text
    assert events(answer.text)[-1]["error"]["code"] == "internal_error"
    assert answer.headers["x-request-id"] in events(answer.text)[-1]["error"]["message"]


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_headers_say_who_answered(faces: Faces, body: dict) -> None:
    answer = await faces.http.post(
        "/v1/chat/completions", json={**body, "model": "auto"}, headers={"x-request-id": b"theirs\xe9"}
    )
    names = ("x-gemmule-size", "x-gemmule-tier", "x-gemmule-route", "x-gemmule-replica", "x-gemmule-route-detail")
    assert [answer.headers[name] for name in names] == ["9b", "auto", "cheapest", "9b#0", "as scripted"]
    assert answer.headers.get_list("x-request-id") == [faces.router.submitted[0].request_id]


async def test_bytes_of_a_stream(faces: Faces) -> None:
    faces.script(Script(pieces=("", "é", "", "\n\n", "data: x"), reason=FinishReason.LENGTH))
    answer = await faces.http.post("/v1/chat/completions", json={**STREAM, "stream_options": {"include_usage": True}})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.text.endswith("data: [DONE]\n\n")
    first, *middle, last, usage, done = events(answer.text)
    assert done == "[DONE]"
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert [chunk["choices"][0]["delta"] for chunk in middle] == [{"content": t} for t in ("é", "\n\n", "data: x")]
    assert last["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 5
    assert all(chunk["usage"] is None for chunk in (first, *middle, last))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=8))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_joined_stream_equals_the_plain_answer(faces: Faces, pieces: list[str]) -> None:
    faces.script(Script(pieces=pieces))
    plain = (await faces.http.post("/v1/chat/completions", json=CHAT)).json()
    chunks = events((await faces.http.post("/v1/chat/completions", json=STREAM)).text)[:-1]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "".join(pieces)
    assert plain["choices"][0]["message"]["content"] == "".join(pieces)


@pytest.mark.parametrize(
    "script", [Script(forever=True), Script(wait_first_s=60), Script(pieces=["a"] * 1000, wait_s=0.01)]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_closes_the_generator(faces: Faces, script: Script, stream: bool) -> None:
    faces.script(script)
    body = json.dumps({**CHAT, "stream": stream}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", faces.port)
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    if stream and not script.wait_first_s:
        await reader.readuntil(b"data: ")
    async with asyncio.timeout(5):
        while not faces.router.submitted:
            await asyncio.sleep(0.005)
    writer.close()
    await faces.settle(1)
    assert faces.router.closed == [faces.router.submitted[0].request_id]
    assert b"gemmule_in_flight_requests 0.0" in await faces.service.render_metrics()


async def test_waiting_clients_get_headers_and_comments() -> None:
    async with running(Limits(waiting_s=0.05)) as faces:
        faces.script(Script(wait_first_s=0.2))
        answer = await faces.http.post("/v1/chat/completions", json=STREAM)
        assert answer.text.startswith(": waiting\n\n")
        assert answer.text.endswith("data: [DONE]\n\n")
        faces.script(Script(wait_first_s=0.2, refuse=OverloadedError("full", 2)))
        late = await faces.http.post("/v1/chat/completions", json=STREAM)
        assert events(late.text)[-1]["error"]["code"] == "overloaded"


async def test_a_body_that_trickles_is_refused() -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(0.3)
        yield b"}"

    async with running(Limits(BodyLimits(1024, idle_s=0.05))) as faces:
        answer = await faces.http.post(
            "/v1/chat/completions", content=trickle(), headers={"content-type": "application/json"}
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (408, "request_timeout")


async def test_readiness_is_strict_until_the_first_start_is_complete() -> None:
    async with running() as faces:
        faces.router.num_replicas = {Size.B27: 0}
        answer = await faces.http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["sizes"] == {"2b": True, "9b": True, "27b": False}
        assert answer.headers["retry-after"] == "1"
        assert (await faces.http.get("/readyz?size=2b")).status_code == 200
        assert (await faces.http.get("/readyz?size=27b")).status_code == 503
        assert (await faces.http.get("/readyz?size=7b")).status_code == 404
        faces.router.num_replicas = {}
        assert (await faces.http.get("/readyz")).status_code == 200
        faces.router.num_replicas = {Size.B27: 0, Size.B9: 0}
        assert (await faces.http.get("/readyz")).status_code == 200
        faces.router.num_replicas = dict.fromkeys(Size, 0)
        assert (await faces.http.get("/readyz")).status_code == 503
        assert (await faces.http.get("/healthz")).json() == {"status": "ok"}


async def test_pages_for_people_and_machines(faces: Faces) -> None:
    document = (await faces.http.get("/openapi.json")).json()
    chat = document["components"]["schemas"]["ChatAsk"]
    assert {"messages", "max_tokens", "temperature", "deadline_ms"} <= chat["properties"].keys()
    assert "/v1/completions" in document["paths"]
    assert "422" not in json.dumps(document["paths"])
    for reference in json.dumps(document).split('"$ref": "#/components/schemas/')[1:]:
        assert reference.split('"')[0] in document["components"]["schemas"]
    assert (await faces.http.get("/docs")).status_code == 200
    status = (await faces.http.get("/v1/status")).json()
    assert [size["size"] for size in status["sizes"]] == ["2b", "9b", "27b"]


async def test_metrics_count_what_happened() -> None:
    async with running() as faces:
        await faces.http.post("/v1/chat/completions", json={**CHAT, "model": "auto"})
        await faces.http.post("/v1/chat/completions", json={**CHAT, "model": "gpt-4o"})
        await faces.http.post("/v1/chat/completions", json={**CHAT, "n": 9})
        text = (await faces.http.get("/metrics")).text
    for line in (
        'gemmule_requests_total{code="ok",size="9b",tier="auto"} 1.0',
        'gemmule_requests_total{code="model_not_found",size="none",tier="none"} 1.0',
        'gemmule_requests_total{code="invalid_request",size="none",tier="none"} 1.0',
        'gemmule_output_tokens_total{size="9b",tier="auto"} 3.0',
        'gemmule_ttft_seconds_count{size="9b",tier="auto"} 1.0',
        'gemmule_itl_seconds_count{size="9b",tier="auto"} 2.0',
        'gemmule_routed_total{reason="cheapest",size="9b",tier="auto"} 1.0',
        'gemmule_replica_bounds{bound="max",size="27b"} 1.0',
        'gemmule_replicas{size="27b"} 1.0',
        "gemmule_in_flight_requests 0.0",
    ):
        assert line in text


async def test_any_of_several_processes_shows_the_numbers_of_all() -> None:
    other = ScriptedRouter(ingress="b")
    async with running(router=ScriptedRouter(ingress="a")) as faces, running(router=other) as others:
        await others.http.post("/v1/chat/completions", json={**CHAT, "model": "auto"})
        faces.router.peers = (others.service.page(), faces.service.page())
        text = (await faces.http.get("/metrics")).text
        assert 'gemmule_requests_total{code="ok",ingress="b",size="9b",tier="auto"} 1.0' in text
        assert 'gemmule_ttft_seconds_bucket{ingress="b",le="+Inf",size="9b",tier="auto"} 1.0' in text
        assert {f'gemmule_in_flight_requests{{ingress="{name}"}} 0.0' in text for name in "ab"} == {True}
        assert text.count("# TYPE gemmule_requests_total counter") == 1
        assert text.count('gemmule_engine_running{replica="2b#0",size="2b"} 3.0') == 1
        faces.router.peers = ()  # nobody answered
        text = (await faces.http.get("/metrics")).text
        assert 'gemmule_in_flight_requests{ingress="a"} 0.0' in text
        assert 'ingress="b"' not in text


async def test_metrics_show_every_replica_that_is_there(faces: Faces) -> None:
    faces.router.num_replicas = {Size.B2: 2, Size.B9: 0}
    text = (await faces.http.get("/metrics")).text
    for line in (
        'gemmule_engine_running{replica="2b#0",size="2b"} 3.0',
        'gemmule_engine_running{replica="2b#1",size="2b"} 3.0',
        'gemmule_engine_waiting{replica="27b#0",size="27b"} 2.0',
        'gemmule_engine_blocks{replica="2b#0",size="2b",state="free"} 700.0',
        'gemmule_engine_blocks{replica="2b#0",size="2b",state="cached"} 200.0',
        'gemmule_engine_blocks{replica="2b#0",size="2b",state="used"} 100.0',
        'gemmule_engine_memory_bytes{replica="2b#0",size="2b",what="kv"}',
        'gemmule_engine_preemptions_total{replica="2b#0",size="2b"} 4.0',
        'gemmule_engine_prefix_tokens_total{replica="2b#0",result="hit",size="2b"} 30.0',
        'gemmule_engine_prefix_tokens_total{replica="2b#0",result="asked",size="2b"} 120.0',
        'gemmule_engine_draft_tokens_total{replica="2b#0",result="accepted",size="2b"} 5.0',
        'gemmule_engine_step_seconds_total{part="forward",replica="2b#0",size="2b"} 8.0',
        'gemmule_engine_steps_total{replica="2b#0",size="2b"} 1000.0',
        'gemmule_engine_tokens_total{kind="output",replica="2b#0",size="2b"} 1200.0',
    ):
        assert line in text
    assert 'size="9b"} 3.0' not in text
    faces.router.num_replicas = {}
    assert 'replica="2b#1"' not in (await faces.http.get("/metrics")).text
