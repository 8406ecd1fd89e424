"""Bad requests over both faces: same code, field and message; no engine is called; the next chat is answered."""

import json
from collections.abc import AsyncIterator

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from serving.rpc.gen.gemmule.v1 import gemmule_pb2 as pb
from tests.contract.bad import INFINITY, LONG, NAN, TEXT, Bad, chat, fields_of, one, refused, sampled, turns
from tests.contract.bad_fields import COMPLETED, SAMPLED, SHAPED
from tests.contract.faces import CHAT, MAX_BYTES, Faces, a_message

USER, ASSISTANT, SYSTEM = pb.ROLE_USER, pb.ROLE_ASSISTANT, pb.ROLE_SYSTEM
FITS = "1" * 8000
NOT_FOUND = {"status": 404, "grpc": StatusCode.NOT_FOUND}
IMAGE = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x"}}]

TABLE: dict[str, Bad] = {
    "1 model missing": Bad(
        "missing_required_parameter", "model", {"model": ...}, pb.GenerateRequest(chat=turns((USER, "hi")))
    ),
    **{
        f"2 3 model {name[:20]!r}": Bad("model_not_found", "model", {"model": name}, a_message(model=name), **NOT_FOUND)
        for name in ("gpt-4o", "", "2B", "x" * 10_000, "../../etc/passwd", "file:///x", "hf://a/b", "2b:../x")
    },
    "4 no messages": Bad("missing_required_parameter", "messages", {"messages": ...}, pb.GenerateRequest(model="2b")),
    "4 empty messages": Bad("empty_array", "messages", {"messages": []}, chat()),
    "5 messages a string": Bad("invalid_type", "messages", {"messages": "hi"}),
    "5 content a number": Bad("invalid_type", "messages[0].content", one(5)),
    "5 stream a word": Bad("invalid_type", "stream", {"stream": "yes"}),
    "6 role unknown": Bad("invalid_value", "messages[0].role", one("hi", role="99"), chat((99, "hi"))),
    "6 role missing": Bad(
        "invalid_value", "messages[0].role", {"messages": [{"content": "hi"}]}, chat((pb.ROLE_UNSPECIFIED, "hi"))
    ),
    "8 system alone": Bad("invalid_value", "messages[0].role", one("hi", role="system"), chat((SYSTEM, "hi"))),
    "9 tool without a call": Bad("invalid_value", "messages[0].tool_call_id", one("x", role="tool", tool_call_id="y")),
    "11 assistant first": Bad(
        "invalid_value", "messages[0].role", one("hi", role="assistant"), chat((ASSISTANT, "hi"))
    ),
    "11 assistant last": Bad(
        "invalid_value",
        "messages[1].role",
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        chat((USER, "a"), (ASSISTANT, "b")),
    ),
    "13 image": Bad("unsupported_value", "messages[0].content[1].type", one(IMAGE)),
    "14 long prompt": Bad("context_length_exceeded", "messages", one(LONG), chat((USER, LONG))),
    "14 a bit too long": Bad("context_length_exceeded", "messages", one(FITS + FITS), chat((USER, FITS + FITS))),
    "15 prompt and max_tokens": Bad(
        "context_length_exceeded",
        "max_tokens",
        {**one(FITS), "max_tokens": 500},
        pb.GenerateRequest(model="2b", chat=turns((USER, FITS)), sampling=pb.Sampling(max_tokens=500)),
    ),
    "16 max_tokens 0": Bad("integer_below_min_value", "max_tokens", {"max_tokens": 0}, sampled(max_tokens=0)),
    "16 max_tokens -1": Bad("integer_below_min_value", "max_tokens", {"max_tokens": -1}, sampled(max_tokens=-1)),
    "16 max_tokens 2^31": Bad(
        "integer_above_max_value", "max_tokens", {"max_tokens": 2**31}, sampled(max_tokens=2**31)
    ),
    "16 max_tokens 2^63": Bad("integer_above_max_value", "max_tokens", {"max_tokens": 2**63}),
    "16 max_tokens 1.5": Bad("invalid_type", "max_tokens", {"max_tokens": 1.5}),
    "16 max_tokens a string": Bad("invalid_type", "max_tokens", {"max_tokens": "5"}),
    "16 max_tokens true": Bad("invalid_type", "max_tokens", {"max_tokens": True}),
    "16 two limits": Bad("invalid_value", "max_tokens", {"max_tokens": 5, "max_completion_tokens": 6}),
    "17 temperature low": Bad(
        "decimal_below_min_value", "temperature", {"temperature": -0.1}, sampled(temperature=-0.1)
    ),
    "17 temperature high": Bad(
        "decimal_above_max_value", "temperature", {"temperature": 2.01}, sampled(temperature=2.01)
    ),
    "18 temperature nan": Bad("invalid_value", "temperature", None, sampled(temperature=NAN)),
    "18 top_p infinite": Bad("invalid_value", "top_p", None, sampled(top_p=INFINITY)),
    "19 top_p low": Bad("decimal_below_min_value", "top_p", {"top_p": -0.1}, sampled(top_p=-0.1)),
    "19 top_p high": Bad("decimal_above_max_value", "top_p", {"top_p": 1.01}, sampled(top_p=1.01)),
    "19 top_k -2": Bad("integer_below_min_value", "top_k", {"top_k": -2}, sampled(top_k=-2)),
    "22 stop empty": Bad("invalid_value", "stop[0]", {"stop": ""}, sampled(stop=[""])),
    "22 stop of empty": Bad("invalid_value", "stop[0]", {"stop": [""]}),
    "23 stop many": Bad("array_above_max_length", "stop", {"stop": ["a"] * 100_000}, sampled(stop=["a"] * 100_000)),
    "23 stop long": Bad(
        "string_above_max_length", "stop[0]", {"stop": "a" * 1_000_000}, sampled(stop=["a" * 1_000_000])
    ),
    "24 id too large": Bad(
        "invalid_value",
        "prompt_token_ids[1]",
        {"prompt": ..., "prompt_token_ids": [2, 256_000]},
        pb.GenerateRequest(model="2b", prompt_token_ids=pb.TokenIds(ids=[2, 256_000])),
        path="/v1/completions",
        base=TEXT,
    ),
    "24 id negative": Bad("invalid_value", "prompt[0]", {"prompt": [-1]}, path="/v1/completions", base=TEXT),
    "24 no ids": Bad(
        "empty_array",
        "prompt_token_ids",
        {"prompt": ..., "prompt_token_ids": []},
        pb.GenerateRequest(model="2b", prompt_token_ids=pb.TokenIds()),
        path="/v1/completions",
        base=TEXT,
    ),
    "32 surrogate in content": Bad("invalid_value", "messages[0].content", one("\ud800")),
    "32 surrogate in stop": Bad("invalid_value", "stop[0]", {"stop": "\ud800"}),
    "32 surrogate in user": Bad("invalid_value", "user", {"user": "\ud800"}),
    "33 NUL in user": Bad("invalid_value", "user", {"user": "a\0"}, a_message(user="a\0")),
    "33 NUL in metadata": Bad(
        "invalid_value", "metadata.a", {"metadata": {"a": "\0"}}, a_message(metadata={"a": "\0"})
    ),
    "33 NUL in stop": Bad("invalid_value", "stop[0]", {"stop": "\0"}, sampled(stop=["\0"])),
    "48 deadline 0": Bad("integer_below_min_value", "deadline_ms", {"deadline_ms": 0}, a_message(deadline_ms=0)),
    "48 deadline -1": Bad("integer_below_min_value", "deadline_ms", {"deadline_ms": -1}, a_message(deadline_ms=-1)),
    "59 stream_options alone": Bad("invalid_value", "stream_options", {"stream_options": {"include_usage": True}}),
    "unknown name": Bad("unknown_parameter", "temprature", {"temprature": 1}),
    "unknown name in a turn": Bad("unknown_parameter", "messages[0].contents", one("hi", contents="x")),
    "metadata, 17 pairs": Bad(
        "object_above_max_properties",
        "metadata",
        {"metadata": {str(n): "" for n in range(17)}},
        a_message(metadata={str(n): "" for n in range(17)}),
    ),
    "user, 257 characters": Bad("string_above_max_length", "user", {"user": "u" * 257}, a_message(user="u" * 257)),
    "two prompts": Bad("array_above_max_length", "prompt", {"prompt": ["a", "b"]}, path="/v1/completions", base=TEXT),
    **{f"{name} of a sampling field": row for name, row in SAMPLED.items()},
    **{f"{name} of a shape": row for name, row in SHAPED.items()},
    **{f"{name} of a completion": row for name, row in COMPLETED.items()},
    **{
        f"21 50 61 {name}": refused(name, value)
        for name, value in {
            "best_of": 2, "tools": [{}], "suffix": "x", "echo": True, "audio": {}, "modalities": ["audio"],
            "store": True, "web_search_options": {}, "functions": [{}], "reasoning_effort": "high",
            "prompt_logprobs": 1,
        }.items()
    },
}  # fmt: skip


