"""A step in the making: who gets how many tokens of the budget."""

from model.sequence import Sequence
from model.step import Span, StepPlan


class StepBuilder:
    """Shares out `budget` tokens; spans come out in the order in which sequences got their first token."""

    def __init__(self, budget: int) -> None:
        self.left = budget
        self.losers: set[Sequence] = set()  # preempted while this step was planned
        self._confirmed: dict[Sequence, int] = {}
        self._drafts: dict[Sequence, int] = {}

    def give(self, sequence: Sequence, num_tokens: int) -> None:
        """So many of its pending confirmed tokens are computed."""
        self._confirmed[sequence] = num_tokens
        self.left -= num_tokens

    def give_draft(self, sequence: Sequence, num_tokens: int) -> None:
        """So many guesses are computed with them."""
        self._drafts[sequence] = num_tokens
        self.left -= num_tokens

    def has(self, sequence: Sequence) -> bool:
        """It has a part in the step."""
        return sequence in self._confirmed

    def cut_drafts(self) -> list[Sequence]:
        """Take all guesses out of the step; whose they were."""
        cut, self._drafts = self._drafts, {}
        self.left += sum(cut.values())
        return list(cut)

    def remove(self, sequence: Sequence) -> None:
        """It is preempted: what it got goes back into the budget."""
        self.losers.add(sequence)
        self.left += self._confirmed.pop(sequence, 0) + self._drafts.pop(sequence, 0)

    def build(self) -> StepPlan:
        """The step as it is run."""
        return StepPlan(tuple(self._span(sequence, count) for sequence, count in self._confirmed.items()))

    def _span(self, sequence: Sequence, num_confirmed: int) -> Span:
        start, num_draft = sequence.num_computed, self._drafts.get(sequence, 0)
        end = start + num_confirmed
        samples = end == len(sequence.tokens)
        tokens = (*sequence.tokens[start:end], *sequence.draft[:num_draft])
        num_logits = max(_to_score(sequence, start, end + num_draft), 1 + num_draft if samples else 0)
        return Span(sequence, start, tokens, num_draft, num_logits, samples)


def _to_score(sequence: Sequence, start: int, end: int) -> int:
    """Trailing tokens from the first prompt position on that has no score yet.

    The logits at a position score the token after it, so the prompt's last position scores nothing.
    """
    first = max(start, sequence.num_scored)
    if sequence.request.sampling.prompt_logprobs is None or first >= sequence.num_prompt - 1:
        return 0
    return max(0, end - first)
