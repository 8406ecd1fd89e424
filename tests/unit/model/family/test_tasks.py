"""Tasks: the same from the same seed, unseen in training, graded strictly."""

import json
from dataclasses import replace
from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.family.evaluate import Result, evaluation_tasks, grade, score_table
from model.family.tasks.generator import draw, training_chats
from model.family.tasks.task import GRADED, LEVELS, Extract, Kind, belongs, held_out

SEEDS = st.integers(0, 2**32)


def test_the_same_seed_gives_the_same_tasks_and_chats() -> None:
    assert evaluation_tasks(66, 5) == evaluation_tasks(66, 5)
    assert list(islice(training_chats(5), 50)) == list(islice(training_chats(5), 50))
    assert evaluation_tasks(66, 5) != evaluation_tasks(66, 6)


def test_evaluation_is_balanced_over_kinds_and_levels() -> None:
    cells = [(task.kind, task.level) for task in evaluation_tasks(99, 0)]
    assert {cells.count((kind, level)) for kind in GRADED for level in LEVELS} == {3}


@given(SEEDS, st.sampled_from(GRADED), st.sampled_from(LEVELS))
def test_splits_never_share_a_content(seed: int, kind: Kind, level: int) -> None:
    unseen, seen = draw(Random(seed), kind, level, "eval"), draw(Random(seed), kind, level, "train")
    assert held_out(unseen.keys[0])
    assert not any(map(held_out, seen.keys))
    assert not belongs(unseen, "train")
    assert belongs(seen, "train")


@given(SEEDS, st.sampled_from(list(Kind)), st.sampled_from(LEVELS))
def test_the_reference_answer_is_right_and_an_empty_one_wrong(seed: int, kind: Kind, level: int) -> None:
    task = draw(Random(seed), kind, level, "train")
    assert grade(task, task.answer)
    assert not grade(task, "")
    assert not grade(task, "I do not know.")


@given(SEEDS, st.sampled_from(GRADED), st.sampled_from(LEVELS))
def test_the_answer_to_another_value_is_wrong(seed: int, kind: Kind, level: int) -> None:
    rng = Random(seed)
    task, other = draw(rng, kind, level, "train"), draw(rng, kind, level, "train")
    expect = json.dumps({"name": "nobody"}) if task.extract is Extract.JSON else task.expect + "1"
    assert not grade(replace(task, expect=expect), task.answer)
    if task.extract is other.extract and task.extract is not Extract.JSON and task.expect != other.expect:
        assert not grade(task, other.answer)


@given(SEEDS, st.sampled_from(list(Kind)), st.sampled_from(LEVELS))
def test_turns_alternate_and_a_question_comes_last(seed: int, kind: Kind, level: int) -> None:
    roles = [message["role"] for message in draw(Random(seed), kind, level, "train").messages]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


def test_arithmetic_is_right_by_another_road() -> None:
    for seed in range(200):
        task = draw(Random(seed), Kind.ARITHMETIC, 3, "train")
        left = task.answer.split(" is ")[0]
        first, sign, second = left.split()
        assert int(task.expect) == int(first) + (int(second) if sign == "+" else -int(second))


@pytest.mark.parametrize(
    ("extract", "expect", "right", "wrong"),
    [
        (Extract.LAST_NUMBER, "42", "12 + 30 is 42.", "12 + 30 is 420."),
        (Extract.FIRST_NUMBER, "12", "12 is larger than 7.", "7 is larger than 12."),
        (Extract.NUMBERS, "1,2,3", "In order: 1, 2, 3.", "In order: 1, 2, 3, 3."),
        (Extract.QUOTED, "gorf", 'It is "gorf".', "It is gorf."),
        (Extract.SPELLED, "f-r-o-g", "It is spelled f-r-o-g.", "It is spelled f-r-o-g-g."),
        (Extract.LAST_NAME, "Paris", "The capital of France is Paris.", "Paris is the capital of France."),
        (Extract.JSON, '{"a": 1, "b": 2}', '{"b": 2, "a": 1}', '{"a": 1, "b": "2"}'),
    ],
)
def test_values_are_read_strictly(extract: Extract, expect: str, right: str, wrong: str) -> None:
    task = replace(evaluation_tasks(1, 0)[0], extract=extract, expect=expect)
    assert grade(task, right)
    assert not grade(task, wrong)


def test_the_table_counts_by_kind_and_level() -> None:
    tasks = evaluation_tasks(66, 0)
    results = [Result(task, task.answer if task.level < 3 else "") for task in tasks]
    table = score_table(results)
    assert (table.overall.right, table.overall.tasks) == (44, 66)
    assert table.by_level[3].right == 0
    assert table.by_cell["json/1"].share == 1
    assert "| **all** | 1.00 | 1.00 | 0.00 | **0.667** |" in table.markdown()
