"""What one replica carries: limits that are known without a model, and directions."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.planning.capacity import Bound, Slo, carried, expected, normal
from cluster.planning.demand import Bursts, Lengths
from cluster.speed import Speed
from model.config import Size

SPEED = Speed(Size.B9, "h100-80gb", 1, None, 0.013, 44e-6, 47e-6, 171e-9, 256, 150_000, 1024)
LENGTHS = Lengths(np.array([100.0, 800.0, 1500.0, 4000.0]), np.array([20.0, 150.0, 300.0, 400.0]))
SLO = Slo(0.95, ttft_s=2.0, tpot_s=0.1)


def test_a_replica_with_nobody_on_it_takes_the_seconds_of_its_steps() -> None:
    found = expected(SPEED, LENGTHS, SLO, 1e-9)
    assert found is not None
    assert found.step_s == pytest.approx(SPEED.step_s)
    assert found.decoding == pytest.approx(0, abs=1e-6)
    assert found.kept == pytest.approx(np.ones(4))


def test_no_more_is_carried_than_there_are_seconds() -> None:
    contexts = LENGTHS.prompt + LENGTHS.output / 2
    decode = SPEED.decode_s_per_sequence + contexts * SPEED.decode_s_per_context_token
    work_s = float((LENGTHS.prompt * SPEED.prefill_s_per_token + LENGTHS.output * decode).mean())
    free = Slo(0.5)
    unbound = replace(SPEED, slots=10_000_000, kv_tokens=10**12)
    assert carried(unbound, LENGTHS, free).per_s <= 1 / work_s
    assert expected(SPEED, LENGTHS, SLO, 1 / work_s) is None


def test_what_is_scarce_is_named() -> None:
    assert carried(replace(SPEED, kv_tokens=12_000), LENGTHS, SLO).bound is Bound.KV
    assert carried(replace(SPEED, slots=4), LENGTHS, SLO).bound is Bound.SLOTS
    assert carried(SPEED, LENGTHS, replace(SLO, ttft_s=0.4)).bound is Bound.TTFT
    assert carried(SPEED, LENGTHS, replace(SLO, tpot_s=0.016)).bound is Bound.TPOT


def test_what_a_lone_request_does_not_keep_nothing_keeps() -> None:
    found = carried(SPEED, LENGTHS, replace(SLO, ttft_s=0.05))
    assert found.per_s == 0
    assert found.share < 0.95


@settings(max_examples=60, deadline=None)
@given(st.floats(0.2, 5), st.floats(0.03, 0.3), st.floats(1.01, 3))
def test_looser_promises_and_faster_replicas_carry_no_less(ttft_s: float, tpot_s: float, factor: float) -> None:
    slo = Slo(0.95, ttft_s, tpot_s)
    now = carried(SPEED, LENGTHS, slo).per_s
    faster = replace(SPEED, step_s=SPEED.step_s / factor, prefill_s_per_token=SPEED.prefill_s_per_token / factor)
    assert carried(SPEED, LENGTHS, slo.looser(factor)).per_s >= now * 0.999
    assert carried(faster, LENGTHS, slo).per_s >= now * 0.999
    assert carried(replace(SPEED, kv_tokens=10**7), LENGTHS, slo).per_s >= now * 0.999


@given(st.floats(1, 10), st.floats(1, 3), st.floats(0.1, 50))
def test_bunches_carry_no_more_and_the_less_of_a_bunch_comes_the_better(
    dispersion: float, factor: float, per_s: float
) -> None:
    now = carried(SPEED, LENGTHS, SLO, Bursts(dispersion, per_s)).per_s
    assert carried(SPEED, LENGTHS, SLO, Bursts(dispersion * factor, per_s)).per_s <= now * 1.001
    assert carried(SPEED, LENGTHS, SLO, Bursts(dispersion, per_s * factor)).per_s >= now * 0.999
    assert now <= carried(SPEED, LENGTHS, SLO).per_s * 1.001


def test_the_normal_distribution_is_near_enough() -> None:
    known = {-2.326: 0.01, -1.0: 0.1587, 0.0: 0.5, 1.0: 0.8413, 2.326: 0.99}
    assert normal(np.array(list(known))) == pytest.approx(list(known.values()), abs=2e-4)