async def a_normal_chat_is_answered(faces: Faces) -> None:
    before = len(faces.router.submitted)
    answer = await faces.http.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "Hello there"
    assert len(faces.router.submitted) == before + 1


@pytest.mark.parametrize("name", TABLE)
async def test_bad_input_is_refused_by_name_on_both_faces(faces: Faces, name: str) -> None:
    row, messages = TABLE[name], set()
    if row.rest is not None:
        body = {key: value for key, value in {**row.base, **row.rest}.items() if value is not ...}
        sent = json.dumps(body).encode()  # escapes surrogates, as a client would
        answer = await faces.http.post(row.path, content=sent, headers={"content-type": "application/json"})
        error = answer.json()["error"]
        expected = (row.status, "invalid_request_error", row.code, row.param)
        assert (answer.status_code, error["type"], error["code"], error["param"]) == expected
        assert answer.headers["x-request-id"].startswith("req-")
        assert len(error["message"]) < 400
        messages.add(error["message"])
    if row.rpc is not None:
        with pytest.raises(AioRpcError) as caught:
            [item async for item in faces.grpc.Generate(row.rpc)]
        assert caught.value.code() is row.grpc
        assert fields_of(caught.value) == (row.code.upper(), row.param)
        messages.add(caught.value.details())
    assert len(messages) == 1
    assert messages.pop().startswith(f"{row.param}: ")
    assert faces.router.submitted == []
    await a_normal_chat_is_answered(faces)


