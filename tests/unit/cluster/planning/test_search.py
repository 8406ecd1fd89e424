"""The search against trying everything, on small random cases."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.config import Tier
from cluster.planning.candidates import Candidate, unbeaten
from cluster.planning.capacity import Bound
from cluster.planning.mixes import Mix
from cluster.planning.problem import Problem
from cluster.planning.search import cheapest, key_of
from cluster.speed import Speed
from cluster.speeds.file import Mark
from model.config import Quantization, Size
from tests.unit.cluster.planning.brute import everything

KINDS = {"large": 3.0, "small": 0.7}
PRECISIONS = (None, Quantization.INT8, Quantization.INT4)


def a_candidate(size: Size, kind: str, degree: int, quantization: Quantization | None, per_s: float) -> Candidate:
    speed = Speed(size, kind, degree, quantization, 0.01, 1e-5, 1e-5, 1e-8, 64, 100_000, 1024)
    return Candidate(speed, Mark.CALCULATED, KINDS[kind] * degree, per_s, Bound.TPOT)


@st.composite
def candidates_of(draw: st.DrawFn, size: Size) -> tuple[Candidate, ...]:
    ways = st.tuples(st.sampled_from(list(KINDS)), st.sampled_from((1, 2, 4)), st.sampled_from(PRECISIONS))
    chosen = draw(st.lists(ways, max_size=5, unique=True))
    return tuple(a_candidate(size, *way, draw(st.floats(0.05, 20))) for way in chosen)


@st.composite
def mixes_of(draw: st.DrawFn, served: tuple[Size, ...]) -> tuple[Mix, ...]:
    thresholds = sorted(draw(st.sets(st.sampled_from((0.0, 0.5, 0.8, 0.9, 1.0)), max_size=3)))
    found = []
    for threshold in thresholds:
        parts = [draw(st.integers(0, 4)) for _ in served]
        total = sum(parts)
        shares = [part / total for part in parts] if total else [1.0, *[0.0] * (len(served) - 1)]
        found.append(Mix(threshold, draw(st.floats(0.4, 1.0)), dict(zip(served, shares, strict=True))))
    return tuple(found)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    tiers = draw(st.lists(st.sampled_from(list(Tier)), min_size=1, max_size=3, unique=True))
    weights = [draw(st.integers(1, 5)) for _ in tiers]
    sets = [served for count in (1, 2, 3) for served in combinations(Size, count)]
    return Problem(
        per_s=draw(st.floats(0.01, 60)),
        traffic={tier: weight / sum(weights) for tier, weight in zip(tiers, weights, strict=True)},
        candidates={size: draw(candidates_of(size)) for size in Size},
        mixes={served: {tier: draw(mixes_of(served)) for tier in tiers} for served in sets},
        devices={kind: draw(st.none() | st.integers(0, 12)) for kind in KINDS},
    )


@settings(max_examples=250, deadline=None)
@given(problems())
def test_the_answer_is_that_of_trying_everything(problem: Problem) -> None:
    plan, every = cheapest(problem), everything(problem)
    assert (plan is None) == (not every)
    if plan is not None:
        usd, bits, quality, devices = min(every)
        assert key_of(plan)[:4] == pytest.approx((usd, bits, quality, devices), abs=1e-9)
        for kind, most in problem.devices.items():
            assert most is None or plan.by_kind().get(kind, 0) <= most


@settings(max_examples=60, deadline=None)
@given(problems())
def test_candidates_that_are_beaten_are_not_missed(problem: Problem) -> None:
    fewer = {size: unbeaten(able) for size, able in problem.candidates.items()}
    less = Problem(problem.per_s, problem.traffic, fewer, problem.mixes, problem.devices)
    plan, every = cheapest(less), everything(problem)
    assert (plan is None) == (not every)
    if plan is not None:
        assert key_of(plan)[:2] == pytest.approx(min(every)[:2], abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_one_size_alone_is_never_cheaper(problem: Problem) -> None:
    plan, alone = cheapest(problem), cheapest(problem, alone=True)
    if alone is not None:
        assert plan is not None
        assert len(alone.parts) == 1
        assert key_of(plan) <= key_of(alone)


@settings(max_examples=60, deadline=None)
@given(problems(), st.floats(0.1, 1))
def test_less_to_do_is_never_dearer(problem: Problem, share: float) -> None:
    less = Problem(problem.per_s * share, problem.traffic, problem.candidates, problem.mixes, problem.devices)
    plan, smaller = cheapest(problem), cheapest(less)
    if plan is not None:
        assert smaller is not None
        assert smaller.usd_per_hour <= plan.usd_per_hour + 1e-9
