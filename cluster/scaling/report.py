"""What one ingress process tells the scaling policy, and how the reports of all of them become a load. Pure.

Which size a request wanted is known to the process that routed it, and to nobody else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.config import ClusterConfig, Tier
from cluster.scaling.facts import Load, SizeLoad
from cluster.scaling.occupancy import busy_s
from model.config import Size


@dataclass(frozen=True, slots=True)
class SizeReport:
    """One size as one ingress process sees it. Its replicas are the same for all processes, the requests its own."""

    size: Size
    wanted_per_s: tuple[tuple[Tier | None, float], ...]
    trend_per_s2: float
    ongoing: int  # requests of this process
    unplaced: int  # of those, the ones that wait for the size to wake
    idle_s: float | None  # since the last request that wanted it
    slot_s: float  # of slots at work on its replicas, whoever sent the requests; with `num_ended`, `Occupancy`
    num_ended: float
    waiting: int  # on its replicas, whoever sent them
    kv_used_share: float  # of the fullest replica
    start_s: float  # that the replica which started slowest took


@dataclass(frozen=True, slots=True)
class IngressReport:
    """One process; `number` grows with each report, so that an old one can be told without comparing clocks."""

    process: str
    number: int
    sizes: tuple[SizeReport, ...]

    def get(self, size: Size) -> SizeReport | None:
        """Of one size, if the process knows it."""
        return next((each for each in self.sizes if each.size is size), None)


@dataclass(frozen=True, slots=True)
class Count:
    """Replicas of a size as Serve counts them, and what the last start took from the wish to the first request."""

    running: int
    starting: int
    draining: int
    cold_start_s: float | None


def load_of(
    reports: Sequence[IngressReport], counts: Mapping[Size, Count], config: ClusterConfig, now_s: float
) -> Load:
    """All sizes that Serve knows of, cheapest first."""
    served = sorted(counts, key=lambda size: config.sizes[size].usd_per_mtoken)
    sizes = tuple(_size_load(size, reports, counts[size], config, now_s) for size in served)
    return Load(now_s, config.budget_devices, sizes)


def _size_load(
    size: Size, reports: Sequence[IngressReport], count: Count, config: ClusterConfig, now_s: float
) -> SizeLoad:
    of, sized = [found for report in reports if (found := report.get(size))], config.sizes[size]
    wanted: dict[Tier | None, float] = {}
    for each in of:
        for tier, per_s in each.wanted_per_s:
            wanted[tier] = wanted.get(tier, 0.0) + per_s
    idle_s = min((each.idle_s for each in of if each.idle_s is not None), default=None)
    slot_s, num_ended = max((each.slot_s for each in of), default=0.0), sum(each.num_ended for each in of)
    start_s = max((each.start_s for each in of), default=0.0)
    return SizeLoad(
        size=size,
        devices=sized.devices,
        running=count.running,
        starting=count.starting,
        draining=count.draining,
        min_replicas=sized.replicas.min_replicas,
        max_replicas=sized.replicas.max_replicas,
        slots=sized.engine.max_running,
        ongoing=sum(each.ongoing for each in of),
        queued=max((each.waiting for each in of), default=0) + sum(each.unplaced for each in of),
        kv_used_share=max((each.kv_used_share for each in of), default=0.0),
        wanted_per_s=wanted,
        trend_per_s2=sum(each.trend_per_s2 for each in of),
        busy_s=busy_s(slot_s, num_ended),
        cold_start_s=start_s if count.cold_start_s is None else count.cold_start_s,
        usd_per_mtoken=sized.usd_per_mtoken,
        last_asked_s=None if idle_s is None else now_s - idle_s,
    )
