"""Rates and trends of arrivals."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.config import Tier
from cluster.scaling.arrivals import Arrivals
from model.config import Size

WINDOW_S = 60.0


def test_rates_are_by_size_and_tier_over_the_window() -> None:
    seen = Arrivals(WINDOW_S, 0.0)
    for second in range(120):
        seen.see(Size.B9, Tier.AUTO, float(second))
        seen.see(Size.B2, None, second + 0.5)
        seen.see(Size.B2, None, second + 0.5)
    assert seen.per_s(Size.B9, 119.9) == {Tier.AUTO: pytest.approx(1.0)}
    assert seen.per_s(Size.B2, 119.9) == {None: pytest.approx(2.0)}
    assert seen.per_s(Size.B27, 119.9) == {}
    assert (seen.last_s(Size.B9), seen.last_s(Size.B27)) == (119.0, None)


def test_a_beginning_is_not_taken_for_little() -> None:
    seen = Arrivals(WINDOW_S, 100.0)
    for tenth in range(100):
        seen.see(Size.B2, None, 100 + tenth / 10)
    assert seen.per_s(Size.B2, 110.0)[None] == pytest.approx(10.0)


def test_what_is_old_is_forgotten() -> None:
    seen = Arrivals(WINDOW_S, 0.0)
    seen.see(Size.B2, None, 1.0)
    assert seen.per_s(Size.B2, 100.0) == {}
    assert seen.last_s(Size.B2) == 1.0


@pytest.mark.parametrize(("slope", "low", "high"), [(0.2, 0.1, 0.21), (-0.2, -0.21, -0.1)])
def test_a_trend_is_seen_and_not_overstated(slope: float, low: float, high: float) -> None:
    seen, due = Arrivals(WINDOW_S, 0.0), 0.0
    for tenth in range(1200):
        due += 0.1 * max(0.0, 20 + slope * (tenth / 10 - 60))
        while due >= 1:
            seen.see(Size.B9, None, tenth / 10)
            due -= 1
    assert low < seen.trend_per_s2(Size.B9, 120.0) < high


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 20))
def test_steady_arrivals_seldom_have_a_trend(seed: int, per_s: float) -> None:
    rng, seen, at_s, trends = random.Random(seed), Arrivals(WINDOW_S, 0.0), 0.0, []
    while at_s < 600:
        at_s += rng.expovariate(per_s)
        seen.see(Size.B9, None, at_s)
        if at_s > len(trends) * WINDOW_S:
            trends.append(seen.trend_per_s2(Size.B9, at_s))
    assert sum(1 for trend in trends if trend) <= 4
    assert all(abs(trend) * WINDOW_S <= 0.7 * per_s + 0.5 for trend in trends)
