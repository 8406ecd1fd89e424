"""Diffs that were looked at: a change that reaches further than before shows up in a review."""

import pytest

from tests.chart import golden_diffs

ALL = [(name, change) for name in golden_diffs.SETS for change in golden_diffs.CHANGES]


@pytest.mark.parametrize(("name", "change"), ALL)
def test_an_upgrade_changes_what_it_changed_when_it_was_looked_at(name: str, change: str) -> None:
    path = golden_diffs.FOLDER / f"{name}.{change}.diff"
    assert golden_diffs.diff(name, change) == path.read_text(encoding="utf-8"), (
        "look at the difference; if it is meant: python -m tests.chart.golden_diffs"
    )


def test_there_are_no_others() -> None:
    written = {path.name for path in golden_diffs.FOLDER.iterdir()}
    assert written == {f"{name}.{change}.diff" for name, change in ALL}


@pytest.mark.parametrize("name", golden_diffs.SETS)
def test_they_say_the_same_as_the_verdicts(name: str) -> None:
    """A price touches the two texts that hold the settings; a chart's version touches labels alone."""
    price = (golden_diffs.FOLDER / f"{name}.price-and-bounds.diff").read_text(encoding="utf-8")
    changed = {line[3:].split()[0] for line in price.splitlines() if line.startswith("== ")}
    assert changed - {"PodDisruptionBudget"} == {"ConfigMap", "RayService"}
    version = (golden_diffs.FOLDER / f"{name}.chart-version.diff").read_text(encoding="utf-8")
    lines = {line[1:].strip().partition(":")[0] for line in version.splitlines() if line[0] in "+-"}
    assert lines == {"helm.sh/chart", "app.kubernetes.io/version"}