JSON = {"content-type": "application/json"}
RAW: dict[str, tuple[bytes, dict[str, str], int, str, str]] = {
    "18 NaN": (b'{"model":"2b","temperature":NaN}', JSON, 400, "invalid_json", "NaN"),
    "18 -Infinity": (b'{"temperature":-Infinity}', JSON, 400, "invalid_json", "Infinity"),
    "18 1e999": (b'{"temperature":1e999}', JSON, 400, "invalid_json", "1e999"),
    "31 not UTF-8": (b'{"model":"\xff"}', JSON, 400, "invalid_json", "UTF-8"),
    "35 key twice": (b'{"model":"2b","messages":[{"role":"user","role":"x"}]}', JSON, 400, "invalid_json", "'role'"),
    "36 not JSON": (b"hello", JSON, 400, "invalid_json", "line 1"),
    "36 empty": (b"", JSON, 400, "invalid_json", "line 1"),
    "36 trailing bytes": (b"{} {}", JSON, 400, "invalid_json", "Extra data"),
    "36 array": (b"[]", JSON, 400, "invalid_type", "an array"),
    "36 null": (b"null", JSON, 400, "invalid_type", "null"),
    "27 deep": (b"[" * 65 + b"]" * 65, JSON, 400, "invalid_json", "64"),
    "27 very deep": (b"[" * 100_000, JSON, 400, "invalid_json", "64"),
    "digits": (b'{"max_tokens":' + b"9" * 33 + b"}", JSON, 400, "invalid_json", "33 digits"),
    "37 no type": (b"{}", {}, 415, "unsupported_media_type", "application/json"),
    "37 text": (b"{}", {"content-type": "text/plain"}, 415, "unsupported_media_type", "text/plain"),
    "37 form": (b"{}", {"content-type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type", "form"),
    "39 gzip": (b"\x1f\x8b", {**JSON, "content-encoding": "gzip"}, 415, "unsupported_media_type", "gzip"),
    "38 large": (b" " * (MAX_BYTES + 1), JSON, 413, "request_too_large", str(MAX_BYTES)),
}


@pytest.mark.parametrize("name", RAW)
async def test_bytes_that_are_no_request_are_refused(faces: Faces, name: str) -> None:
    content, headers, status, code, word = RAW[name]
    answer = await faces.http.post("/v1/chat/completions", content=content, headers=headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert word in error["message"]
    assert faces.router.submitted == []
    await a_normal_chat_is_answered(faces)


async def test_a_large_body_without_length_is_refused_while_it_is_read(faces: Faces) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 4 * MAX_BYTES:
            sent += 65_536
            yield b" " * 65_536

    answer = await faces.http.post("/v1/chat/completions", content=endless(), headers=JSON)
    assert answer.json()["error"]["code"] == "request_too_large"
    await a_normal_chat_is_answered(faces)


async def test_a_large_message_is_refused(faces: Faces) -> None:
    with pytest.raises(AioRpcError) as caught:
        [item async for item in faces.grpc.Generate(chat((USER, "a" * (MAX_BYTES + 1))))]
    assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
    assert faces.router.submitted == []
    await a_normal_chat_is_answered(faces)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("POST", "/v1/embeddings", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/gpt-4o", 404, "model_not_found"),
        ("GET", "/v1/models/%2e%2e%2fetc", 404, "model_not_found"),
    ],
)
async def test_addresses_that_are_not_there(faces: Faces, method: str, path: str, status: int, code: str) -> None:
    answer = await faces.http.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert ("allow" in answer.headers) == (status == 405)


async def test_what_asks_for_nothing_is_accepted(faces: Faces) -> None:
    nothing = {
        "n": 1, "seed": None, "logprobs": False, "top_logprobs": 0, "best_of": 1, "echo": False,
        "prediction": None, "guided_json": None, "priority": 0, "prompt_lookup": False, "logit_bias": {},
        "presence_penalty": 0,
        "frequency_penalty": 0.0, "response_format": {"type": "text"}, "tools": [], "tool_choice": "none",
        "store": False, "user": "u", "metadata": {"a": "b"}, "safety_identifier": "s", "prompt_cache_key": "k",
        "stop": [], "max_tokens": None, "stream_options": None, "modalities": ["text"], "reasoning_effort": "none",
    }  # fmt: skip
    answer = await faces.http.post("/v1/chat/completions", json={**CHAT, **nothing})
    assert answer.status_code == 200


async def test_unusual_input_that_is_fine_is_answered(faces: Faces) -> None:
    for temperature, top_p in ((1e-9, 1), (1, 0)):
        answer = await faces.http.post(
            "/v1/chat/completions", json={**CHAT, "temperature": temperature, "top_p": top_p}
        )
        assert answer.status_code == 200
        assert faces.router.submitted[-1].sampling.temperature == 0
    for content in ("a\0b", "<start_of_turn>model", ""):
        assert (await faces.http.post("/v1/chat/completions", json={**CHAT, **one(content)})).status_code == 200


async def test_text_parts_are_one_text(faces: Faces) -> None:
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "12 + 30?"}]
    await faces.http.post("/v1/chat/completions", json={**CHAT, **one(parts)})
    await faces.http.post("/v1/chat/completions", json={**CHAT, **one("What is 12 + 30?")})
    first, second = faces.router.submitted
    assert first.prompt_token_ids == second.prompt_token_ids
