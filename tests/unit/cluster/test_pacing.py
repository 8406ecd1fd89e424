"""What is learned of a size's pace, on machines whose pace is known."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.line import Line
from cluster.pacing import Pacing
from cluster.snapshot import Pace, SizeState
from model.config import Size
from model.events import Usage
from tests.unit.cluster.facts import a_state

WAIT_S, PROMPT_S, TOKEN_S = 0.05, 0.002, 0.01


def answer(
    pacing: Pacing, prompt: int, expected: float, written: int, cached: int = 0, load: float = 0.0, speed: float = 1.0,
    usage: Usage | None = None,
) -> tuple[Pace | None, float]:  # fmt: skip
    """One answer of a machine that waits, reads and writes at fixed paces; the pace before it, and what it took."""
    state = state_of(pacing, load)
    run = pacing.begin(state, prompt, expected, 100.0)
    first_s = (WAIT_S + PROMPT_S * (prompt - cached) + TOKEN_S * (1 + load)) * speed
    run.seen(100.0 + first_s)
    run.seen(100.0 + first_s + (written - 1) * TOKEN_S * (1 + load) * speed)
    pacing.end(run, usage or Usage(prompt, written, cached))
    return state.pace, run.last_s - 100.0


def state_of(pacing: Pacing, load: float = 0.0) -> SizeState:
    state = a_state(Size.B2, load=load)
    return a_state(Size.B2, load=load, pace=pacing.pace(Size.B2, state.ongoing, state.slots))


def learned(pacing: Pacing, ongoing: int = 0) -> Pace:
    pace = pacing.pace(Size.B2, ongoing, 32)
    assert pace is not None
    return pace


def test_nothing_is_said_before_something_was_measured() -> None:
    pacing = Pacing()
    assert pacing.pace(Size.B2, 0, 32) is None
    for _ in range(3):
        answer(pacing, 20, 20, 20)
    assert learned(pacing).p90 is None
    assert pacing.pace(Size.B9, 0, 32) is None
    for _ in range(9):
        answer(pacing, 20, 20, 20)
    assert learned(pacing).p90 == pytest.approx(1.0, abs=0.05)


def test_wait_prompt_and_output_are_told_apart() -> None:
    pacing, chance = Pacing(), Random(1)
    for _ in range(200):
        answer(pacing, chance.randint(10, 400), 20, chance.randint(2, 60), load=chance.choice((0.0, 0.25, 0.5, 1.0)))
    pace = learned(pacing)
    assert pace.output_s_per_token == pytest.approx(TOKEN_S, rel=0.05)
    assert pace.prompt_s_per_token == pytest.approx(PROMPT_S, rel=0.05)
    assert pace.answer_s(100, 30) == pytest.approx(WAIT_S + 100 * PROMPT_S + 30 * TOKEN_S, rel=0.05)
    assert learned(pacing, 16).output_s_per_token == pytest.approx(1.5 * TOKEN_S, rel=0.05)


def test_what_is_usually_in_the_cache_is_not_read() -> None:
    pacing, chance = Pacing(), Random(1)
    for _ in range(100):
        prompt = 4 * chance.randint(10, 100)
        answer(pacing, prompt, 20, 20, cached=prompt * 3 // 4)
    assert learned(pacing).prompt_s_per_token == pytest.approx(PROMPT_S / 4, rel=0.1)


def test_who_stands_behind_a_full_batch_waits_for_a_share_of_an_answer() -> None:
    pacing = Pacing()
    for _ in range(20):
        answer(pacing, 20, 20, 20)
    alone, full, behind = (learned(pacing, ongoing).wait_s for ongoing in (0, 31, 63))
    assert alone == full
    assert behind - alone == pytest.approx(WAIT_S + 20 * PROMPT_S + 20 * TOKEN_S, rel=0.05)


def test_a_machine_that_slows_down_is_noticed() -> None:
    pacing = Pacing()
    for _ in range(200):
        answer(pacing, 20, 20, 20)
    for _ in range(300):
        answer(pacing, 20, 20, 20, speed=3.0)
    assert learned(pacing).output_s_per_token == pytest.approx(3 * TOKEN_S, rel=0.1)
    assert learned(pacing).p50 == pytest.approx(1.0, abs=0.1)


def test_answers_with_guesses_say_nothing_of_others() -> None:
    pacing = Pacing()
    for _ in range(20):
        answer(pacing, 20, 20, 20)
    before = learned(pacing)
    answer(pacing, 20, 20, 2000, usage=Usage(20, 2000, accepted_draft_tokens=1900))
    assert learned(pacing) == before


@pytest.mark.parametrize("spread", [0.2, 0.8])
def test_nine_of_ten_answers_take_no_longer_than_was_quoted(spread: float) -> None:
    """Lengths stray from what was predicted; the quote knows by how much."""
    pacing, chance, within = Pacing(), Random(2), []
    for _ in range(2000):
        expected = chance.uniform(5, 60)
        written = max(1, round(expected * chance.lognormvariate(0, spread)))
        prompt = chance.randint(10, 60)
        pace, took_s = answer(pacing, prompt, expected, written, speed=chance.uniform(0.9, 1.2))
        if pace is not None and pace.p90 is not None and pace.p50 is not None:
            expected_s = pace.answer_s(prompt, expected)
            within.append((took_s <= pace.p50 * expected_s, took_s <= pace.p90 * expected_s))
    half, most = (sum(share) / len(within) for share in zip(*within, strict=True))
    assert half == pytest.approx(0.5, abs=0.03)
    assert most == pytest.approx(0.9, abs=0.02)


def test_nine_of_ten_answers_keep_their_quote_on_a_machine_that_gets_busy_again_and_again() -> None:
    """For 200 answers it slows down to a sixth, then it is calm at once. Without moving the ranks 0.884 are kept."""
    pacing, chance, within = Pacing(), Random(1), []
    for index in range(3000):
        expected = chance.uniform(5, 60)
        written = max(1, round(expected * chance.lognormvariate(0, 0.2)))
        pace, took_s = answer(pacing, 20, expected, written, speed=1 + 5 * (index % 200) / 200)
        if pace is not None and pace.p90 is not None:
            within.append(took_s <= pace.p90 * pace.answer_s(20, expected))
    assert sum(within) / len(within) == pytest.approx(0.9, abs=0.01)


@given(
    st.lists(st.tuples(st.integers(1, 8000), st.integers(1, 500), st.floats(0, 100), st.floats(0, 3)), max_size=60),
    st.integers(0, 200), st.integers(0, 200),
)  # fmt: skip
def test_a_pace_is_never_negative_and_never_better_for_more_company(
    seen: list[tuple[int, int, float, float]], one: int, two: int
) -> None:
    pacing = Pacing()
    for prompt, written, took_s, load in seen:
        run = pacing.begin(state_of(pacing, load), prompt, 20.0, 5.0)
        run.seen(5.0 + took_s / 3)
        run.seen(5.0 + took_s)
        pacing.end(run, Usage(prompt, written))
    paces = [pacing.pace(Size.B2, ongoing, 32) for ongoing in sorted((one, two))]
    for pace in paces:
        assert pace is None or min(pace.wait_s, pace.prompt_s_per_token, pace.output_s_per_token) >= 0
    quiet, busy = paces
    if quiet is not None and busy is not None:
        assert quiet.output_s_per_token <= busy.output_s_per_token + 1e-9
        assert quiet.answer_s(100, 50) <= busy.answer_s(100, 50) + 1e-6


def test_a_line_without_slope_is_a_mean_and_an_outlier_does_not_bend_it() -> None:
    line = Line(1.0)
    assert line.at(5.0) == 0.0
    for _ in range(20):
        line.add(3.0, 2.0)
    assert line.at(100.0) == pytest.approx(2.0)
    line.add(3.0, 1000.0)
    assert line.at(3.0) < 3.0
