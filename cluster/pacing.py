"""How fast each size answers, learned from what it answered lately, and how far answers stray from that. Pure."""

from collections import deque
from dataclasses import dataclass
from math import ceil, inf
from typing import Final

from cluster.line import KEEP, Line
from cluster.snapshot import Pace, SizeState
from model.config import Size
from model.events import Usage

_LEAST: Final = 3  # answers of a size before anything is said of it
_REMEMBERED: Final = 128  # answers whose straying is remembered
_SHARES: Final = (0.5, 0.9)
_PULL: Final = 0.03  # how fast a quantile that is too often missed or kept moves
_PROMPT_SHARE: Final = 0.1  # of an output token's time, where prompts were too alike to tell what one of theirs takes
_PROMPT_STIFFNESS: Final = 25.0  # tokens squared: prompts count as alike when they differ by about 5 tokens
_LOAD_STIFFNESS: Final = 0.01  # loads count as alike when they differ by about a tenth


@dataclass(slots=True)
class Run:
    """One answer under way, and what was expected of it at its beginning."""

    size: Size
    began_s: float
    load: float
    queue_s: float  # part of the wait that was expected from others in front
    pace: Pace | None
    expected_s: float
    first_s: float | None = None
    last_s: float = 0.0

    def latest_s(self, timeout_s: float) -> float:
        """Instant from which it cannot be in time any more if it still stands in the queue that was there before it."""
        if self.pace is None or not self.queue_s:
            return inf
        return self.began_s + timeout_s - (self.expected_s - self.pace.wait_s)

    def seen(self, now_s: float) -> None:
        """The next event came."""
        self.first_s = now_s if self.first_s is None else self.first_s
        self.last_s = now_s


class Pacing:
    """Of all sizes. Times are readings of one clock, whichever it is."""

    def __init__(self) -> None:
        self._sizes: dict[Size, _Learned] = {size: _Learned() for size in Size}

    def pace(self, size: Size, ongoing: int, slots: int) -> Pace | None:
        """Of one more answer beside `ongoing` others; None while too little was measured."""
        return self._sizes[size].pace(ongoing, slots)

    def begin(self, state: SizeState, prompt_tokens: int, output_tokens: float, now_s: float) -> Run:
        """An answer is asked for, and expected to be so long; `state` does not count it yet."""
        expected_s = 0.0 if state.pace is None else state.pace.answer_s(prompt_tokens, output_tokens)
        queue_s = self._sizes[state.size].queue_s(state.ongoing, state.slots)
        return Run(state.size, now_s, _load(state.ongoing, state.slots), queue_s, state.pace, expected_s)

    def end(self, run: Run, usage: Usage) -> None:
        """The answer is complete. One that was written with guesses says nothing of others, and is left out."""
        if run.first_s is not None and not usage.accepted_draft_tokens + usage.rejected_draft_tokens:
            self._sizes[run.size].learn(run, run.first_s - run.began_s, run.last_s - run.began_s, usage)


class _Learned:
    """What is known of one size.

    Time to the first token is a line over prompt tokens that were not in a cache, time per further token a line over
    the load; who stands behind a full batch waits for its share of a whole answer.
    """

    def __init__(self) -> None:
        self._first = Line(_PROMPT_STIFFNESS)
        self._further = Line(_LOAD_STIFFNESS)
        self._spread = _Spread()
        self._num = 0
        self._prompt_tokens = self._computed_tokens = self._answers = self._answer_s = 0.0  # older ones count less

    def pace(self, ongoing: int, slots: int) -> Pace | None:
        if self._num < _LEAST:
            return None
        token_s = self._further.at(_load(ongoing, slots))
        slope = self._first.slope(_PROMPT_SHARE * token_s)
        computed_share = self._computed_tokens / max(1.0, self._prompt_tokens)
        first_s = max(0.0, self._first.at(0.0, _PROMPT_SHARE * token_s) - token_s)  # its own step is in it
        return Pace(first_s + self.queue_s(ongoing, slots), slope * computed_share, token_s, *self._spread.quantiles)

    def queue_s(self, ongoing: int, slots: int) -> float:
        behind = max(0, ongoing + 1 - slots)
        return behind / slots * self._answer_s / self._answers if slots and self._answers else 0.0

    def learn(self, run: Run, first_s: float, total_s: float, usage: Usage) -> None:
        computed = max(0, usage.prompt_tokens - usage.cached_tokens)
        alone_s = max(0.0, first_s - run.queue_s)
        self._first.add(computed, alone_s)
        further = usage.output_tokens - 1
        if further > 0:
            self._further.add(run.load, (total_s - first_s) / further, further)
        self._num += 1
        self._prompt_tokens = KEEP * self._prompt_tokens + usage.prompt_tokens
        self._computed_tokens = KEEP * self._computed_tokens + computed
        self._answers = KEEP * self._answers + 1
        self._answer_s = KEEP * self._answer_s + alone_s + total_s - first_s
        if run.pace is not None and run.expected_s:
            self._spread.add(total_s / run.expected_s, (run.pace.p50, run.pace.p90))


def _load(ongoing: int, slots: int) -> float:
    return ongoing / slots if slots else 0.0


class _Spread:
    """What answers took as a multiple of what was expected: half and nine tenths of them stay below the quantiles.

    Ranks are those of split conformal prediction (V. Vovk et al., Algorithmic Learning in a Random World, 2005), which
    need no shape of the distribution, only that the next answer is one of the kind. A machine gets busy and calm again,
    so each rank is moved by how often its quantile was missed (I. Gibbs, E. Candes, Adaptive Conformal Inference Under
    Distribution Shift, 2021): in the long run the shares are kept whatever happens.
    """

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=_REMEMBERED)
        self._levels = list(_SHARES)
        self.quantiles: tuple[float | None, float | None] = (None, None)  # too few were seen

    def add(self, ratio: float, told: tuple[float | None, float | None]) -> None:
        """One answer, and the quantiles that were told when it began."""
        for place, (share, quantile) in enumerate(zip(_SHARES, told, strict=True)):
            if quantile is not None:
                moved = self._levels[place] + _PULL * (share - (ratio <= quantile))
                self._levels[place] = min(1.0, max(0.0, moved))
        self._seen.append(ratio)
        count = len(self._seen)
        if ceil((count + 1) * _SHARES[-1]) > count:
            return
        ordered = sorted(self._seen)
        half, most = (ordered[min(count, max(1, ceil((count + 1) * level))) - 1] for level in self._levels)
        self.quantiles = (half, max(half, most))
