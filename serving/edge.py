"""Both faces' edge: how much is read, and every exception becomes a fault that a client may read."""

import logging
from typing import Final

from model.errors import Code, Fault, GemmuleError, InvalidRequestError

log = logging.getLogger("gemmule.edge")

MAX_BODY_BYTES: Final = 4 * 2**20


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
