"""The gRPC face through Ray Serve, by a client that knows nothing but reflection."""

from typing import Any

import grpc
import httpx
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.e2e.conftest import Served

pytestmark = pytest.mark.e2e

MODELS = ["2b", "9b", "27b", "economy", "premium", "auto"]


class Reflected:
    """Calls methods by name, as grpcurl would; everything it knows came over the wire."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self.database = ProtoReflectionDescriptorDatabase(channel)
        self._pool = DescriptorPool(self.database)

    def stream(self, service: str, method: str, body: dict[str, Any], whole: bool = False) -> Any:
        """The messages of the answer, or with `whole` the only one."""
        found = self._pool.FindServiceByName(service).FindMethodByName(method)
        request = json_format.ParseDict(body, message_factory.GetMessageClass(found.input_type)())
        make = self._channel.unary_unary if whole else self._channel.unary_stream
        call = make(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(found.output_type).FromString,
        )
        return call(request, timeout=60)


@pytest.fixture(scope="module")
def reflected(served: Served) -> Reflected:
    return Reflected(grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}"))


def ask(model: str, **more: Any) -> dict[str, Any]:
    chat = {"messages": [{"role": "ROLE_USER", "content": "What is 12 + 30?"}]}
    return {"model": model, "chat": chat, "sampling": {"temperature": 0}, **more}


def test_reflection_lists_our_service_and_health(reflected: Reflected) -> None:
    names = set(reflected.database.get_services())
    assert {"gemmule.v1.GemmuleService", "grpc.health.v1.Health"} <= names


@pytest.mark.parametrize("model", MODELS)
def test_grpc_gives_the_answer_of_rest(served: Served, reflected: Reflected, model: str) -> None:
    call = reflected.stream("gemmule.v1.GemmuleService", "Generate", ask(model))
    messages = [json_format.MessageToDict(message, preserving_proto_field_name=True) for message in call]
    body = {"model": model, "messages": [{"role": "user", "content": "What is 12 + 30?"}], "temperature": 0}
    rest = httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=60).json()
    assert next(iter(messages[0])) == "started"
    assert next(iter(messages[-1])) == "finished"
    text = "".join(message["chunk"].get("text", "") for message in messages if "chunk" in message)
    assert text == rest["choices"][0]["message"]["content"]
    assert messages[0]["started"]["size"] == rest["gemmule"]["size"]
    trailing = dict(call.trailing_metadata())
    assert trailing["x-gemmule-size"] == rest["gemmule"]["size"]


def test_a_bad_request_names_its_field(reflected: Reflected) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(reflected.stream("gemmule.v1.GemmuleService", "Generate", ask("2b", sampling={"temperature": 5})))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "temperature" in caught.value.details()


def test_an_unknown_model_is_not_found(reflected: Reflected) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(reflected.stream("gemmule.v1.GemmuleService", "Generate", ask("gpt-4o")))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("service", ["", "gemmule.v1.GemmuleService", "gemmule.v1/27b"])
def test_standard_health_says_serving(served: Served, service: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_grpc_quotes_what_rest_quotes(served: Served, reflected: Reflected) -> None:
    message = reflected.stream("gemmule.v1.GemmuleService", "Quote", ask("premium", max_cost=0.01), whole=True)
    quote = json_format.MessageToDict(message, preserving_proto_field_name=True)
    body = {"model": "premium", "messages": [{"role": "user", "content": "What is 12 + 30?"}], "max_cost": 0.01}
    rest = httpx.post(f"{served.url}/v1/quote", json=body, timeout=60).json()
    assert (quote["chosen"], quote["tier"]) == (rest["chosen"], "premium")
    prices = [[size["max_cost_usd"] for size in each["sizes"]] for each in (quote, rest)]
    assert prices[0] == prices[1]
