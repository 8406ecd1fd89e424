"""`gemmule bench engine` from the command line to the file of rows, on a tiny random model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WANTED = {
    "engine", "dtype", "concurrency", "output_tokens_per_s", "ttft_p50_s", "itl_p50_s", "share_of_roof",
    "workload", "version", "rounds", "spread",
}  # fmt: skip


def bench(*options: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "serving.main", "bench", "engine", "--shape", "tiny", "--cache", str(folder / "c")]
    env = {**os.environ, "COLUMNS": "200"}
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=240, env=env, check=False)


def test_rows_table_and_plot_come_out_and_absent_peers_are_named(tmp_path: Path) -> None:
    rows, plot = tmp_path / "rows.json", tmp_path / "plot.png"
    done = bench(
        "--against", "transformers,vllm", "--concurrency", "1,2", "--rounds", "1", "--threads", "1",
        "--peers", str(tmp_path / "none"), "--json", str(rows), "--plot", str(plot), folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr  # vLLM was asked for and is not there
    assert f"vllm is not installed in {tmp_path / 'none' / 'vllm'}: run `make peers`" in done.stderr
    assert "does not run this here" not in done.stderr, done.stderr
    made = json.loads(rows.read_text())
    assert [(row["engine"], row["concurrency"]) for row in made] == [
        ("gemmule", 1), ("transformers", 1), ("gemmule", 2), ("transformers", 2)
    ]  # fmt: skip
    assert all(row.keys() >= WANTED and row["output_tokens_per_s"] > 0 for row in made)
    assert all(0 < row["share_of_roof"] < 1 and row["itl_p50_s"] > 0 for row in made)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "gemmule is" in done.stdout
    assert "×" in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--against", "vlm"), "--against: 'vlm' is unknown; choose from vllm, llama.cpp, transformers"),
        (("--dtype", "fp8"), "--dtype: 'fp8' is unknown; choose from fp32, bf16, int8, int4"),
        (("--concurrency", "1,x"), "--concurrency: '1,x' is no list of numbers from 1 to 256, such as 1,8,32"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    done = bench(*options, folder=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
