"""Rates and trends of arrivals."""

import random

import pytest

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


@pytest.mark.parametrize("per_s", [0.3, 1.0, 4.0, 15.0])
def test_steady_arrivals_seldom_have_a_trend(per_s: float) -> None:
    """Two standard errors: one look in twenty by chance."""
    trends = []
    for seed in range(20):
        rng, seen, at_s, look_s = random.Random(seed), Arrivals(WINDOW_S, 0.0), 0.0, WINDOW_S
        while at_s < 600:
            at_s += rng.expovariate(per_s)
            seen.see(Size.B9, None, at_s)
            if at_s > look_s:
                trends.append(seen.trend_per_s2(Size.B9, at_s))
                look_s += WINDOW_S
    assert sum(1 for trend in trends if trend) <= 0.1 * len(trends)
