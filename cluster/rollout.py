"""Which replica makes room next, when the settings ask for others than run. Pure.

One at a time over all sizes: while one is away its size has one replica less, and the neighbours, none of which is
away, answer for it. Nobody goes while a replica is starting anywhere, so one that does not come up stops the change
after a single loss, and never are there more replicas than before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.snapshot import ReplicaLoad
from model.config import Size


@dataclass(frozen=True, slots=True)
class Turn:
    """Who makes room."""

    size: Size
    replica: str


def next_turn(
    order: Sequence[Size], loads: Mapping[Size, Sequence[ReplicaLoad]], moving: Mapping[Size, int]
) -> Turn | None:
    """The next to go, or None as long as somebody is on the way.

    Sizes go in the given order, within a size the least busy first: it is idle soonest. `moving` counts replicas that
    are starting or ending, as the cluster's manager sees them; a size that is missing there is not known yet.
    """
    if any(moving.get(size, 1) for size in order):
        return None
    if any(load.leaving for size in order for load in loads.get(size, ())):
        return None
    for size in order:
        outdated = [load for load in loads.get(size, ()) if load.outdated]
        if outdated:
            return Turn(size, min(outdated, key=lambda load: (load.running + load.waiting, load.replica)).replica)
    return None
