"""How many requests come for each size by tier, and whether more or fewer come. Pure; the clock is given."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import Final

from cluster.config import Tier
from model.config import Size

_BINS: Final = 12  # of a window
_SURE: Final = 2.0  # standard errors by which a slope has to differ from nothing to count


@dataclass(slots=True)
class _Bin:
    number: int  # of the bin since the clock's zero
    counts: Counter[tuple[Size, Tier | None]] = field(default_factory=Counter)


class Arrivals:
    """Counts of the last `window_s` seconds, by the size that a request's first choice was."""

    def __init__(self, window_s: float, began_s: float) -> None:
        self._window_s, self._bin_s, self._began_s = window_s, window_s / _BINS, began_s
        self._bins: deque[_Bin] = deque()
        self._last_s: dict[Size, float] = {}

    def see(self, size: Size, tier: Tier | None, now_s: float) -> None:
        """A request came."""
        number = int(now_s // self._bin_s)
        if not self._bins or self._bins[-1].number != number:
            self._bins.append(_Bin(number))
        self._bins[-1].counts[size, tier] += 1
        self._last_s[size] = now_s
        self._forget(number)

    def last_s(self, size: Size) -> float | None:
        """Instant of the last request; None before the first."""
        return self._last_s.get(size)

    def per_s(self, size: Size, now_s: float) -> Mapping[Tier | None, float]:
        """Requests per second by tier, over the window or what has passed of the first."""
        self._forget(int(now_s // self._bin_s))
        seconds = max(self._bin_s, min(self._window_s, now_s - self._began_s))
        total: Counter[Tier | None] = Counter()
        for each in self._bins:
            for (of, tier), count in each.counts.items():
                if of is size:
                    total[tier] += count
        return {tier: count / seconds for tier, count in total.items()}

    def trend_per_s2(self, size: Size, now_s: float) -> float:
        """By how much the rate grows each second: least squares over whole bins, what noise may have brought taken off.

        Counts of Poisson arrivals vary by their mean, so the slope's standard error is known without looking at them.
        """
        last = int(now_s // self._bin_s)
        self._forget(last)
        if now_s - self._began_s < self._window_s:
            return 0.0
        counts = dict.fromkeys(range(last - _BINS + 1, last), 0)
        for each in self._bins:
            if each.number in counts:
                counts[each.number] = sum(count for (of, _), count in each.counts.items() if of is size)
        mean_x, mean_y = sum(counts) / len(counts), sum(counts.values()) / len(counts)
        spread = sum((x - mean_x) ** 2 for x in counts)
        slope = sum((x - mean_x) * (y - mean_y) for x, y in counts.items()) / spread
        noise = _SURE * sqrt(mean_y / spread)
        sure = max(0.0, abs(slope) - noise) * (1 if slope > 0 else -1)
        return sure / self._bin_s**2

    def _forget(self, number: int) -> None:
        while self._bins and self._bins[0].number <= number - _BINS:
            self._bins.popleft()
