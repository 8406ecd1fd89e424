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
    cached_tokens: int = 0  # of the prompt, whose keys and values were in the cache already
    accepted_draft_tokens: int = 0
    rejected_draft_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Logprob:
    """Natural log of a token's probability, and of the likeliest tokens at that place, best first."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class PromptScored:
    """Log-probabilities of the prompt's tokens from the second on; the first has nothing before it."""

    request_id: RequestId
    logprobs: tuple[Logprob, ...]


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """New text; `token_ids` are the tokens behind it, which may be none or several (UTF-8 and stop-string borders)."""

    request_id: RequestId
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[Logprob, ...] = ()  # one per token id, when asked for


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


Event = TokenEvent | PromptScored | Finished | Failed
