"""A request of a recorded trace, as the planner and the simulator take it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """When a request came, how long it and its answer were, and which blocks of its prompt others have too.

    `blocks` are names of consecutive blocks of `block_tokens` tokens from the prompt's beginning; equal names are equal
    text. Empty where a trace says nothing of its texts.
    """

    at_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    block_tokens: int = 512
