"""Who makes room: one at a time, and nobody while somebody is on the way."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.rollout import Turn, next_turn
from cluster.snapshot import ReplicaLoad
from model.config import Size

SIZES = (Size.B2, Size.B9, Size.B27)


def a_load(name: str, outdated: bool = True, leaving: bool = False, running: int = 0) -> ReplicaLoad:
    return ReplicaLoad(name, running, 0, outdated, leaving)


def still(but: Size | None = None) -> dict[Size, int]:
    return {size: int(size is but) for size in SIZES}


def test_sizes_go_in_order_and_the_least_busy_first() -> None:
    loads = {Size.B9: [a_load("a", running=3), a_load("b", running=1)], Size.B27: [a_load("c")]}
    assert next_turn(SIZES, loads, still()) == Turn(Size.B9, "b")


def test_nobody_goes_while_one_leaves_or_starts_or_a_size_is_unknown() -> None:
    loads = {Size.B2: [a_load("a", leaving=True)], Size.B9: [a_load("b")]}
    assert next_turn(SIZES, loads, still()) is None
    assert next_turn(SIZES, {Size.B9: [a_load("b")]}, still(but=Size.B27)) is None
    assert next_turn(SIZES, {Size.B9: [a_load("b")]}, {Size.B2: 0}) is None


def test_nobody_goes_that_is_as_it_shall_be() -> None:
    assert next_turn(SIZES, {Size.B2: [a_load("a", outdated=False)]}, still()) is None


@given(
    counts=st.tuples(*(st.integers(0, 4) for _ in SIZES)),
    broken=st.sets(st.sampled_from(SIZES)),
    order=st.permutations(SIZES),
)
def test_never_is_more_than_one_away_and_what_does_not_start_stops_the_change(
    counts: tuple[int, ...], broken: set[Size], order: list[Size]
) -> None:
    """A cluster that starts a successor for every replica that goes; those of broken sizes never come up."""
    loads = {size: [a_load(f"{size}#{n}") for n in range(count)] for size, count in zip(SIZES, counts, strict=True)}
    moving = still()
    gone = 0
    while (turn := next_turn(order, loads, moving)) is not None:
        gone += 1
        assert sum(moving.values()) == 0
        loads[turn.size] = [load for load in loads[turn.size] if load.replica != turn.replica]
        moving[turn.size] = 1
        assert next_turn(order, loads, moving) is None
        if turn.size not in broken:
            moving[turn.size] = 0
            loads[turn.size].append(a_load(f"{turn.replica}+", outdated=False))
    if not any(count for size, count in zip(SIZES, counts, strict=True) if size in broken):
        assert gone == sum(counts)
    assert sum(moving.values()) <= 1
