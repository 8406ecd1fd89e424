"""The cheapest plan, exactly: thresholds of all tiers with candidates of all sizes, less what cannot win. Pure.

Sets of sizes are few. Within one, what thresholds bring is only how many requests each size gets, so the cost of a size
depends on one number, and the sum of the cheapest candidates without regard to how many devices there are is a lower
bound. Thresholds are gone through from the lowest bound on, until the bound is above what was found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cluster.config import Tier
from cluster.planning.candidates import Candidate
from cluster.planning.mixes import Mix
from cluster.planning.problem import FleetPlan, Part, Problem, Served, replicas_for
from cluster.routing.solve import Floats

_ROUNDING: Final = 1e-9
_FIRST_BLOCK: Final = 64  # combinations of thresholds at once; each block is twice the one before
_BLOCK: Final = 4096
_DIGITS: Final = 6  # of a dollar: closer costs are equal

Key = tuple[float, float, float, float, tuple[float, ...], tuple[tuple[str, int, float], ...]]
"""By what plans are compared, smallest first: see `key_of`."""


def cheapest(problem: Problem, alone: bool = False) -> FleetPlan | None:
    """The plan with the smallest key; None when there is none. `alone`: of those with one size only."""
    best: FleetPlan | None = None
    for served, choices in problem.mixes.items():
        if (alone and len(served) > 1) or not all(choices.get(tier) for tier in problem.traffic):
            continue
        if not all(problem.candidates.get(size) for size in served):
            continue
        found = _Search(problem, served).run(best)
        if found is not None and (best is None or key_of(found) < key_of(best)):
            best = found
    return best


def key_of(plan: FleetPlan) -> Key:
    """Cost; then more bits, more quality, fewer devices, lower thresholds, and names, so that equals have an order."""
    return (
        round(plan.usd_per_hour, _DIGITS),
        -sum(part.candidate.bits for part in plan.parts) / len(plan.parts),
        -round(plan.quality, _DIGITS),
        plan.devices,
        tuple(mix.threshold for mix in plan.mixes.values()),
        tuple((part.candidate.speed.device, part.candidate.speed.degree, part.candidate.bits) for part in plan.parts),
    )


def plan_of(problem: Problem, served: Served, chosen: Sequence[Candidate], mixes: dict[Tier, Mix]) -> FleetPlan:
    """With just enough replicas of the candidates chosen."""
    parts = []
    for size, candidate in zip(served, chosen, strict=True):
        per_s = problem.per_s * sum(share * mixes[tier].shares[size] for tier, share in problem.traffic.items())
        parts.append(Part(size, candidate, replicas_for(per_s, candidate), per_s))
    quality = sum(share * mixes[tier].quality for tier, share in problem.traffic.items())
    return FleetPlan(tuple(parts), mixes, quality)


@dataclass(frozen=True, slots=True)
class _Thresholds:
    """What tiers may ask for together: requests per second of each size [C, S], `quality` [C], `places` [C, T]."""

    per_s: Floats
    quality: Floats
    places: NDArray[np.int64]


class _Search:
    """One set of sizes."""

    def __init__(self, problem: Problem, served: Served) -> None:
        self._problem, self._served = problem, served
        self._tiers = tuple(problem.traffic)
        self._mixes = [problem.mixes[served][tier] for tier in self._tiers]
        self._candidates = [problem.candidates[size] for size in served]

    def run(self, best: FleetPlan | None) -> FleetPlan | None:
        """Something no dearer than `best`, or nothing."""
        every = self._thresholds()
        bounds = self._bounds(every.per_s)
        order = np.argsort(bounds, kind="stable")
        found, begin, size = best, 0, _FIRST_BLOCK
        while begin < len(order):
            block, begin, size = order[begin : begin + size], begin + size, min(2 * size, _BLOCK)
            most = np.inf if found is None else round(found.usd_per_hour, _DIGITS) + 10.0**-_DIGITS
            block = block[bounds[block] <= most]
            if not len(block):
                break
            plans = [*self._plans(every, block, most), *([] if found is None else [found])]
            found = min(plans, key=key_of, default=None)
        return found if found is not best else None

    def _thresholds(self) -> _Thresholds:
        places = np.array(list(product(*(range(len(mixes)) for mixes in self._mixes))), np.int64)
        per_s, quality = np.zeros((len(places), len(self._served))), np.zeros(len(places))
        for column, (tier, mixes) in enumerate(zip(self._tiers, self._mixes, strict=True)):
            shares = np.array([[mix.shares[size] for size in self._served] for mix in mixes])
            per_s += self._problem.per_s * self._problem.traffic[tier] * shares[places[:, column]]
            quality += self._problem.traffic[tier] * np.array([mix.quality for mix in mixes])[places[:, column]]
        return _Thresholds(per_s, quality, places)

    def _replicas(self, per_s: Floats, candidate: Candidate) -> Floats:
        return np.asarray(np.maximum(1.0, np.ceil(per_s / candidate.per_s - _ROUNDING)), np.float64)

    def _bounds(self, per_s: Floats) -> Floats:
        """[C] the least that each combination can cost."""
        least = np.zeros(len(per_s))
        for column, candidates in enumerate(self._candidates):
            costs = [self._replicas(per_s[:, column], each) * each.usd_per_hour for each in candidates]
            least += np.min(costs, axis=0)
        return least

    def _plans(self, every: _Thresholds, block: NDArray[np.int64], most: float) -> Iterator[FleetPlan]:
        """Of each choice of candidates the plans that cost least among the combinations of a block."""
        counts = [
            [self._replicas(every.per_s[block, column], each) for each in candidates]
            for column, candidates in enumerate(self._candidates)
        ]
        least = [
            [float(count.min()) * each.usd_per_hour for count, each in zip(mine, candidates, strict=True)]
            for mine, candidates in zip(counts, self._candidates, strict=True)
        ]
        for which in product(*(range(len(candidates)) for candidates in self._candidates)):
            if sum(costs[place] for costs, place in zip(least, which, strict=True)) > most:
                continue
            chosen = [candidates[place] for candidates, place in zip(self._candidates, which, strict=True)]
            replicas = [mine[place] for mine, place in zip(counts, which, strict=True)]
            cost = np.zeros(len(block))
            for count, each in zip(replicas, chosen, strict=True):
                cost += count * each.usd_per_hour
            cost = np.where(self._within(chosen, replicas), cost, np.inf)
            cheap = float(cost.min())
            if np.isinf(cheap) or cheap > most:
                continue
            most = cheap + 10.0**-_DIGITS
            cheapest_here = np.flatnonzero(cost <= most)
            quality = every.quality[block[cheapest_here]]
            for place in cheapest_here[quality >= quality.max() - 10.0**-_DIGITS]:
                asked = every.places[block[place]]
                mixes = {tier: self._mixes[c][asked[c]] for c, tier in enumerate(self._tiers)}
                yield plan_of(self._problem, self._served, chosen, mixes)

    def _within(self, chosen: Sequence[Candidate], replicas: Sequence[Floats]) -> NDArray[np.bool_]:
        """[C] whether there are so many devices."""
        fits = np.ones(len(replicas[0]), np.bool_)
        for kind, most in self._problem.devices.items():
            if most is not None:
                mine = [
                    count * each.speed.degree
                    for count, each in zip(replicas, chosen, strict=True)
                    if each.speed.device == kind
                ]
                fits &= sum(mine, np.zeros(len(fits))) <= most + _ROUNDING
        return fits
