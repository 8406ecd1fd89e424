"""`gemmule models pull`: the given sources or those of the settings, and what is wrong in one line each."""

import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from serving.cli.pull import pull
from serving.config import load


def pulled(*sources: str) -> tuple[int, str]:
    console = Console(record=True, width=400)
    return pull(sources, load(), console), console.export_text()


def test_without_a_source_it_is_what_the_settings_serve() -> None:
    code, printed = pulled()
    assert code == 0
    assert [line.split()[1] for line in printed.splitlines()] == [
        "embedded:nano-2b:", "embedded:nano-9b:", "embedded:nano-27b:"
    ]  # fmt: skip


def test_one_that_cannot_be_had_does_not_stop_the_others(tmp_path: Path) -> None:
    code, printed = pulled(f"{tmp_path}/absent", "embedded:nano-2b")
    assert code == 1
    wrong, right = printed.splitlines()
    assert "is not a folder" in wrong
    assert right.startswith("✓ embedded:nano-2b: ")


def test_a_hubs_checkpoint_is_asked_for_by_revision(tmp_path: Path) -> None:
    """In a process of its own: the hub's library reads its environment when it is imported."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "serving.main", "models", "pull", "hf://google/gemma-2-2b-it@0123abc"],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert "✗ hf://google/gemma-2-2b-it: the hub cannot be reached" in done.stdout
