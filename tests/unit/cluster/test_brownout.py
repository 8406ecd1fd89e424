"""Promises are waived from the cheapest on, and do not flicker."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.brownout import BrownOut
from cluster.config import BrownOutConfig, ClusterConfig, Tier

CONFIG = BrownOutConfig()
TIERS = ClusterConfig().tiers


def a_brown_out() -> BrownOut:
    return BrownOut(TIERS, CONFIG)


def test_the_cheapest_promise_goes_first_and_the_dearest_never() -> None:
    out = a_brown_out()
    seen = [out.see(second * 0.5, 3.0) for second in range(20)]
    order = [waived for place, waived in enumerate(seen) if not place or waived != seen[place - 1]]
    assert order == [frozenset(), frozenset({Tier.BALANCED}), frozenset({Tier.BALANCED, Tier.AUTO})]


def test_a_short_peak_waives_nothing() -> None:
    out = a_brown_out()
    for second in range(60):
        out.see(second, 3.0 if second % 3 == 0 else 1.0)
    assert out.switches == 0


def test_calm_restores_the_dearest_first() -> None:
    out = a_brown_out()
    for second in range(10):
        out.see(second, 3.0)
    waived = [out.see(10.0 + second, 0.2) for second in range(70)]
    assert waived[0] == {Tier.BALANCED, Tier.AUTO}
    assert waived[35] == {Tier.BALANCED}
    assert waived[-1] == frozenset()


@given(st.floats(1.6, 8.0), st.floats(0.0, 0.6))
def test_a_load_that_waiving_relieves_does_not_flicker(pressed: float, relieved: float) -> None:
    """The worst case: with a promise waived all is calm, without it there is too much."""
    out = a_brown_out()
    minutes = 20
    for tick in range(minutes * 120):
        out.see(tick * 0.5, relieved if out.waived else pressed)
    assert out.switches < 2 * minutes
    late = out.switches
    for tick in range(minutes * 120, 2 * minutes * 120):
        out.see(tick * 0.5, relieved if out.waived else pressed)
    assert out.switches - late <= 6


@given(st.lists(st.floats(0, 5), max_size=200))
def test_only_promises_are_waived_and_always_a_beginning_of_the_order(loads: list[float]) -> None:
    out = a_brown_out()
    order = [Tier.BALANCED, Tier.AUTO]
    for second, load in enumerate(loads):
        waived = out.see(second, load)
        assert waived == frozenset(order[: len(waived)])
