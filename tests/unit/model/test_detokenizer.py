"""Ids to text, piece by piece: nothing lost, nothing early, no part of a stop string."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from model.detokenizer import Detokenizer
from model.source import EMBEDDED_FOLDER

TOKENIZER = Tokenizer.from_file(str(EMBEDDED_FOLDER / "nano-2b" / "tokenizer.json"))


def ids_of(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False).ids)


def pieces_of(text: str, stop: list[str], sizes: list[int]) -> tuple[list[str], Detokenizer]:
    """Feed a text's ids in runs of the given sizes."""
    return pieces_of_ids(ids_of(text), stop, sizes)


def pieces_of_ids(ids: list[int], stop: list[str], sizes: list[int]) -> tuple[list[str], Detokenizer]:
    detokenizer = Detokenizer(TOKENIZER, stop)
    pieces: list[str] = []
    while ids:
        size = sizes[len(pieces) % len(sizes)] if sizes else 1
        pieces.append(detokenizer.feed(ids[:size]))
        ids = ids[size:]
    pieces.append(detokenizer.finish())
    return pieces, detokenizer


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\u2581"), max_size=60)
sizes = st.lists(st.integers(1, 4), min_size=1, max_size=5)


@given(texts, sizes)
def test_the_joined_pieces_are_the_whole_text(text: str, sizes: list[int]) -> None:
    pieces, _ = pieces_of(text, [], sizes)
    assert "".join(pieces) == TOKENIZER.decode(ids_of(text))


@given(st.lists(st.integers(0, TOKENIZER.get_vocab_size() - 1), max_size=30), sizes)
def test_any_ids_give_the_same_text_however_they_arrive(ids: list[int], sizes: list[int]) -> None:
    """Hot sampling makes broken bytes; they end in U+FFFD, never in an error."""
    at_once = Detokenizer(TOKENIZER)
    expected = at_once.feed(ids) + at_once.finish()
    pieces, _ = pieces_of_ids(ids, [], sizes)
    assert "".join(pieces) == expected
    whole = TOKENIZER.decode(ids)
    if "\ufffd" not in whole:
        assert expected == whole


def cut(text: str, stop: list[str]) -> str:
    """Text before the first stop string that the tokens complete, the earliest where one token completes several."""
    ids = ids_of(text)
    for end in range(1, len(ids) + 1):
        so_far = TOKENIZER.decode(ids[:end])
        found = [so_far.find(s) for s in stop if s in so_far]
        if found:
            return so_far[: min(found)]
    return TOKENIZER.decode(ids)


@given(
    st.text(alphabet="ab \n", max_size=40),
    st.lists(st.text(alphabet="ab \n", min_size=1, max_size=4), max_size=3),
    sizes,
)
def test_text_ends_before_the_first_stop_string(text: str, stop: list[str], sizes: list[int]) -> None:
    pieces, detokenizer = pieces_of(text, stop, sizes)
    joined = "".join(pieces)
    assert joined == cut(text, stop)
    assert detokenizer.stopped == any(s in TOKENIZER.decode(ids_of(text)) for s in stop)


def test_ids_after_a_stop_string_are_not_used() -> None:
    detokenizer = Detokenizer(TOKENIZER, ["b"])
    assert detokenizer.feed(ids_of("a") + ids_of("b") + ids_of("c")) == "a"
    assert detokenizer.num_ids == 2


def test_no_piece_ends_inside_a_character() -> None:
    pieces, _ = pieces_of("a😀b", [], [1])
    assert [piece for piece in pieces if piece] == ["a", "😀", "b"]


def test_a_possible_beginning_of_a_stop_string_is_held_back() -> None:
    detokenizer = Detokenizer(TOKENIZER, ["END"])
    assert detokenizer.feed(ids_of("xE")) == "x"
    assert detokenizer.feed(ids_of("N")) == ""
    assert detokenizer.feed(ids_of("x")) == "ENx"


def test_broken_bytes_at_the_end_become_the_replacement_character() -> None:
    detokenizer = Detokenizer(TOKENIZER)
    first_byte = ids_of("😀")[0]
    assert detokenizer.feed([first_byte]) == ""
    assert detokenizer.finish() == "\ufffd"


@pytest.mark.parametrize("token_id", [0, 1, 2, 106, 107])
def test_special_tokens_are_no_text(token_id: int) -> None:
    detokenizer = Detokenizer(TOKENIZER)
    assert detokenizer.feed([token_id, *ids_of("x")]) + detokenizer.finish() == "x"
