"""Labels from how the largest size reads the others' answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.routing.agreement import MARGIN, Compared, Heard, agrees, closed, labels_of, regret
from cluster.routing.labels import LabelsError
from model.config import END_OF_TURN_ID, EOS_ID, STOP_IDS, Size

SIZES = tuple(Size)
LOGPROB = st.floats(-30, 0)
HEARD = st.builds(Heard, st.integers(0, 500), st.booleans(), st.floats(0, 20))


def a_prompt(number: int, small: float, middle: float = 0.0) -> Compared:
    heard = {Size.B2: Heard(9, True, small), Size.B9: Heard(10, True, middle), Size.B27: Heard(11, True, 0.0)}
    return Compared(f"prompt {number}", 20 + number, "auto", heard)


@given(st.lists(st.tuples(LOGPROB, LOGPROB).map(sorted), max_size=20))
def test_regret_is_that_of_the_worst_token_and_never_negative(pairs: list[list[float]]) -> None:
    found = regret([written for written, _ in pairs], [best for _, best in pairs])
    assert found >= 0
    assert all(best - written <= found for written, best in pairs)
    assert not pairs or any(best - written == found for written, best in pairs)


@given(st.lists(st.integers(0, 300)), st.booleans())
def test_an_answer_that_ended_has_one_end(ids: list[int], ended: bool) -> None:
    whole = closed(ids, ended)
    assert whole[: len(ids)] == tuple(ids)
    assert len(whole) - len(ids) == int(ended and not (ids and ids[-1] in STOP_IDS))
    assert not ended or whole[-1] in STOP_IDS
    assert closed(whole, ended) == whole


def test_both_ends_of_a_turn_are_known() -> None:
    assert closed((5,), ended=True) == (5, END_OF_TURN_ID)
    assert closed((5, EOS_ID), ended=True) == (5, EOS_ID)
    assert closed((5,), ended=False) == (5,)


@given(HEARD, HEARD, st.floats(0, 20), st.floats(0, 20))
def test_a_wider_margin_never_takes_a_label_back(answer: Heard, own: Heard, one: float, two: float) -> None:
    narrow, wide = sorted((one, two))
    assert agrees(answer, own, wide) or not agrees(answer, own, narrow)


def test_an_answer_without_end_agrees_only_with_another() -> None:
    endless, ended = Heard(512, False, 0.0), Heard(40, True, 0.0)
    assert not agrees(endless, ended)
    assert agrees(endless, endless)
    assert agrees(ended, endless)


def test_labels_have_what_a_file_of_grades_has() -> None:
    compared = [a_prompt(number, small=MARGIN + 0.1 if number % 3 else MARGIN) for number in range(60)]
    labels = labels_of(compared, SIZES)
    assert (len(labels), labels.sizes, set(labels.groups)) == (60, SIZES, {"auto"})
    assert labels.right[:, 0].sum() == 20
    assert labels.right[:, 1:].all()
    assert np.array_equal(labels.output_tokens[0], [9, 10, 11])
    assert labels.prompt_tokens[5] == 25
    assert labels_of(compared, SIZES, margin=0.0).right[:, 0].sum() == 0
    assert labels_of(compared, SIZES).sha256 == labels.sha256
    assert labels_of(compared[::-1], SIZES).sha256 != labels.sha256


def test_the_largest_is_right_by_definition() -> None:
    odd = {Size.B9: Heard(5, True, 0.0), Size.B27: Heard(5, False, 7.0)}
    labels = labels_of([Compared("x", 1, "27b", odd)] * 50, (Size.B9, Size.B27))
    assert labels.right[:, 1].all()


def test_too_few_prompts_are_refused() -> None:
    with pytest.raises(LabelsError, match="49 prompts are too few"):
        labels_of([a_prompt(number, 0.0) for number in range(49)], SIZES)
