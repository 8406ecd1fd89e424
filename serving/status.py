"""The one table: how each protocol spells an error, and what a client may read of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from types import MappingProxyType
from typing import Any, Final

import grpc

from model.errors import Code, Fault

_MIN_RETRY_S: Final = 1
_MAX_RETRY_S: Final = 60  # OpenAI's clients ignore longer waits


@dataclass(frozen=True, slots=True)
class Status:
    """One row: HTTP status, OpenAI's error type, gRPC status, and whether the same request may work later."""

    http: int
    type: str
    grpc: grpc.StatusCode
    retry: bool


_IRE: Final = "invalid_request_error"

STATUS: Final[Mapping[Code, Status]] = MappingProxyType(
    {
        Code.INVALID_REQUEST: Status(400, _IRE, grpc.StatusCode.INVALID_ARGUMENT, retry=False),
        Code.MODEL_NOT_FOUND: Status(404, _IRE, grpc.StatusCode.NOT_FOUND, retry=False),
        Code.OVERLOADED: Status(429, "rate_limit_error", grpc.StatusCode.RESOURCE_EXHAUSTED, retry=True),
        Code.NOT_READY: Status(503, "server_error", grpc.StatusCode.UNAVAILABLE, retry=True),
        Code.REPLICA_LOST: Status(503, "server_error", grpc.StatusCode.UNAVAILABLE, retry=True),
        Code.DEADLINE_EXCEEDED: Status(504, "server_error", grpc.StatusCode.DEADLINE_EXCEEDED, retry=False),
        Code.ABORTED: Status(499, "server_error", grpc.StatusCode.CANCELLED, retry=False),
        Code.CHECKPOINT: Status(500, "server_error", grpc.StatusCode.FAILED_PRECONDITION, retry=False),
        Code.INTERNAL: Status(500, "server_error", grpc.StatusCode.INTERNAL, retry=False),
    }
)

# Refusals that HTTP has a word of its own for. They are made before a request is understood.
_BY_REASON: Final[Mapping[str, Status]] = MappingProxyType(
    {
        "unknown_url": Status(404, _IRE, grpc.StatusCode.UNIMPLEMENTED, retry=False),
        "method_not_allowed": Status(405, _IRE, grpc.StatusCode.UNIMPLEMENTED, retry=False),
        "request_timeout": Status(408, _IRE, grpc.StatusCode.DEADLINE_EXCEEDED, retry=False),
        "request_too_large": Status(413, _IRE, grpc.StatusCode.RESOURCE_EXHAUSTED, retry=False),
        "unsupported_media_type": Status(415, _IRE, grpc.StatusCode.INVALID_ARGUMENT, retry=False),
    }
)
_PRIVATE: Final = frozenset({Code.INTERNAL, Code.CHECKPOINT})  # their messages are for the operator's log


def status_of(fault: Fault) -> Status:
    """The row of a fault."""
    return _BY_REASON.get(fault.reason) or STATUS[fault.code]


def public(fault: Fault, request_id: str) -> Fault:
    """The fault as a client may see it: what happened inside stays inside."""
    if fault.code not in _PRIVATE:
        return fault
    message = f"internal error; the operator finds it in the log under request id {request_id}"
    return Fault(Code.INTERNAL, message, "internal_error", None, fault.retry_after_s)


def retry_after(fault: Fault) -> int | None:
    """Whole seconds to wait before the same request may work; None when waiting cannot help."""
    if not status_of(fault).retry:
        return None
    return max(_MIN_RETRY_S, min(_MAX_RETRY_S, ceil(fault.retry_after_s or _MIN_RETRY_S)))


def error_body(fault: Fault, request_id: str) -> dict[str, Any]:
    """OpenAI's error object."""
    shown = public(fault, request_id)
    kind = status_of(shown).type
    return {"error": {"message": shown.message, "type": kind, "param": shown.field, "code": shown.reason}}


def error_headers(fault: Fault) -> dict[str, str]:
    """`Retry-After` where waiting helps; `x-should-retry: false` where a client would retry by itself in vain."""
    seconds = retry_after(fault)
    if seconds is not None:
        return {"retry-after": str(seconds)}
    row = status_of(fault)
    return {"x-should-retry": "false"} if row.http == 408 or row.http >= 500 else {}
