"""How long a request holds a slot, by little's law: slots at work on average over requests that end each second. Pure.

Queues do not count, so a size that is too small is not taken for slow. Both sums forget alike, so their quotient lasts
when nothing runs.
"""

from math import exp
from typing import Final

from model.config import Size

_LEAST_ENDED: Final = 1e-9  # below it the quotient is one of rounding errors


class Occupancy:
    """Of all sizes; what is `window_s` old counts a third."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._sums: dict[Size, _Sums] = {}

    def running(self, size: Size, slots: int, now_s: float) -> None:
        """So many slots are at work now; tell it several times a second."""
        sums = self._sums.setdefault(size, _Sums(now_s))
        sums.pass_to(now_s, self._window_s)
        sums.slots = slots

    def ended(self, size: Size, now_s: float) -> None:
        """A request left its slot."""
        sums = self._sums.setdefault(size, _Sums(now_s))
        sums.pass_to(now_s, self._window_s)
        sums.ended += 1

    def slot_s(self, size: Size) -> float:
        """Seconds of slots at work, older ones counting less."""
        return self._sums[size].slot_s if size in self._sums else 0.0

    def num_ended(self, size: Size) -> float:
        """Requests that ended, older ones counting less."""
        return self._sums[size].ended if size in self._sums else 0.0


class _Sums:
    def __init__(self, now_s: float) -> None:
        self._at_s = now_s
        self.slots = 0
        self.slot_s = self.ended = 0.0

    def pass_to(self, now_s: float, window_s: float) -> None:
        passed_s = max(0.0, now_s - self._at_s)
        keeps = exp(-passed_s / window_s)
        self.slot_s = keeps * self.slot_s + self.slots * window_s * (1 - keeps)
        self.ended *= keeps
        self._at_s = now_s


def busy_s(slot_s: float, num_ended: float) -> float:
    """That a request holds a slot; 0 while nothing is known."""
    return slot_s / num_ended if num_ended > _LEAST_ENDED else 0.0
