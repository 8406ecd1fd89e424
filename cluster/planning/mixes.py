"""Which sizes answer, and how well, when these sizes are served and a tier asks for that share of quality. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

import numpy as np

from cluster.routing.profile import Profile, ProfileError
from cluster.routing.promising import QUALITIES, chosen
from cluster.routing.solve import Floats
from model.config import Size

NOTHING: Final = 0.0
"""The threshold of a tier that promises no quality: always the cheapest size."""
_SAME: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Mix:
    """What one threshold brings. Of several thresholds that bring the same, the lowest."""

    threshold: float  # a tier's `quality_share`
    quality: float  # share of the largest size's right answers, as predicted for prompts not fitted on
    shares: Mapping[Size, float]  # of the requests, of each served size


class Mixes:
    """A profile's prompts, chosen for again with some of the sizes. A trace's requests are taken to be like them."""

    def __init__(self, profile: Profile) -> None:
        """Raises `ProfileError` for a profile that does not know how its prompts were predicted."""
        if profile.unseen is None:
            raise ProfileError("the routing profile is of a version that did not plan; calibrate again")
        width = len(profile.sizes)
        self._profile = profile
        self._chances = profile.unseen.chances.astype(np.float64).reshape(-1, width)
        self._costs = profile.unseen.costs.astype(np.float64).reshape(-1, width)

    def at(self, sizes: Iterable[Size], threshold: float) -> Mix:
        """Of one threshold, as `cluster.policy.choose` goes by it on an empty cluster."""
        served = [size for size in self._profile.sizes if size in set(sizes)]
        columns = [self._profile.sizes.index(size) for size in served]
        chances, costs = self._chances[:, columns], self._costs[:, columns]
        rate = self._profile.exchange_rate(threshold) if threshold > 0 else inf
        taken = np.argmin(costs, axis=1) if rate == inf else chosen(chances, costs, rate)
        kept = chances[np.arange(len(taken)), taken].sum() / self._chances[:, -1].sum()
        counts = np.bincount(taken, minlength=len(served)) / len(taken)
        return Mix(threshold, float(kept), dict(zip(served, map(float, counts), strict=True)))

    def keeping(self, sizes: Iterable[Size], promised: float) -> tuple[Mix, ...]:
        """All that keep what the whole family keeps at a promise, from the lowest threshold on; none may.

        The largest size alone keeps every promise: it is what they are measured by.
        """
        served = tuple(sizes)
        needed = min(1.0, self.at(self._profile.sizes, promised).quality) if promised > 0 else 0.0
        found: list[Mix] = []
        for threshold in (NOTHING, *QUALITIES):
            mix = self.at(served, threshold)
            if mix.quality >= needed - _SAME and all(mix.shares != other.shares for other in found):
                found.append(mix)
        return tuple(found)

    def best(self, sizes: Iterable[Size]) -> float:
        """The share of quality that these sizes keep at most."""
        return max(self.at(sizes, threshold).quality for threshold in QUALITIES)

    @property
    def chances_and_costs(self) -> tuple[Floats, Floats]:
        """[N, S] each, columns in the order of the profile's sizes."""
        return self._chances, self._costs
