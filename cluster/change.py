"""What a change of settings does to a running cluster, and what it takes while it does. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cluster.config import ClusterConfig, ReplicaConfig, Tier
from model.config import Size

_WHERE_IT_LISTENS: Final = ("server.host", "server.http_port", "server.grpc_port")
_ABSENT: Final = object()


class Kind(StrEnum):
    """What becomes of one changed setting, from light to heavy."""

    LIVE = "live"  # running processes take it
    LATER = "later"  # nothing moves; the next cluster has it
    SCALE = "scale"  # replicas are added or removed
    REPLACE = "replace"  # the replicas of one size, one after another; never more than before
    RESHAPE = "reshape"  # the same by Ray Serve itself: each successor starts while the old one ends its answers
    EVERYTHING = "everything"  # Ray Serve replaces every replica
    SECOND_CLUSTER = "second cluster"  # beside the first, then requests move
    IGNORED = "ignored"  # dropped in silence by the strategy None
    REFUSED = "refused"  # it cannot be done to what runs

    @property
    def moves(self) -> bool:
        """Whether a replica ends for it."""
        return self in (Kind.REPLACE, Kind.RESHAPE, Kind.EVERYTHING, Kind.SECOND_CLUSTER)


@dataclass(frozen=True, slots=True)
class Change:
    """One setting by its dotted path, before and after; None where it is not given."""

    path: str
    before: Any
    after: Any
    kind: Kind
    size: Size | None = None  # whose replicas are meant


def differences(before: Any, after: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Leaves that differ, by dotted path."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found = []
        for name in sorted({*before, *after}, key=lambda name: (len(str(name)), str(name))):
            inner = f"{path}.{name}" if path else str(name)
            found += differences(before.get(name, _ABSENT), after.get(name, _ABSENT), inner)
        return found
    if before == after:
        return []
    return [(path, None if before is _ABSENT else before, None if after is _ABSENT else after)]


def changes_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Between two complete trees of settings, for what runs without pods: `gemmule serve`."""
    return [Change(path, old, new, *_fate(path)) for path, old, new in differences(before, after)]


def _fate(path: str) -> tuple[Kind, Size | None]:
    if path in _WHERE_IT_LISTENS:
        return Kind.REFUSED, None
    if path == "server.ingress_replicas":
        return Kind.SCALE, None
    if path == "cluster.routing.replica_choice":
        return Kind.EVERYTHING, None
    match path.split("."):
        case ["cluster", "sizes", _] | ["cluster", "sizes", _, "tensor_parallel"]:
            return Kind.EVERYTHING, None  # another application, in Ray Serve's eyes
        case ["cluster", "sizes", name, "replicas", *_]:
            return Kind.SCALE, Size(name)
        case ["cluster", "sizes", name, "gpus_per_rank" | "cpus_per_rank"]:
            return Kind.RESHAPE, Size(name)
        case ["cluster", "sizes", name, part, *_] if part in ReplicaConfig.model_fields:
            return Kind.REPLACE, Size(name)
    return Kind.LIVE, None


@dataclass(frozen=True, slots=True)
class Step:
    """The replicas of one size, one after another."""

    size: Size
    replicas: int
    away_s: float | None  # each, as last measured; None where nothing was
    waits: bool  # no replica of the size is left meanwhile
    cover: Mapping[Tier, tuple[Size, ...]]  # who answers for the tiers that the size belongs to


_ROUND_S: Final = 5.0
"""From a replica's turn to its end, without the answers that it has under way: the routers are told (2 s), the end is
noticed (2 s at most), and whose turn it is (0.5 s)."""


def steps_of(
    changes: list[Change], cluster: ClusterConfig, replicas: Mapping[Size, int], start_s: Mapping[Size, float]
) -> list[Step]:
    """The sizes that are replaced, in the order in which they are: cheapest first.

    `replicas` that run and the seconds that a start took (`start_s`); sizes that are missing there have their minimum,
    and unknown seconds.
    """
    replaced = {change.size for change in changes if change.kind in (Kind.REPLACE, Kind.RESHAPE)}
    everything = any(change.kind is Kind.EVERYTHING for change in changes)
    order = sorted(cluster.sizes, key=lambda size: cluster.sizes[size].usd_per_mtoken)
    steps = []
    for size in order:
        running = replicas.get(size, cluster.sizes[size].replicas.min_replicas)
        if running and (everything or size in replaced):
            away_s = start_s[size] + _ROUND_S if size in start_s else None
            steps.append(Step(size, running, away_s, running == 1, _cover(size, cluster)))
    return steps


def _cover(size: Size, cluster: ClusterConfig) -> dict[Tier, tuple[Size, ...]]:
    return {
        tier: tuple(other for other in cluster.sizes if other in config.sizes and other is not size)
        for tier, config in cluster.tiers.items()
        if size in config.sizes
    }


def devices(cluster: ClusterConfig, replicas: Mapping[Size, int]) -> float:
    """GPUs, or ranks where there are none, that so many replicas hold; the minimum of a size that is not named."""
    return sum(
        config.devices * replicas.get(size, config.replicas.min_replicas) for size, config in cluster.sizes.items()
    )
