"""What goes into an engine: a prompt as token ids and how to sample from it."""

from dataclasses import dataclass
from typing import NewType

RequestId = NewType("RequestId", str)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen and when to stop.

    `temperature` 0 is greedy. `top_k` None and `top_p` 1 switch those filters off. `stop` strings end the text before
    they appear in it, also across token borders.
    """

    max_tokens: int
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One request as an engine sees it.

    `timeout_s` is the time left when the request is handed over; whoever receives it makes it a deadline on its own
    clock, since clocks of two machines differ.
    """

    request_id: RequestId
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    timeout_s: float
