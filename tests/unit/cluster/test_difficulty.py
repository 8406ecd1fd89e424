"""Difficulty is a number in [0, 1] that grows with what makes tasks harder."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.difficulty import difficulty


@given(st.text(max_size=5000), st.integers(1, 50), st.integers(0, 8192))
def test_difficulty_is_always_a_share(text: str, turns: int, tokens: int) -> None:
    assert 0.0 <= difficulty(text, turns, tokens) <= 1.0


def test_longer_numbers_are_harder() -> None:
    assert difficulty("What is 3 + 4?", 1, 10) < difficulty("What is 312 + 478?", 1, 10)


def test_sorting_is_harder_than_greeting() -> None:
    assert difficulty("hello", 1, 5) < difficulty("Sort these numbers: 5, 3, 9, 1", 1, 20)


def test_a_follow_up_is_harder_than_a_first_question() -> None:
    assert difficulty("And if you add 5?", 1, 30) < difficulty("And if you add 5?", 2, 30)
