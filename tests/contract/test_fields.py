"""Each field that is taken reaches the engine, the same from both faces, and usage comes back."""

import json
from dataclasses import replace
from typing import Any

import openai
import pytest
from grpc.aio import AioRpcError

from model.errors import Code, Fault
from model.prompt import Prompter
from model.request import GenerationRequest, Guide, GuideKind, RequestId
from serving.asking import chat_ask
from serving.rpc.codec import ask_of
from serving.rpc.gen.gemmule.v1 import gemmule_pb2 as pb
from tests.contract.bad import fields_of
from tests.contract.faces import CHAT, TOKENIZER, Faces, a_message
from tests.fakes.router import Script

SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {}}}
WRITTEN = json.dumps(SCHEMA)
NAMED = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True, "description": "d"}}
GUIDES: dict[str, tuple[dict[str, Any], pb.GenerateRequest, Guide | None]] = {
    "text": ({"response_format": {"type": "text"}}, a_message(response_format=pb.ResponseFormat(type="text")), None),
    "object": (
        {"response_format": {"type": "json_object"}},
        a_message(response_format=pb.ResponseFormat(type="json_object")),
        Guide(GuideKind.JSON),
    ),
    "schema": (
        {"response_format": NAMED},
        a_message(
            response_format=pb.ResponseFormat(
                type="json_schema", json_schema=pb.JsonSchema(name="x", schema=WRITTEN, strict=True, description="d")
            )
        ),
        Guide(GuideKind.JSON_SCHEMA, WRITTEN),
    ),
    "json": ({"guided_json": SCHEMA}, a_message(guided_json=WRITTEN), Guide(GuideKind.JSON_SCHEMA, WRITTEN)),
    "json as text": ({"guided_json": WRITTEN}, a_message(guided_json=WRITTEN), Guide(GuideKind.JSON_SCHEMA, WRITTEN)),
    "regex": (
        {"guided_regex": "^(a+)+[^b-d]{2,9}$"},
        a_message(guided_regex="^(a+)+[^b-d]{2,9}$"),
        Guide(GuideKind.REGEX, "^(a+)+[^b-d]{2,9}$"),
    ),
    "choice": (
        {"guided_choice": ["yes", "né"]},
        a_message(guided_choice=["yes", "né"]),
        Guide(GuideKind.CHOICE, '["yes", "né"]'),
    ),
    "grammar": (
        {"guided_grammar": 'root ::= "a" b\nb ::= "b"'},
        a_message(guided_grammar='root ::= "a" b\nb ::= "b"'),
        Guide(GuideKind.GRAMMAR, 'root ::= "a" b\nb ::= "b"'),
    ),
}
SAMPLING: dict[str, Any] = {
    "min_p": 0.1,
    "presence_penalty": -2,
    "frequency_penalty": 2,
    "repetition_penalty": 1.3,
    "logit_bias": {"5": -100, "1700": 1.5},
    "min_tokens": 3,
    "ignore_eos": True,
    "stop_token_ids": [5, 6],
    "seed": -1,
}


async def both(faces: Faces, rest: dict[str, Any], rpc: pb.GenerateRequest) -> GenerationRequest:
    """The request that the engine got, the same from either face."""
    answer = await faces.http.post("/v1/chat/completions", json={**CHAT, **rest})
    assert answer.status_code == 200, answer.text
    [item async for item in faces.grpc.Generate(rpc)]
    one, two = (replace(request, request_id=RequestId(""), timeout_s=0) for request in faces.router.submitted)
    assert one == two
    return one


async def test_sampling_reaches_the_engine(faces: Faces) -> None:
    biases = {int(token_id): bias for token_id, bias in SAMPLING["logit_bias"].items()}
    got = await both(faces, SAMPLING, a_message(sampling=pb.Sampling(**{**SAMPLING, "logit_bias": biases})))
    for name, value in SAMPLING.items():
        if name == "logit_bias":
            assert dict(got.sampling.logit_bias) == biases
        else:
            assert getattr(got.sampling, name) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("name", GUIDES)
async def test_a_shape_reaches_the_engine(faces: Faces, name: str) -> None:
    rest, rpc, guide = GUIDES[name]
    assert (await both(faces, rest, rpc)).sampling.guide == guide


