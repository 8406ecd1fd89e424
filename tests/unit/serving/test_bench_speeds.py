"""`gemmule bench speeds`: from the embedded 2B's own steps to a file that plans can be made with."""

from pathlib import Path

from typer.testing import CliRunner

from cluster.speeds.file import Mark, read_speeds
from cluster.speeds.lookup import speed_of
from model.config import Size
from serving.main import app

RUNNER = CliRunner()
TRACE = str(Path(__file__).parents[2] / "data" / "traces" / "azure_conv_2023_300.csv.gz")
CONFIG = """
cluster:
  sizes:
    2b: {source: "embedded:nano-2b", usd_per_mtoken: 0.1}
  tiers:
    auto: {quality_share: 0.0}
"""


def test_steps_are_timed_and_written_as_measured(tmp_path: Path) -> None:
    config, out = tmp_path / "gemmule.yaml", tmp_path / "speeds.json"
    config.write_text(CONFIG)
    done = RUNNER.invoke(app, ["bench", "speeds", "--config", str(config), "--out", str(out), "--rounds", "1"])
    assert done.exit_code == 0, done.output + done.stderr
    speeds = read_speeds(str(out))
    (row,) = speeds.measured
    assert (row.mark, row.checkpoint, row.steps) == (Mark.MEASURED, "embedded:nano-2b", 14)
    assert row.step_s + row.prefill_s_per_token + row.decode_s_per_sequence > 0
    assert set(row.cold_start_s) >= {"weights", "gate"}
    found = speed_of(speeds, Size.B2, "cpu", 1, None)
    assert found is not None
    assert found[1] is Mark.MEASURED
    assert speed_of(speeds, Size.B9, "cpu", 1, None) is None
    mix = ["--mix", "economy=1", "--sizes", "2b", "--slo", "ttft=60,tpot=5", "--scale", "0.001"]
    done = RUNNER.invoke(app, ["plan", "--trace", TRACE, "--speeds", str(out), "--gpus", "cpu", *mix])
    assert done.exit_code == 0, done.output + done.stderr
    assert "none was measured" not in done.output


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = tmp_path / "gemmule.yaml"
    config.write_text(CONFIG.replace("embedded:nano-2b", str(tmp_path / "none")))
    done = RUNNER.invoke(app, ["bench", "speeds", "--config", str(config), "--out", str(tmp_path / "speeds.json")])
    assert done.exit_code == 1
    assert "none" in done.stderr
