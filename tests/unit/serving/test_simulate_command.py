"""`gemmule simulate`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving.main import app

TRACE = str(Path(__file__).parents[2] / "data" / "traces" / "azure_conv_2023_300.csv.gz")


def call(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["simulate", TRACE, *words])
    return result.exit_code, result.stdout, result.stderr


def test_policies_are_compared_in_a_table_and_a_plot(tmp_path: Path) -> None:
    plot = tmp_path / "plot.png"
    code, table, _ = call("--policy", "auto,largest", "--replicas", "2b=1-3,9b=1-2,27b=1", "--plot", str(plot))
    assert code == 0
    assert all(word in table for word in ("auto", "largest", "premium", "in time", "quality"))
    assert plot.stat().st_size > 10_000


def test_json_has_every_figure() -> None:
    code, told, _ = call("--policy", "fixed,power-of-two", "--json", "--failures", "30", "--faster", "2")
    assert code == 0
    found = json.loads(told)
    assert set(found) == {"fixed", "power-of-two"}
    assert found["fixed"]["requests"]["all"]["requests"] == 300
    assert found["fixed"]["sizes"]["2b"]["device_s"] > 0


def test_a_table_of_rates_needs_lengths(tmp_path: Path) -> None:
    rates = tmp_path / "rates.csv"
    rates.write_text("timestamp_s,total_rate_rps\n0,2\n60,4\n120,1\n")
    result = CliRunner().invoke(app, ["simulate", str(rates), "--json"])
    assert result.exit_code == 2
    assert "--like TRACE" in result.stderr
    result = CliRunner().invoke(app, ["simulate", str(rates), "--like", TRACE, "--json", "--policy", "fixed"])
    assert result.exit_code == 0
    assert 200 < json.loads(result.stdout)["fixed"]["requests"]["all"]["requests"] < 650


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--policy", "magic"), "--policy: magic is unknown"),
        (("--replicas", "2b=x"), "write 2b=1-4,27b=2"),
        (("--replicas", "2b=3-1"), "least first"),
        (("--device", "abacus"), "abacus"),
        (("--device", "l4-24gb"), "sizes.27b"),
        (("--begin", "99"), "nothing of the trace is left"),
    ],
)
def test_what_makes_no_sense_is_named(words: tuple[str, ...], said: str) -> None:
    code, _, errors = call(*words)
    assert code == 2
    assert said in errors
