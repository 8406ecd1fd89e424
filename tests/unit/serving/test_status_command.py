"""`gemmule status` in the terminal."""

from dataclasses import asdict

from rich.console import Console

from serving.cli.status import engines, scaling
from tests.fakes.router import some_stats


def test_a_line_per_replica_says_how_full_it_is_and_where_its_time_goes() -> None:
    replicas = [{"replica": "2b#0", "stats": asdict(some_stats())}, {"replica": "2b#1", "stats": None}]
    console = Console(record=True, width=160)
    console.print(engines({"sizes": [{"replicas": replicas}, {"replicas": []}]}))
    _, line = console.export_text().splitlines()
    assert line.split("  ")[0] == "2b#0"
    words = [word for word in line.split("  ") if word.strip()]
    assert [word.strip() for word in words] == [
        "2b#0", "3/2", "900 / 1,000", "25.0%", "10.0", "5.0%", "80.0%", "10.0%", "5.0%"
    ]  # fmt: skip


def test_what_scaling_decided_is_a_line_for_each_size() -> None:
    size = {"size": "9b", "target": 2, "wanted": 3, "running": 1, "starting": 1, "draining": 0, "reason": "3 needed"}
    console = Console(record=True, width=100)
    console.print(scaling({"scaling": {"sizes": [size]}}))
    _, line = console.export_text().splitlines()
    assert line.split() == ["9b", "2", "3", "1", "1", "0", "3", "needed"]
