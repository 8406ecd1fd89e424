"""Whether tiers keep their promises, from requests that the largest size looked at too. Pure.

The share of answers that the largest size would have given as well is watched for each tier; where it is surely below
what is promised the tier asks its profile for a little more, where it is surely above for a little less. (Wilson's
interval, 1927: it holds for shares near 1, where promises lie.)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Final

from cluster.config import Tier

STEP: Final = 0.01
FURTHEST: Final = 0.10
_WINDOW: Final = 400.0  # answers that count; older ones fade
_Z: Final = 1.645  # each side 5 %
_LEAST_ANSWERS: Final = 30


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of one tier: share in an interval, out of so many answers; how much more is asked than promised."""

    promised: float
    share: float
    low: float
    high: float
    answers: float
    shift: float


@dataclass(slots=True)
class _Seen:
    right: float = 0.0
    all: float = 0.0
    shift: float = 0.0


class PromiseWatch:
    """Fed with shadowed answers; `asked` is what a tier asks of its profile in place of its promise."""

    def __init__(self, promised: Mapping[Tier, float], before: "PromiseWatch | None" = None) -> None:
        """What was seen `before` counts on for tiers that promise the same still."""
        self._promised = {tier: share for tier, share in promised.items() if share > 0}
        self._seen = {tier: _Seen() for tier in self._promised}
        if before is not None:
            self._seen |= {t: seen for t, seen in before._seen.items() if before._promised[t] == self._promised.get(t)}

    def saw(self, tier: Tier, as_good: bool) -> None:
        """One answer of a tier, and whether it is as good as the largest size's."""
        if (seen := self._seen.get(tier)) is None:
            return
        fade = min(1.0, _WINDOW / (seen.all + 1))
        seen.right, seen.all = fade * (seen.right + as_good), fade * (seen.all + 1)
        kept = self.kept()[tier]
        if seen.all < _LEAST_ANSWERS or kept.low <= kept.promised <= kept.high:
            return
        step = STEP if kept.high < kept.promised else -STEP
        moved = max(-FURTHEST, min(FURTHEST, round(seen.shift + step, 6)))
        if moved != seen.shift:
            self._seen[tier] = _Seen(shift=moved)  # what was seen so far was another rate's

    def asked(self, tier: Tier, share: float) -> float:
        """Share to ask of the profile for a promised one."""
        seen = self._seen.get(tier)
        return share if seen is None else max(0.01, min(1.0, share + seen.shift))

    def kept(self) -> dict[Tier, Kept]:
        """For each tier that promises something."""
        return {tier: _kept(self._promised[tier], seen) for tier, seen in self._seen.items()}


def _kept(promised: float, seen: _Seen) -> Kept:
    if not seen.all:
        return Kept(promised, 0.0, 0.0, 1.0, 0.0, seen.shift)
    share, spread = seen.right / seen.all, _Z**2 / seen.all
    middle = (share + spread / 2) / (1 + spread)
    around = _Z / (1 + spread) * sqrt(share * (1 - share) / seen.all + spread / (4 * seen.all))
    return Kept(promised, share, max(0.0, middle - around), min(1.0, middle + around), seen.all, seen.shift)
