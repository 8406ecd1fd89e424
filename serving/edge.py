"""Both faces' edge: how much is read, and every exception becomes a fault that a client may read."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, TypeVar

from model.errors import Code, Fault, GemmuleError, InvalidRequestError

log = logging.getLogger("gemmule.edge")

MAX_BODY_BYTES: Final = 4 * 2**20
_OFF_LOOP_BYTES: Final = 100_000  # some 20 ms of parsing; a request of 4 MiB takes half a second

T = TypeVar("T")


def fault_of(error: BaseException, request_id: str) -> Fault:
    """The fault of one of our errors; anything else goes to the log whole and to the client as `internal_error`."""
    if isinstance(error, GemmuleError):
        if error.fault.code in (Code.INTERNAL, Code.CHECKPOINT):
            log.error("request failed inside", extra={"request_id": request_id, "cause": error.fault.message})
        return error.fault
    log.error("unexpected exception", extra={"request_id": request_id}, exc_info=error)
    return Fault(Code.INTERNAL, "internal error", "internal_error")


def too_large(max_bytes: int) -> InvalidRequestError:
    """The refusal of a body or message beyond the limit."""
    return InvalidRequestError("request_too_large", None, f"body: more than {max_bytes} bytes; send less")


async def unhurried(parse: Callable[[], T], num_bytes: int) -> T:
    """What `parse` returns or raises; of a large request in a thread, so that the loop goes on serving others."""
    return parse() if num_bytes <= _OFF_LOOP_BYTES else await asyncio.to_thread(parse)
