"""Rows of the table of bad requests, and how a refusal is read."""

from dataclasses import dataclass, field
from typing import Any

from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from grpc.aio import AioRpcError

from model.config import CONTEXT_TOKENS
from serving.rpc.gen.gemmule.v1 import gemmule_pb2 as pb
from tests.contract.faces import CHAT, a_message

NAN, INFINITY = float("nan"), float("inf")
TEXT = {"model": "2b", "prompt": "hi"}
LONG = "12 + 30? " * CONTEXT_TOKENS


@dataclass(frozen=True)
class Bad:
    """A row of the table: what is sent, and how it is refused. `rest` and `rpc` say the same, where both can."""

    code: str
    param: str | None
    rest: dict[str, Any] | None = None  # laid over a chat that is fine; ... takes a field away
    rpc: pb.GenerateRequest | None = None
    status: int = 400
    grpc: StatusCode = StatusCode.INVALID_ARGUMENT
    path: str = "/v1/chat/completions"
    base: dict[str, Any] = field(default_factory=lambda: CHAT)


def turns(*said: tuple[int, str]) -> pb.Chat:
    return pb.Chat(messages=[pb.Message(role=role, content=text) for role, text in said])


def one(content: Any, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content, **more}]}


def chat(*said: tuple[int, str]) -> pb.GenerateRequest:
    return pb.GenerateRequest(model="2b", chat=turns(*said))


def sampled(**fields: Any) -> pb.GenerateRequest:
    return a_message(sampling=pb.Sampling(**fields))


def sampled_prompt(**fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(model="2b", prompt="hi", sampling=pb.Sampling(**fields))


def refused(name: str, value: Any) -> Bad:
    return Bad("unsupported_parameter", name, {name: value})


def sampling(code: str, name: str, value: Any, param: str | None = None) -> Bad:
    """One sampling field, wrong the same way on both faces."""
    return Bad(code, param or name, {name: value}, sampled(**{name: value}))


def field_of(code: str, name: str, value: Any, param: str | None = None, **more: Any) -> Bad:
    """One field of the request itself."""
    return Bad(code, param or name, {name: value, **more}, a_message(**{name: value, **more}))


def completed(code: str, param: str, rest: dict[str, Any], rpc: pb.GenerateRequest | None = None) -> Bad:
    return Bad(code, param, rest, rpc, path="/v1/completions", base=TEXT)


def fields_of(error: AioRpcError) -> tuple[str, str | None]:
    """Reason and field of the google.rpc details."""
    info, violations = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    metadata = dict(error.trailing_metadata())
    status = Status.FromString(metadata["grpc-status-details-bin"])
    for detail in status.details:
        for known in (info, violations):
            if detail.Is(known.DESCRIPTOR):
                detail.Unpack(known)
    assert info.domain == "gemmule"
    return info.reason, violations.field_violations[0].field if violations.field_violations else None
