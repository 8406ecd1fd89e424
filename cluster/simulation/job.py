"""One request's part on one replica."""

from dataclasses import dataclass, field
from math import inf
from typing import Final

from model.request import GenerationRequest

AGING_S: Final = 10.0
"""As in `model.starting`: a wait of so long outweighs one step of priority."""


@dataclass(slots=True, eq=False)
class Job:
    """Prompt in, tokens out. What is below the line belongs to the replica that works on it."""

    number: int
    arrival_s: float
    priority: int
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()  # names of the prompt's leading full blocks
    block_tokens: int = 512
    draft_tokens: int = 0  # of them read with the prompt and agreed with: they are not written
    request: GenerationRequest | None = None  # where every step is looked at
    # ----
    cached_tokens: int = 0
    admitted_s: float = inf  # to the batch, for the first time
    first_s: float = inf
    left: int = 0  # tokens to read before the next is written
    written: int = 0
    joined_step: int = 0  # it decodes from this step of its replica on
    joined_tokens: int = 0  # and had so many tokens of context then
    pinned: int = 0  # leading blocks that it holds in the prefix store
    gone: bool = False
    order: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.order = self.priority + self.arrival_s / AGING_S

    def __lt__(self, other: "Job") -> bool:
        return (self.order, self.number) < (other.order, other.number)
