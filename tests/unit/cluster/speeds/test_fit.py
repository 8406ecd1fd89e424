"""Coefficients come back from steps that were made of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.speeds.fit import TimedStep, fit_steps

SHAPES = [(p, 0, 0) for p in (16, 64, 256, 512)] + [(0, n, n * c) for n in (1, 4, 16) for c in (20, 300, 1000)]
share = st.one_of(st.just(0.0), st.floats(0.01, 5))


@given(st.floats(1e-3, 0.1), share, share, share)
def test_what_steps_are_made_of_is_found(step_s: float, prompt: float, sequence: float, context: float) -> None:
    made = (step_s, prompt * 1e-4, sequence * 1e-3, context * 1e-6)
    steps = [TimedStep(p, n, c, made[0] + p * made[1] + n * made[2] + c * made[3]) for p, n, c in SHAPES]
    found = fit_steps(steps)
    assert found.error_share < 1e-6
    assert found.step_s == pytest.approx(made[0], rel=1e-4)
    assert found.prefill_s_per_token == pytest.approx(made[1], rel=1e-4, abs=1e-12)
    assert found.decode_s_per_sequence == pytest.approx(made[2], rel=1e-4, abs=1e-11)
    assert found.decode_s_per_context_token == pytest.approx(made[3], rel=1e-4, abs=1e-12)


def test_nothing_is_ever_below_nothing() -> None:
    steps = [TimedStep(p, n, c, max(1e-4, 0.01 - 1e-6 * c + 1e-5 * p)) for p, n, c in SHAPES]
    found = fit_steps(steps)
    assert min(found.step_s, found.prefill_s_per_token, found.decode_s_per_sequence) >= 0
    assert found.decode_s_per_context_token == 0


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        fit_steps([TimedStep(1, 0, 0, 0.1)])
