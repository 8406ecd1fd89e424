"""What comes out of an engine; every stream ends with exactly one `Finished` or `Failed`."""

from dataclasses import dataclass
from enum import StrEnum

from model.errors import Fault
from model.request import RequestId


class FinishReason(StrEnum):
    """Why a request ended well."""

    STOP = "stop"  # a stop id, or one of the request's stop strings
    LENGTH = "length"  # max_tokens, or the context was full


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that one request used."""

    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """New text; `token_ids` are the tokens behind it, which may be none or several (UTF-8 and stop-string borders)."""

    request_id: RequestId
    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete."""

    request_id: RequestId
    reason: FinishReason
    usage: Usage


@dataclass(frozen=True, slots=True)
class Failed:
    """The request ended with an error; a value, so that no exception has to survive pickling."""

    request_id: RequestId
    fault: Fault


Event = TokenEvent | Finished | Failed
