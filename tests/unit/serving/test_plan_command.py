"""`gemmule plan` as a person or a script calls it."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from serving.config import load
from serving.main import app

RUNNER = CliRunner()
TRACE = str(Path(__file__).parents[2] / "data" / "traces" / "azure_conv_2023_300.csv.gz")


def run(*arguments: str) -> tuple[int, str]:
    done = RUNNER.invoke(app, ["plan", "--trace", TRACE, *arguments])
    return done.exit_code, done.output + done.stderr


def test_a_plan_says_what_runs_what_binds_and_what_nobody_measured() -> None:
    code, said = run("--gpus", "h100-80gb,l4-24gb")
    assert code == 0, said
    for words in ("requests/s", "premium", "cheaper if", "27b alone:", "none was measured", "prices are examples"):
        assert words in said


def test_values_load_as_settings_and_json_agrees_with_them(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    code, said = run("--gpus", "h100-80gb:4", "--json", "--values", str(values), "--plot", str(tmp_path / "plan.png"))
    assert code == 0, said
    plan = json.loads(said[: said.rindex("}") + 1])["plan"]
    tree = yaml.safe_load(values.read_text())
    tree["config"]["cluster"]["sizes"] = {k: v for k, v in tree["config"]["cluster"]["sizes"].items() if v}  # as helm
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(tree["config"]))
    settings = load(tmp_path / "settings.yaml").cluster
    assert {str(size) for size in settings.sizes} == set(plan["sizes"])
    for size, config in settings.sizes.items():
        assert config.replicas.max_replicas == plan["sizes"][size]["replicas"]
        assert config.tensor_parallel == plan["sizes"][size]["ranks"]
    assert (tmp_path / "plan.png").stat().st_size > 10_000


def test_a_check_replays_the_trace() -> None:
    code, said = run("--gpus", "h100-80gb", "--check")
    assert code == 0, said
    assert "kept in the simulator" in said


def test_your_own_prices_are_no_examples() -> None:
    code, said = run("--gpus", "h100-80gb", "--price", "h100-80gb=2.25")
    assert code == 0, said
    assert "prices are examples" not in said


def test_what_cannot_be_is_refused_with_the_nearest() -> None:
    code, said = run("--gpus", "a100-40gb:1", "--precision", "bf16", "--sizes", "27b", "--scale", "0.02")
    assert code == 1
    assert "needs 56.7 GB" in said
    assert "int8 allowed: 1 × 27b int8 on 1 × a100-40gb" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--gpus", "b200"), "--gpus: 'b200' is unknown"),
        (("--gpus", "h100-80gb:none"), "--gpus: 'h100-80gb:none' needs a number"),
        (("--gpus", "l4-24gb", "--slo", "ttft=soon"), "--slo: 'ttft=soon' needs a number"),
        (("--gpus", "l4-24gb", "--slo", "share=0.9"), "has no time"),
        (("--gpus", "l4-24gb", "--slo", "ttft=2,share=1"), "share=1 has to lie between"),
        (("--gpus", "l4-24gb", "--mix", "economy=0.5"), "are 0.5 in sum"),
        (("--gpus", "l4-24gb", "--sizes", "3b"), "--sizes: '3b' is unknown"),
        (("--gpus", "l4-24gb", "--precision", "fp8"), "--precision: 'fp8' is unknown"),
        (("--gpus", "l4-24gb", "--price", "b200=1"), "--price: 'b200' is unknown"),
        (("--gpus", "l4-24gb", "--price", "l4-24gb=0"), "--price: l4-24gb=0 has to be above 0"),
        (("--gpus", "l4-24gb", "--speeds", "none.json"), "none.json: cannot be read"),
        (("--gpus", "l4-24gb", "--lengths", "x", "--trace", "none.csv"), "none.csv: cannot be read"),
    ],
)
def test_mistakes_are_named(arguments: tuple[str, ...], message: str) -> None:
    code, said = run(*arguments)
    assert code == 2
    assert message in " ".join(said.split())
