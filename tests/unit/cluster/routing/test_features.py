"""A text becomes the same numbers every time, whatever the text."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.routing.counts import NAMES, counts
from cluster.routing.features import WIDTH, Text, learn
from cluster.routing.grams import BUCKETS, MAX_BYTES, grams

TEXTS = st.text(max_size=200)


@given(TEXTS)
@example("")
@example("\x00\ufeff \u2028 🙂 1.5e400 9" + "9" * 400)
def test_any_text_has_grams_and_counts(text: str) -> None:
    found = grams(text)
    for buckets in (found.characters, found.words):
        assert ((buckets >= 0) & (buckets < BUCKETS)).all()
    numbers = counts(text, 7)
    assert len(numbers) == len(NAMES)
    assert np.isfinite(numbers).all()


def test_words_are_runs_and_signs() -> None:
    assert len(grams("what is 12+30?").words) == 6 + 5 + 4  # what is 00 + 00 ?
    assert np.array_equal(grams("What IS 12").words, grams("what is 99").words)
    assert not np.array_equal(grams("what is").words, grams("is what").words)


def test_of_a_long_text_both_ends_are_read() -> None:
    middle = "x" * 3 * MAX_BYTES
    long, other = grams("alpha " + middle + " omega"), grams("alpha " + middle + " other")
    assert len(long.characters) < 4 * MAX_BYTES
    assert not np.array_equal(np.sort(long.words), np.sort(other.words))


@given(TEXTS, st.lists(TEXTS, min_size=2, max_size=6))
def test_a_row_has_blocks_of_length_one(text: str, known: list[str]) -> None:
    row = learn([Text(each, 5) for each in known]).row(Text(text, 5))
    assert len(set(row.places.tolist())) == len(row.places)
    assert row.places.max() == WIDTH - 1
    for low, high in ((0, BUCKETS), (BUCKETS, 2 * BUCKETS)):
        block = row.values[(row.places >= low) & (row.places < high)]
        assert np.linalg.norm(block) < 1e-9 or abs(np.linalg.norm(block) - 1) < 1e-9
    assert np.isfinite(row.values).all()
