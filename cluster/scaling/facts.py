"""Frozen facts that the scaling policy may read, and what it says; alike for autoscaler, planner and simulator."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.config import Tier
from model.config import Size


@dataclass(frozen=True, slots=True)
class SizeLoad:
    """One size at one instant.

    `wanted_per_s` counts the requests whose first choice it was, wherever they went in the end: a size that sleeps, or
    whose requests spill, is still wanted. By tier, since the tiers' promises differ in worth; None: asked for by name.
    """

    size: Size
    devices: float  # that one replica takes from the budget
    running: int  # replicas that serve
    starting: int  # replicas on their way
    min_replicas: int
    max_replicas: int
    slots: int  # requests that one replica decodes at once
    ongoing: float  # requests accepted and not ended, waiting ones included
    queued: float  # of those, the ones no replica works on yet
    kv_used_share: float  # of the fullest replica's keys and values
    wanted_per_s: Mapping[Tier | None, float]
    trend_per_s2: float  # how much `wanted_per_s` in sum grows each second
    busy_s: float  # that a request holds a slot; 0 while nothing is known
    cold_start_s: float  # from the wish for a replica to its first request
    usd_per_mtoken: float
    last_asked_s: float | None  # instant of the last request whose first choice it was
    draining: int = 0  # replicas that finish what they have; their devices are still taken


@dataclass(frozen=True, slots=True)
class Load:
    """All sizes at one instant, cheapest first, under one budget."""

    now_s: float
    budget_devices: float
    sizes: tuple[SizeLoad, ...]

    def __getitem__(self, size: Size) -> SizeLoad:
        """Of one size; KeyError when it is not served."""
        for each in self.sizes:
            if each.size is size:
                return each
        raise KeyError(size)


@dataclass(frozen=True, slots=True)
class Target:
    """How many replicas a size shall have, starting ones included, and why in words a person can read.

    `wanted` is what its requests call for by themselves, whatever the budget and the pace of scaling leave of it.
    """

    size: Size
    replicas: int
    wanted: int
    reason: str


@dataclass(frozen=True, slots=True)
class Memory:
    """What the policy remembers between two looks, so that it is a pure function: give back what it returned."""

    targets: Mapping[Size, int] = field(default_factory=dict)
    wish: Mapping[Size, int] = field(default_factory=dict)  # for more or fewer replicas, not granted yet
    since_s: Mapping[Size, float] = field(default_factory=dict)  # and it stands from this instant
    calm_s: Mapping[Size, float] = field(default_factory=dict)  # that a wish for fewer has to stand
    lowered_s: Mapping[Size, float] = field(default_factory=dict)  # instant of the last step down
