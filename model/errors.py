"""One error family: what happened, which field, and what to do; how a protocol spells it is serving's table."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

REPLICA_LEAVING: Final = "replica_leaving"
"""Reason of a `ReplicaLeavingError`, which arrives as a fault."""


class Code(StrEnum):
    """What kind of thing went wrong; `serving.status` has a row for each."""

    INVALID_REQUEST = "invalid_request"
    MODEL_NOT_FOUND = "model_not_found"
    OVERLOADED = "overloaded"
    NOT_READY = "not_ready"
    REPLICA_LOST = "replica_lost"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    ABORTED = "aborted"
    CHECKPOINT = "checkpoint"
    INTERNAL = "internal_error"


@dataclass(frozen=True, slots=True)
class Fault:
    """An error as a plain value, fit to cross processes.

    `reason` is the fine-grained word a client can test for (`context_length_exceeded`, `invalid_type`, …), `field` the
    path of the offending field in the request (`messages[0].content`).
    """

    code: Code
    message: str
    reason: str
    field: str | None = None
    retry_after_s: float | None = None


class GemmuleError(Exception):
    """Root of the family; carries its `Fault`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class InvalidRequestError(GemmuleError):
    """The request itself is wrong; retrying it unchanged cannot help."""

    def __init__(self, reason: str, field: str | None, message: str) -> None:
        super().__init__(Fault(Code.INVALID_REQUEST, message, reason, field))


class ModelNotFoundError(GemmuleError):
    """`model` names neither a size nor a tier; the name is echoed in 64 characters at most."""

    def __init__(self, model: str, known: tuple[str, ...]) -> None:
        shown = model if len(model) <= 64 else model[:61] + "..."
        message = f"model: {shown!r} is not served here; choose one of {', '.join(known)}"
        super().__init__(Fault(Code.MODEL_NOT_FOUND, message, "model_not_found", "model"))


class OverloadedError(GemmuleError):
    """No room now; the client may come back after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(Fault(Code.OVERLOADED, message, "overloaded", None, retry_after_s))


class NotReadyError(GemmuleError):
    """No replica of any allowed size can serve yet."""

    def __init__(self, message: str, retry_after_s: float = 5.0) -> None:
        super().__init__(Fault(Code.NOT_READY, message, "not_ready", None, retry_after_s))


class ReplicaLeavingError(GemmuleError):
    """The replica makes room for its successor; the request was not begun."""

    def __init__(self, message: str) -> None:
        super().__init__(Fault(Code.NOT_READY, message, REPLICA_LEAVING, None, 1.0))


class ReplicaLostError(GemmuleError):
    """The replica died while it worked on the request."""

    def __init__(self, message: str) -> None:
        super().__init__(Fault(Code.REPLICA_LOST, message, "replica_lost", None, 1.0))


class DeadlineExceededError(GemmuleError):
    """The request's time is over."""

    def __init__(self, message: str) -> None:
        super().__init__(Fault(Code.DEADLINE_EXCEEDED, message, "deadline_exceeded", "deadline_ms"))


class CheckpointError(GemmuleError):
    """A checkpoint cannot be served; the message names the file and the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(Fault(Code.CHECKPOINT, message, "checkpoint"))
