"""The gRPC face: messages, metadata, details, health, cancellation."""

from collections.abc import AsyncIterable
from dataclasses import fields

import grpc
import pytest
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.config import Size
from model.errors import Code, Fault, OverloadedError
from model.request import SamplingParams
from serving.ask import ChatAsk, TextAsk
from serving.rpc.gen.gemmule.v1 import gemmule_pb2 as pb
from tests.contract.faces import CHAT, Faces, a_message
from tests.fakes.router import Script

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def ended(call: AsyncIterable[pb.GenerateResponse]) -> tuple[list[pb.GenerateResponse], grpc.aio.AioRpcError]:
    """All messages of a call that fails, and its error."""
    messages: list[pb.GenerateResponse] = []
    try:
        async for message in call:
            messages.append(message)
    except grpc.aio.AioRpcError as error:
        return messages, error
    raise AssertionError("the call did not fail")


async def test_a_call_is_started_chunks_and_finished(faces: Faces) -> None:
    call = faces.grpc.Generate(a_message(model="auto"))
    first, *chunks, last = [response async for response in call]
    assert (first.started.size, first.started.tier, first.started.checkpoint) == ("9b", "auto", "nano-9b")
    assert "".join(chunk.chunk.text for chunk in chunks) == "Hello there"
    assert last.finished.reason == pb.FINISH_REASON_STOP
    assert last.finished.usage.output_tokens == 3
    assert dict(await call.trailing_metadata()) == {
        "x-request-id": first.started.request_id,
        "x-gemmule-size": "9b",
        "x-gemmule-tier": "auto",
        "x-gemmule-route": "cheapest",
        "x-gemmule-route-detail": "as scripted",
        "x-gemmule-replica": "9b#0",
        "x-gemmule-prompt-tokens": str(last.finished.usage.prompt_tokens),
        "x-gemmule-output-tokens": "3",
    }


# Options of the engine that both faces name otherwise.
NAMED_OTHERWISE = {
    "logprobs": {"logprobs", "top_logprobs"},
    "prompt_logprobs": set(),  # `echo` of the request, with logprobs
    "guide": set(),  # fields of the request
}


def test_every_sampling_option_is_on_both_faces() -> None:
    options = {name for option in fields(SamplingParams) for name in NAMED_OTHERWISE.get(option.name, {option.name})}
    assert {option.name for option in pb.Sampling.DESCRIPTOR.fields} == options
    assert options <= ChatAsk.model_fields.keys()


def test_every_field_of_a_request_is_on_both_faces() -> None:
    only_rest = {"stream", "stream_options", "safety_identifier", "prompt_cache_key", "best_of", "messages"}
    only_rest |= {"max_completion_tokens", "return_token_ids"}  # over gRPC ids always come
    ours = {field.name for field in pb.GenerateRequest.DESCRIPTOR.fields} - {"chat", "sampling"}
    both = ChatAsk.model_fields.keys() | TextAsk.model_fields.keys()
    assert ours | {field.name for field in pb.Sampling.DESCRIPTOR.fields} == both - only_rest


async def test_both_faces_ask_the_engine_for_the_same(faces: Faces) -> None:
    sampling = {"max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "stop": ["a", "b"]}
    await faces.http.post("/v1/chat/completions", json={**CHAT, **sampling})
    [item async for item in faces.grpc.Generate(a_message(sampling=pb.Sampling(**sampling)))]
    one, two = faces.router.submitted
    assert (one.prompt_token_ids, one.sampling) == (two.prompt_token_ids, two.sampling)


@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    temperature=st.floats(0, 2),
    max_tokens=st.integers(1, 4000),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_completions_are_the_same_over_both_faces(
    faces: Faces, text: str, temperature: float, max_tokens: int
) -> None:
    faces.script()
    sampling = {"temperature": temperature, "max_tokens": max_tokens}
    answer = await faces.http.post("/v1/completions", json={"model": "2b", "prompt": text, **sampling})
    assert answer.status_code == 200
    request = pb.GenerateRequest(model="2b", prompt=text, sampling=pb.Sampling(**sampling))
    [item async for item in faces.grpc.Generate(request)]
    one, two = faces.router.submitted
    assert (one.prompt_token_ids, one.sampling) == (two.prompt_token_ids, two.sampling)


async def test_a_refusal_says_when_to_come_back(faces: Faces) -> None:
    faces.script(Script(refuse=OverloadedError("every size is full", 7.2)))
    call = faces.grpc.Generate(a_message())
    messages, error = await ended(call)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    failure = pb.Failure(reason="overloaded", message="every size is full", retry_after_seconds=8)
    assert messages == [pb.GenerateResponse(failure=failure)]
    details = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"]).details
    retry = error_details_pb2.RetryInfo()
    assert details[-1].Unpack(retry)
    assert retry.retry_delay.seconds == 8


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (Script(fail=Fault(Code.REPLICA_LOST, "gone", "replica_lost")), grpc.StatusCode.UNAVAILABLE),
        (Script(break_with=ValueError("a secret")), grpc.StatusCode.INTERNAL),
    ],
)
async def test_a_failure_in_a_stream_is_the_status(faces: Faces, script: Script, code: grpc.StatusCode) -> None:
    faces.script(script)
    messages, error = await ended(faces.grpc.Generate(a_message()))
    assert "".join(message.chunk.text for message in messages) == "Hello there"
    assert error.code() is code
    assert "secret" not in error.details()


async def test_cancelling_a_call_closes_the_generator(faces: Faces) -> None:
    faces.script(Script(forever=True))
    call = faces.grpc.Generate(a_message())
    await call.read()
    call.cancel()
    await faces.settle(1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [item async for item in faces.grpc.Generate(a_message(), timeout=0.1)]
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await faces.settle(2)


async def test_models_are_listed(faces: Faces) -> None:
    models = {model.id: model for model in (await faces.grpc.ListModels(pb.ListModelsRequest())).models}
    assert models["27b"].tensor_parallel == 2
    assert models["27b"].micro_usd_per_mtoken == 1_040_000
    assert list(models["auto"].sizes) == ["2b", "9b", "27b"]


async def test_unknown_fields_are_ignored_as_protobuf_says(faces: Faces) -> None:
    strange = pb.GenerateRequest.FromString(a_message().SerializeToString() + b"\xf8\x3f\x01")
    assert [item async for item in faces.grpc.Generate(strange)][-1].HasField("finished")


async def test_health_follows_the_sizes(faces: Faces) -> None:
    async def check(service: str) -> int:
        return (await faces.health.Check(health_pb2.HealthCheckRequest(service=service))).status

    assert [await check(name) for name in ("", "gemmule.v1.GemmuleService", "gemmule.v1/27b")] == [SERVING] * 3
    faces.router.num_replicas = {Size.B27: 0}
    assert await check("gemmule.v1/27b") == NOT_SERVING
    assert await check("") == SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check("gemmule.v1/7b")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    listed = (await faces.health.List(health_pb2.HealthListRequest())).statuses
    assert listed["gemmule.v1/27b"].status == NOT_SERVING


async def test_health_is_watched(faces: Faces) -> None:
    watch = faces.health.Watch(health_pb2.HealthCheckRequest(service="gemmule.v1/27b"))
    assert (await watch.read()).status == SERVING
    faces.router.num_replicas = {Size.B27: 0}
    assert (await watch.read()).status == NOT_SERVING
    watch.cancel()
