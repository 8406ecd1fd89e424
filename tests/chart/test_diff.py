"""`gemmule diff` on values of the chart: the verdicts of the table of upgrades, setting by setting, and their cost."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from cluster.change import Kind
from serving.cli.chart_diff import Chart, chart_changes
from serving.cli.diff import diff
from tests.chart import tools

MINIMAL = {"image": {"repository": "registry.example/gemmule", "tag": "0.1.0"}}
SIZES = "config.cluster.sizes"


@pytest.fixture(scope="module")
def chart() -> Chart:
    return Chart(tools.CHART)


@pytest.fixture(autouse=True)
def helm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELM", str(tools.binary("helm")))


@pytest.mark.parametrize(
    ("path", "value", "kind"),
    [
        (f"{SIZES}.2b.usd_per_mtoken", 0.2, Kind.LIVE),
        ("config.cluster.tiers", {"economy": {"quality_share": 0.1}}, Kind.LIVE),
        (f"{SIZES}.9b.replicas.max_replicas", 3, Kind.SCALE),
        (f"{SIZES}.9b.revision", "abc", Kind.REPLACE),
        (f"{SIZES}.9b", None, Kind.EVERYTHING),
        (f"{SIZES}.27b.tensor_parallel", 1, Kind.SECOND_CLUSTER),
        ("config.server.http_port", 8001, Kind.SECOND_CLUSTER),
        ("image.pullPolicy", "Always", Kind.SECOND_CLUSTER),
        ("sizes.2b.groupMax", 17, Kind.LATER),
        ("networkPolicy.enabled", False, Kind.LIVE),
        ("fullnameOverride", "other", Kind.REFUSED),
    ],
)
def test_each_setting_has_its_own_verdict(chart: Chart, path: str, value: Any, kind: Kind) -> None:
    changed = tools.nested(path, value)
    changed["image"] = MINIMAL["image"] | changed.get("image", {})
    changes = chart_changes(MINIMAL, changed, chart)
    assert {change.kind for change in changes if change.path.startswith(path)} == {kind}


def test_an_image_is_in_vain_where_the_strategy_is_none(chart: Chart) -> None:
    old = MINIMAL | {"upgradeStrategy": "None"}
    new = {**old, "image": MINIMAL["image"] | {"tag": "0.1.1"}}
    assert [change.kind for change in chart_changes(old, new, chart)] == [Kind.IGNORED]


@pytest.mark.parametrize(
    ("new", "status", "devices", "steps"),
    [
        ({}, 0, (4, 4), []),
        (tools.nested(f"{SIZES}.2b.usd_per_mtoken", 0.2), 0, (4, 4), []),
        (tools.nested(f"{SIZES}.9b.revision", "abc"), 10, (4, 4), ["9b"]),
        ({"image": {"repository": "registry.example/gemmule", "tag": "0.1.1"}}, 20, (4, 8), []),
    ],
)
def test_the_command_says_what_it_costs(
    tmp_path: Path, new: dict[str, Any], status: int, devices: tuple[int, int], steps: list[str]
) -> None:
    old, other = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(yaml.safe_dump(MINIMAL))
    other.write_text(yaml.safe_dump(MINIMAL | new))
    out = Console(file=io.StringIO(), width=200)
    assert diff(old, other, tools.CHART, None, True, out) == status
    report = json.loads(out.file.getvalue())  # type: ignore[attr-defined]
    assert (report["devices_now"], report["devices_peak"]) == devices
    assert [step["size"] for step in report["steps"]] == steps


def test_settings_and_values_are_not_compared(tmp_path: Path) -> None:
    old, other = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(yaml.safe_dump(MINIMAL))
    other.write_text("server: {http_port: 8001}\n")
    out = Console(file=io.StringIO(), width=200)
    assert diff(old, other, tools.CHART, None, False, out) == 2
    assert "compare two of one kind" in out.file.getvalue()  # type: ignore[attr-defined]
