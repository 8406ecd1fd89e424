"""What a trace asks: the rate that leaves few too late, and lengths that stand for all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.planning.demand import demand_of, demand_of_rates, dispersion_of, late_share_at, lengths_of
from cluster.trace import TraceRequest
from cluster.traces import Rates

STEADY = [TraceRequest(0.5 * place, 100 + place, 50) for place in range(240)]


def test_a_steady_trace_asks_for_its_rate() -> None:
    found = demand_of(STEADY, window_s=10, late_share=0)
    assert found.per_s == pytest.approx(2)
    assert found.mean_per_s == pytest.approx(2)
    assert demand_of(STEADY, window_s=10, late_share=0, scale=3).per_s == pytest.approx(6)


def test_what_is_longer_than_the_context_is_left_out_and_counted() -> None:
    found = demand_of([*STEADY, *[TraceRequest(1, 9000, 1)] * 60], window_s=10, late_share=0)
    assert found.left_out_share == pytest.approx(0.2)
    assert found.lengths.longest < 8192
    with pytest.raises(ValueError, match="no request fits"):
        demand_of([TraceRequest(0, 8000, 500)], window_s=10, late_share=0)


@given(st.lists(st.floats(0, 50), min_size=1, max_size=30).filter(any), st.floats(0, 0.2))
def test_no_more_come_late_than_was_allowed(rates: list[float], late_share: float) -> None:
    table = Rates(tuple(10.0 * place for place in range(len(rates))), tuple(rates))
    found = demand_of_rates(table, STEADY, late_share)
    windows = np.array(rates)
    assert found.per_s <= found.peak_per_s + 1e-9
    assert late_share_at(windows, found.per_s) <= late_share + 1e-6


def test_lengths_stand_for_all_the_longest_included() -> None:
    many = [TraceRequest(0, 10 + place % 997, 1 + place % 31) for place in range(5000)]
    found = lengths_of(many)
    assert len(found.prompt) <= 250
    assert found.longest == max(each.prompt_tokens + each.output_tokens for each in many)
    assert found.prompt.mean() == pytest.approx(np.mean([each.prompt_tokens for each in many]), rel=0.02)


def test_what_comes_by_chance_has_a_dispersion_of_one_and_bunches_as_many_as_they_are() -> None:
    rng = np.random.default_rng(1)
    chance = np.sort(rng.uniform(0, 3000, 9000))
    assert dispersion_of(chance, 30) == pytest.approx(1, abs=0.1)
    bunches = np.repeat(np.sort(rng.uniform(0, 3000, 1800)), 5)
    assert dispersion_of(bunches, 30) == pytest.approx(5, abs=0.6)
    assert dispersion_of(np.arange(300.0), 30) == 1
