"""Watched promises: what is surely broken asks for more, what is surely more than kept for less."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config import Tier
from cluster.promise_watch import FURTHEST, PromiseWatch

PROMISED = {Tier.ECONOMY: 0.0, Tier.BALANCED: 0.8, Tier.AUTO: 0.95}


def fed(share: float, answers: int, seed: int = 0) -> PromiseWatch:
    watch, rng = PromiseWatch(PROMISED), random.Random(seed)
    for _ in range(answers):
        watch.saw(Tier.BALANCED, rng.random() < share)
    return watch


def test_a_broken_promise_asks_for_more_and_a_generous_one_for_less() -> None:
    assert fed(0.6, 200).asked(Tier.BALANCED, 0.8) > 0.8
    assert fed(0.99, 400).asked(Tier.BALANCED, 0.8) < 0.8


@pytest.mark.parametrize("seed", range(5))
def test_a_kept_promise_stays(seed: int) -> None:
    assert abs(fed(0.8, 400, seed).asked(Tier.BALANCED, 0.8) - 0.8) <= 0.021


def test_few_answers_prove_nothing() -> None:
    assert fed(0.0, 20).asked(Tier.BALANCED, 0.8) == 0.8


def test_other_tiers_and_those_without_a_promise_are_left_alone() -> None:
    watch = fed(0.0, 300)
    watch.saw(Tier.ECONOMY, False)
    assert watch.asked(Tier.AUTO, 0.95) == 0.95
    assert watch.asked(Tier.ECONOMY, 0.0) == 0.0
    assert set(watch.kept()) == {Tier.BALANCED, Tier.AUTO}


@given(st.lists(st.booleans(), max_size=300))
def test_a_shift_has_bounds_and_an_interval_holds_its_share(answers: list[bool]) -> None:
    watch = PromiseWatch(PROMISED)
    for answer in answers:
        watch.saw(Tier.AUTO, answer)
    kept = watch.kept()[Tier.AUTO]
    assert abs(kept.shift) <= FURTHEST
    assert 0 <= kept.low <= kept.high <= 1
    assert 0 < watch.asked(Tier.AUTO, 0.95) <= 1
    if kept.answers:
        assert kept.low - 1e-9 <= kept.share <= kept.high + 1e-9


def test_what_was_seen_long_ago_fades() -> None:
    watch = fed(0.8, 2000)
    for _ in range(400):
        watch.saw(Tier.BALANCED, True)
    assert watch.kept()[Tier.BALANCED].share > 0.85 or watch.kept()[Tier.BALANCED].shift < 0
