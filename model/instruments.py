"""Where an engine's time goes, step by step. Written by the engine's thread, read by anyone."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

PARTS: Final = ("schedule", "forward", "sample", "publish")
_KEPT_STEPS: Final = 512


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step: when it began on the clock, seconds by part in the order of PARTS, and how much it did."""

    began_s: float
    part_s: tuple[float, ...]
    tokens: int  # computed: of prompts, answers and guesses
    sequences: int
    output_tokens: int
    draft_tokens: int = 0  # guesses that were verified
    accepted_tokens: int = 0  # those of them that agreed


@dataclass(frozen=True, slots=True)
class StepStats:
    """Totals since the start; `part_s` in the order of PARTS."""

    steps: int = 0
    tokens: int = 0
    output_tokens: int = 0
    part_s: tuple[float, ...] = (0.0,) * len(PARTS)
    draft_tokens: int = 0
    accepted_tokens: int = 0

    def plus(self, record: StepRecord) -> "StepStats":
        """With one step more."""
        parts = tuple(a + b for a, b in zip(self.part_s, record.part_s, strict=True))
        return StepStats(
            self.steps + 1,
            self.tokens + record.tokens,
            self.output_tokens + record.output_tokens,
            parts,
            self.draft_tokens + record.draft_tokens,
            self.accepted_tokens + record.accepted_tokens,
        )


class Instruments:
    """Times the parts of each step; keeps totals and the last few hundred steps."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._parts: dict[str, float] = {}
        self._began_s = 0.0
        self.total = StepStats()
        self.recent: deque[StepRecord] = deque(maxlen=_KEPT_STEPS)
        self.listener: Callable[[StepRecord], None] | None = None  # hears of every step, in the engine's thread

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time spent inside belongs to this part of the step."""
        began_s = self._clock()
        if not self._parts:
            self._began_s = began_s
        try:
            yield
        finally:
            self._parts[name] = self._parts.get(name, 0.0) + self._clock() - began_s

    def end(
        self, tokens: int, sequences: int, output_tokens: int, draft_tokens: int = 0, accepted_tokens: int = 0
    ) -> None:
        """The step is over; one without sequences does not count."""
        if sequences:
            times = tuple(self._parts.get(name, 0.0) for name in PARTS)
            did = (tokens, sequences, output_tokens, draft_tokens, accepted_tokens)
            record = StepRecord(self._began_s, times, *did)
            self.total = self.total.plus(record)
            self.recent.append(record)
            if (listener := self.listener) is not None:
                listener(record)
        self._parts = {}
