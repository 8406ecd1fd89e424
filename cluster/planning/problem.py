"""What a plan is looked for, and what a plan is. Pure data."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

from cluster.config import Tier
from cluster.planning.candidates import Candidate
from cluster.planning.mixes import Mix
from model.config import Size

_ROUNDING: Final = 1e-9

Served = tuple[Size, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """`mixes`: for each set of sizes that may be served, what each tier may ask for, its promise kept.

    A set of sizes that cannot keep a tier's promise has no mix for it. `devices` are the most of each kind, None for as
    many as it takes.
    """

    per_s: float
    traffic: Mapping[Tier, float]  # share of the requests, in sum 1
    candidates: Mapping[Size, tuple[Candidate, ...]]
    mixes: Mapping[Served, Mapping[Tier, tuple[Mix, ...]]]
    devices: Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class Part:
    """One size of a plan."""

    size: Size
    candidate: Candidate
    replicas: int
    per_s: float  # requests that it gets

    @property
    def devices(self) -> int:
        """Of its kind."""
        return self.replicas * self.candidate.speed.degree

    @property
    def usd_per_hour(self) -> float:
        """Of all its replicas."""
        return self.replicas * self.candidate.usd_per_hour


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """Sizes, degrees, precision, replicas and thresholds together."""

    parts: tuple[Part, ...]  # smallest size first
    mixes: Mapping[Tier, Mix]
    quality: float  # over all requests, share of the largest size's right answers

    @property
    def usd_per_hour(self) -> float:
        """Of all devices."""
        return sum(part.usd_per_hour for part in self.parts)

    @property
    def devices(self) -> int:
        """Of all kinds."""
        return sum(part.devices for part in self.parts)

    def by_kind(self) -> dict[str, int]:
        """Devices of each kind."""
        found: dict[str, int] = {}
        for part in self.parts:
            kind = part.candidate.speed.device
            found[kind] = found.get(kind, 0) + part.devices
        return found


def replicas_for(per_s: float, candidate: Candidate) -> int:
    """At least one: a size that is served has a replica."""
    return max(1, ceil(per_s / candidate.per_s - _ROUNDING))
