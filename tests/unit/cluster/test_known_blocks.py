"""What a router believes of a replica's cache."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.known_blocks import KnownBlocks
from model.marks import is_mark

PROMPT = tuple(range(100, 150))
LATER_S = 1000.0


def marks(names: tuple[int, ...]) -> frozenset[int]:
    return frozenset(name for depth, name in enumerate(names, start=1) if is_mark(depth))


def test_nothing_is_known_of_a_new_replica() -> None:
    assert KnownBlocks().leading(PROMPT, 0.0) == 0


def test_what_was_sent_is_believed_at_once() -> None:
    known = KnownBlocks()
    known.sent(PROMPT, 0.0)
    assert known.leading(PROMPT, 0.0) == 50
    assert known.leading((*PROMPT[:20], 1, 2, 3), 0.0) == 20


@given(st.integers(0, 50))
def test_a_report_of_another_routers_prompt_is_known_to_a_fifth(depth: int) -> None:
    known = KnownBlocks()
    known.told(marks(PROMPT[:depth]), True, 2048)
    assert depth * 0.8 <= known.leading(PROMPT, LATER_S) <= depth


@given(st.integers(0, 50))
def test_what_a_replica_no_longer_tells_of_is_forgotten(kept: int) -> None:
    known = KnownBlocks()
    known.sent(PROMPT, 0.0)
    known.told(marks(PROMPT[:kept]), True, 2048)
    assert kept <= known.leading(PROMPT, LATER_S) <= max(7, kept * 1.25)
    known.told(frozenset(), True, 2048)
    assert known.leading(PROMPT, LATER_S) == 0


def test_a_report_that_cannot_have_it_yet_does_not_count_against_a_send() -> None:
    known = KnownBlocks()
    known.told(frozenset(), True, 2048)
    known.sent(PROMPT, 0.0)
    assert known.leading(PROMPT, 1.0) == 50


def test_a_report_of_a_part_does_not_count_against_the_rest() -> None:
    known = KnownBlocks()
    known.sent(PROMPT, 0.0)
    known.told(frozenset({7}), False, 2048)
    assert known.leading(PROMPT, LATER_S) == 50


def test_no_more_is_remembered_than_the_replica_can_keep_and_heads_last() -> None:
    known = KnownBlocks()
    known.told(frozenset(), False, 10)
    known.sent(PROMPT, 0.0)
    assert known.leading(PROMPT, 0.0) == 10