async def test_a_prediction_becomes_a_draft_and_comes_back_as_usage(faces: Faces) -> None:
    guess = "Hello there ☃"
    ids = Prompter(TOKENIZER).encode(guess)[1:]
    parts = [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there ☃"}]
    rest = {"prediction": {"type": "content", "content": parts}, "prompt_lookup": True, "priority": -3}
    rpc = a_message(prediction=pb.Prediction(content=guess), prompt_lookup=True, priority=-3)
    got = await both(faces, rest, rpc)
    assert (got.draft_token_ids, got.prompt_lookup, got.priority) == (ids, True, -3)
    faces.script(Script(cached_tokens=2))
    async with openai.AsyncOpenAI(base_url=faces.url + "/v1", api_key="none", max_retries=0) as client:
        answer = await client.chat.completions.create(**CHAT, prediction={"type": "content", "content": guess})
    usage = answer.usage
    details = usage.completion_tokens_details
    assert (details.accepted_prediction_tokens, details.rejected_prediction_tokens) == (3, len(ids) - 3)
    assert usage.prompt_tokens_details.cached_tokens == 2
    last = [message async for message in faces.grpc.Generate(rpc)][-1].finished.usage
    assert (last.cached_tokens, last.accepted_prediction_tokens) == (2, 3)
    assert last.rejected_prediction_tokens == len(ids) - 3


WRONG: dict[str, tuple[dict[str, Any], pb.GenerateRequest, str]] = {
    "guided_grammar": (*GUIDES["grammar"][:2], "guide"),
    "guided_json": (*GUIDES["json"][:2], "response_format"),
    "response_format.json_schema.schema": (*GUIDES["schema"][:2], "response_format"),
}


@pytest.mark.parametrize("path", WRONG)
async def test_what_an_engine_finds_wrong_with_a_guide_names_the_clients_field(faces: Faces, path: str) -> None:
    rest, rpc, engines = WRONG[path]
    faces.script(Script(fail=Fault(Code.INVALID_REQUEST, f"{engines}: no such rule: b", "invalid_guide", engines)))
    answer = await faces.http.post("/v1/chat/completions", json={**CHAT, **rest})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, path, "invalid_value")
    assert error["message"] == f"{path}: no such rule: b"
    with pytest.raises(AioRpcError) as caught:
        [item async for item in faces.grpc.Generate(rpc)]
    assert fields_of(caught.value) == ("INVALID_VALUE", path)


@pytest.mark.parametrize(("key", "session"), [({"prompt_cache_key": "user 7"}, "user 7"), ({}, "")])
async def test_a_prompt_cache_key_names_the_session(faces: Faces, key: dict[str, str], session: str) -> None:
    assert (await faces.http.post("/v1/chat/completions", json={**CHAT, **key})).status_code == 200
    (got,) = faces.router.submitted
    assert got.session == session


async def test_completions_take_the_same(faces: Faces) -> None:
    body = {"model": "2b", "prompt": "hi", **SAMPLING, "guided_regex": "a+", "priority": 10, "prompt_lookup": True}
    assert (await faces.http.post("/v1/completions", json=body)).status_code == 200
    (got,) = faces.router.submitted
    assert got.sampling.guide == Guide(GuideKind.REGEX, "a+")
    assert (got.sampling.seed, got.priority, got.prompt_lookup) == (-1, 10, True)


async def test_token_ids_come_with_the_text_when_asked_for(faces: Faces) -> None:
    ids = [(390, 473), (), (364,)]
    for path, body in (("chat/completions", CHAT), ("completions", {"model": "2b", "prompt": "hi", "echo": True})):
        faces.script(Script(pieces=("Hel", "", "lo"), ids=ids))
        plain = await faces.http.post(f"/v1/{path}", json={**body, "return_token_ids": True})
        assert plain.json()["choices"][0]["token_ids"] == [390, 473, 364]
        stream = await faces.http.post(f"/v1/{path}", json={**body, "return_token_ids": True, "stream": True})
        chunks = [json.loads(line[6:]) for line in stream.text.splitlines() if line.startswith("data: {")]
        sent = [chunk["choices"][0].get("token_ids", []) for chunk in chunks]
        assert [token_id for part in sent for token_id in part] == [390, 473, 364]
        assert "token_ids" not in (await faces.http.post(f"/v1/{path}", json=body)).json()["choices"][0]


@pytest.mark.parametrize("wanted", [None, False])
def test_a_client_keeps_its_prompt_out_from_either_face(wanted: bool | None) -> None:
    assert ask_of(a_message(store=wanted)).store is wanted
    assert chat_ask({**CHAT, "store": wanted}).store is wanted
