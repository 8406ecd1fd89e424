"""`gemmule routing` and `evaluate-routing` as a person or a script calls them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving.main import app
from tests.unit.cluster.routing.prompts import rows, write

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("routing")
    write(folder / "labels.csv", rows(200, seed=1))
    done = RUNNER.invoke(
        app, ["routing", "calibrate", "--data", str(folder / "labels.csv"), "--profile", str(folder / "profile.json")]
    )
    assert done.exit_code == 0, done.output
    assert "200 prompts" in done.output
    return folder


def decide(folder: Path, quality: str, lines: list[str]) -> tuple[int, str, list[dict[str, object]]]:
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    done = RUNNER.invoke(
        app,
        ["routing", "decide", "--profile", str(folder / "profile.json"), "--quality", quality,
         "--prompts", str(folder / "prompts.jsonl"), "--out", str(folder / "decisions.jsonl")],
    )  # fmt: skip
    if done.exit_code:
        return done.exit_code, done.output + done.stderr, []
    return 0, "", [json.loads(line) for line in (folder / "decisions.jsonl").read_text().splitlines()]


def test_every_prompt_gets_a_size(folder: Path) -> None:
    prompts = [{"id": row["id"], "prompt": row["question"], "prompt_tokens": 30} for row in rows(40, seed=9)]
    code, _, decisions = decide(folder, "0.9", [json.dumps(prompt) for prompt in prompts])
    assert code == 0
    assert [decision["id"] for decision in decisions] == [prompt["id"] for prompt in prompts]
    for decision in decisions:
        assert set(decision) == {"id", "size", "quality", "output_tokens"}
        assert decision["size"] in ("2b", "9b", "27b")
        assert set(decision["quality"]) == set(decision["output_tokens"]) == {"2b", "9b", "27b"}  # type: ignore[call-overload]
        assert all(0 <= chance <= 1 for chance in decision["quality"].values())  # type: ignore[attr-defined]
    assert len({decision["size"] for decision in decisions}) > 1
    assert decide(folder, "0.9", [json.dumps(prompt) for prompt in prompts])[2] == decisions


def test_a_line_that_is_no_prompt_is_named(folder: Path) -> None:
    good = json.dumps({"id": "a", "prompt": "What is 1 plus 1?", "prompt_tokens": 9})
    for bad in ("{", "[]", '{"id": "b", "prompt": "x"}', '{"id": 1, "prompt": "x", "prompt_tokens": "y"}'):
        code, words, _ = decide(folder, "0.9", [good, bad])
        assert code == 2
        assert "line 2" in words
    assert decide(folder, "1.5", [good])[0] == 2


def test_labels_and_profiles_that_are_none_end_with_a_sentence(folder: Path) -> None:
    arguments = ["routing", "calibrate", "--data", str(folder / "none.csv"), "--profile", str(folder / "p.json")]
    done = RUNNER.invoke(app, arguments)
    assert (done.exit_code, (folder / "p.json").exists()) == (2, False)
    assert "none.csv: cannot be read" in done.stderr.replace("\n", "")


def test_the_frontier_is_a_table_rows_and_a_plot(folder: Path) -> None:
    arguments = ["evaluate-routing", "--data", str(folder / "labels.csv"), "--splits", "1"]
    table = RUNNER.invoke(app, [*arguments, "--plot", str(folder / "plot.png")])
    assert table.exit_code == 0, table.output
    assert "random mix" in table.output
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(RUNNER.invoke(app, [*arguments, "--json"]).stdout)
    assert [kept["promised"] for kept in found["kept"]] == [0.8, 0.9, 0.95, 0.98]
    assert found["sizes"]["27b"] == {"quality": 1.0, "cost": 1.0}
