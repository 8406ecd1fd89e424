"""From what an operator wishes to the cheapest plan, what it is bound by, and what one size alone would cost. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import combinations

from cluster.config import Tier
from cluster.planning.candidates import Candidate, Misfit, Wanted, candidates
from cluster.planning.capacity import Slo
from cluster.planning.demand import Demand
from cluster.planning.mixes import Mix, Mixes
from cluster.planning.problem import FleetPlan, Problem, Served
from cluster.planning.search import cheapest
from cluster.routing.profile import Profile
from cluster.speed import Speed
from cluster.speeds.file import Speeds
from model.config import Quantization, Size


@dataclass(frozen=True)
class Wish:
    """`slo` is for all requests: half of those that may break it are left to peaks, half to chance between them."""

    demand: Demand
    slo: Slo
    traffic: Mapping[Tier, float]  # share of the requests, in sum 1
    promises: Mapping[Tier, float]  # share of the largest size's right answers
    sizes: tuple[Size, ...]
    precisions: tuple[Quantization | None, ...]
    devices: Mapping[str, int | None]  # of each kind at most; None for as many as it takes

    @property
    def replica_slo(self) -> Slo:
        """What each replica has to keep while it gets what was planned for."""
        return replace(self.slo, share=1 - late_share(self.slo))


def late_share(slo: Slo) -> float:
    """Share of all requests that may come while there is more to do than was planned for."""
    return (1 - slo.share) / 2


@dataclass(frozen=True)
class Planned:
    """The answer to a wish; `plan` is None where there is none."""

    wish: Wish
    plan: FleetPlan | None
    problem: Problem
    misfits: Mapping[Size, tuple[Misfit, ...]] = field(repr=False)


class Planner:
    """For one file of speeds and one routing profile."""

    def __init__(self, speeds: Speeds, profile: Profile) -> None:
        """Raises `ProfileError` for a profile that cannot be planned with."""
        self.speeds, self.profile = speeds, profile
        self.mixes = Mixes(profile)
        self._found: dict[tuple[object, ...], tuple[tuple[Candidate, ...], tuple[Misfit, ...]]] = {}
        self._keeping = lru_cache(maxsize=None)(self.mixes.keeping)

    def plan(self, wish: Wish, alone: bool = False) -> Planned:
        """The cheapest; `alone` of those with one size only. Raises `SpeedsError` for an unknown kind of device."""
        wanted = Wanted(tuple(wish.devices), wish.precisions)
        able: dict[Size, tuple[Candidate, ...]] = {}
        unable: dict[Size, tuple[Misfit, ...]] = {}
        for size in wish.sizes:
            found, misfits = self._candidates(size, wanted, wish)
            able[size] = tuple(each for each in found if _within(wish, each.speed))
            unable[size] = tuple(each for each in misfits if _within(wish, each))
        problem = Problem(wish.demand.per_s, wish.traffic, able, self._choices(wish), wish.devices)
        return Planned(wish, cheapest(problem, alone), problem, unable)

    def _candidates(self, size: Size, wanted: Wanted, wish: Wish) -> tuple[tuple[Candidate, ...], tuple[Misfit, ...]]:
        key = (size, wanted, wish.replica_slo, wish.demand.bursts, id(wish.demand.lengths))
        if key not in self._found:
            self._found[key] = candidates(self.speeds, size, wanted, wish.demand, wish.replica_slo)
        return self._found[key]

    def _choices(self, wish: Wish) -> dict[Served, dict[Tier, tuple[Mix, ...]]]:
        """What each set of the sizes may be asked for, by tier."""
        sizes = [size for size in self.profile.sizes if size in wish.sizes]
        sets = (served for count in range(1, len(sizes) + 1) for served in combinations(sizes, count))
        return {served: {tier: self._keeping(served, wish.promises[tier]) for tier in wish.traffic} for served in sets}


def _within(wish: Wish, one: Speed | Misfit) -> bool:
    """Whether a single replica would find enough devices."""
    most = wish.devices[one.device]
    return most is None or one.degree <= most


def only(planned: Planned, size: Size) -> FleetPlan | None:
    """The cheapest plan with that size alone."""
    problem = planned.problem
    alone: Served = (size,)
    mixes = {alone: problem.mixes[alone]} if alone in problem.mixes else {}
    return cheapest(replace(problem, mixes=mixes))


def precisions_beyond(now: Sequence[Quantization | None]) -> tuple[Quantization | None, ...]:
    """The same and one with fewer bits; equal where there is none."""
    ladder = (None, Quantization.INT8, Quantization.INT4)
    fewest = max(ladder.index(each) for each in now)
    return (*now, ladder[fewest + 1]) if fewest + 1 < len(ladder) else tuple(now)
