"""Which of the libraries that were built ahead a processor gets."""

import itertools
from pathlib import Path

import pytest

from model.kernels.levels import LEVELS, Level, best


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for level in LEVELS:
        level.file(tmp_path).touch()
    return tmp_path


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_the_best_that_the_processor_can_run(folder: Path, level: Level) -> None:
    assert best(level.needs | {"sse2"}, folder) == level.file(folder)
    missing = sorted(level.needs)[0]
    assert best(level.needs - {missing}, folder) != level.file(folder)


def test_each_needs_less_than_the_one_before() -> None:
    assert all(worse.needs < better.needs for better, worse in itertools.pairwise(LEVELS))


def test_none_where_none_would_run_or_none_was_built(folder: Path, tmp_path: Path) -> None:
    assert best({"sse2", "avx"}, folder) is None
    assert best(LEVELS[0].needs, tmp_path / "empty") is None


def test_another_is_taken_where_the_best_was_not_built(folder: Path) -> None:
    LEVELS[0].file(folder).unlink()
    assert best(LEVELS[0].needs, folder) == LEVELS[1].file(folder)
