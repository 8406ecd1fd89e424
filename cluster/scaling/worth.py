"""What replicas buy: promises kept, answers given, money saved. Pure.

An answer is worth 1, and the share of quality that its tier promises on top if the promise is kept: by the size that
was wanted or a larger one. A size asked for by name is wanted for itself, at a worth of 2.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

from cluster.config import Tier
from cluster.scaling.demand import Demand
from cluster.scaling.rules import ScalingRules
from model.config import Size

Num = Mapping[Size, int]
Flow = tuple[frozenset[Size], float, float]  # sizes that may take it, requests per second, worth of one


class Worth:
    """Of replicas of every size, for the demand of one instant. Sizes come cheapest first."""

    def __init__(self, demands: Sequence[Demand], rules: ScalingRules) -> None:
        self._demands = demands
        sizes = [demand.load.size for demand in demands]
        self._groups = [frozenset(group) for k in range(1, len(sizes) + 1) for group in combinations(sizes, k)]
        self._answers = _flows(demands, rules, lambda _place, allowed: allowed, lambda _tier: 1.0)
        self._promises = _flows(
            demands,
            rules,
            lambda place, allowed: allowed & frozenset(sizes[place:]),
            lambda tier: 1.0 if tier is None else rules.promises[tier],
        )

    def promises(self, num: Num) -> float:
        """Worth per second of what can be answered, and of the promises that can be kept."""
        room = self._room(num)
        return most_worth(self._answers, room) + most_worth(self._promises, room)

    def usd(self, num: Num) -> float:
        """Saved per second and million tokens by requests that need not spill onto the next larger size."""
        saved = 0.0
        for demand, larger in zip(self._demands, self._demands[1:], strict=False):
            tiers_per_s = demand.total_per_s - demand.per_s.get(None, 0.0)
            at_home = min(tiers_per_s, num[demand.load.size] * demand.replica_per_s)
            saved += at_home * (larger.load.usd_per_mtoken - demand.load.usd_per_mtoken)
        return saved

    def _room(self, num: Num) -> dict[frozenset[Size], float]:
        """Requests per second that each group of sizes answers."""
        each = {demand.load.size: num[demand.load.size] * demand.replica_per_s for demand in self._demands}
        return {group: sum(each[size] for size in group) for group in self._groups}


def _flows(
    demands: Sequence[Demand],
    rules: ScalingRules,
    by: Callable[[int, frozenset[Size]], frozenset[Size]],
    worth: Callable[[Tier | None], float],
) -> list[Flow]:
    """The dearest first; `by` says which sizes may take what is wanted of the size at a place."""
    found: list[Flow] = []
    served = frozenset(demand.load.size for demand in demands)
    for place, demand in enumerate(demands):
        own = demand.load.size
        for tier, per_s in demand.per_s.items():
            allowed = frozenset({own}) if tier is None else (rules.sizes[tier] & served) | {own}
            found.append((by(place, allowed), per_s, worth(tier)))
    return sorted(found, key=lambda flow: -flow[2])


def most_worth(flows: Sequence[Flow], room: Mapping[frozenset[Size], float]) -> float:
    """The most that can be served of flows, the dearest first, in the room that groups of sizes have.

    A group has to take what no size outside may take (P. Hall, On Representatives of Subsets, 1935); with that the
    greedy choice is the best (J. Edmonds, Submodular Functions, Matroids, and Certain Polyhedra, 1970), and each
    further replica buys no more than the one before.
    """
    left, total = dict(room), 0.0
    for takers, per_s, worth in flows:
        bound = [group for group in left if takers <= group]
        taken = min(per_s, *(left[group] for group in bound))
        if taken > 0:
            total += taken * worth
            for group in bound:
                left[group] -= taken
    return total
