"""How many replicas each size's own requests call for, before anybody looks at the budget. Pure."""

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Final

from cluster.config import Tier
from cluster.scaling.facts import Load, SizeLoad
from cluster.scaling.rules import ScalingRules

_KV_PRESSED: Final = 0.6  # share of keys and values in use from which they, not slots, may be what is short
_KV_FULL: Final = 0.9
_BAND: Final = 1.1  # a replica stays until this times the demand would do without it
_SIGMAS: Final = 2.0  # and chance might have brought this much less than there is
_MOST_GROWTH: Final = 1.0  # that a trend is believed, over what comes now: a burst is no trend
_UNKNOWN_BUSY_S: Final = 1.0  # that a request holds a slot, while no answer of any size was seen


@dataclass(frozen=True, slots=True)
class Demand:
    """What one size is asked for by the time that a replica wished for now would serve.

    `per_s` requests by tier, each holding a slot for `busy_s`; `replicas` (not a whole number) keep up with them.
    """

    load: SizeLoad
    per_s: dict[Tier | None, float]
    busy_s: float
    replica_per_s: float  # requests that one replica answers at the load it is meant to have

    @property
    def total_per_s(self) -> float:
        """Of all tiers."""
        return sum(self.per_s.values())

    @property
    def replicas(self) -> float:
        """That keep up."""
        return self.total_per_s / self.replica_per_s


def demands(load: Load, rules: ScalingRules) -> tuple[Demand, ...]:
    """Of every size, cheapest first: little's law over arrivals as their trend continues, and the queue worked off."""
    longest_s = max((size.busy_s for size in load.sizes), default=0.0) or _UNKNOWN_BUSY_S
    return tuple(_demand(size, size.busy_s or longest_s, rules) for size in load.sizes)


def _demand(size: SizeLoad, busy_s: float, rules: ScalingRules) -> Demand:
    arriving = {tier: per_s for tier, per_s in size.wanted_per_s.items() if per_s > 0}
    now_per_s = sum(arriving.values())
    grows_per_s = min(_MOST_GROWTH * now_per_s, max(0.0, size.trend_per_s2) * size.cold_start_s)
    more_per_s = grows_per_s + size.queued / rules.catch_up_s
    if arriving:
        growth = 1 + more_per_s / now_per_s
        arriving = {tier: per_s * growth for tier, per_s in arriving.items()}
    elif more_per_s:
        arriving = {None: more_per_s}
    return Demand(size, arriving, busy_s, slots_that_fit(size) * rules.target_load / busy_s)


def slots_that_fit(size: SizeLoad) -> float:
    """Requests that a replica of the size decodes at once: its slots, or fewer when keys and values are short."""
    working = (size.ongoing - size.queued) / max(1, size.running)
    if size.kv_used_share < _KV_PRESSED or working < 1:
        return size.slots
    return max(1.0, min(size.slots, working * _KV_FULL / size.kv_used_share))


def needed(demand: Demand, held: int, now_s: float, rules: ScalingRules) -> int:
    """Whole replicas, within the size's bounds. Those `held` are given up only if the demand is surely below them.

    Noise of Poisson arrivals: a rate r seen over a window w has the standard error sqrt(r / w).
    """
    size = demand.load
    replicas = demand.replicas
    num = ceil(replicas - 1e-9)
    if num < held:
        error_per_s = sqrt(demand.total_per_s / rules.window_s)
        surely = _BAND * (replicas + _SIGMAS * error_per_s / demand.replica_per_s)
        num = min(held, ceil(surely - 1e-9))
    asked = size.last_asked_s is not None and now_s - size.last_asked_s < rules.sleep_after_s
    least = max(size.min_replicas, int(asked or demand.total_per_s > 0))
    return min(size.max_replicas, max(least, num))
