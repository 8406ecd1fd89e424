"""What one step computes, as the scheduler decides it and every rank is told it."""

from dataclasses import dataclass

from model.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Span:
    """One sequence's part of a step: the tokens at positions `start`, `start + 1`, … .

    Keys and values of all of `tokens` are written; all blocks they need are in the sequence's tables. The last
    `num_draft` tokens are guesses. `num_logits` trailing tokens need logits: none while a prompt is read in chunks,
    `1 + num_draft` where the next token is chosen, all where a prompt is scored.
    """

    sequence: Sequence
    start: int
    tokens: tuple[int, ...]
    num_draft: int
    num_logits: int
    samples: bool  # the sequence's last confirmed token is among them, so its next token is chosen in this step


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Spans of one step, decodes first; empty when there is nothing to do."""

    spans: tuple[Span, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens computed in this step; never above the budget."""
        return sum(len(span.tokens) for span in self.spans)
