"""Starting and stopping: nothing is left behind, and what is missing is said in one sentence."""

import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import await_ready, start, stop

pytestmark = pytest.mark.e2e


def test_ctrl_c_leaves_no_process_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(tempfile.mkdtemp(prefix="gt-", dir="/tmp"))  # short: sockets live below it
    monkeypatch.setenv("TMPDIR", str(folder))
    config = tmp_path / "one.yaml"
    config.write_text("cluster: {sizes: {2b: {source: 'embedded:nano-2b', usd_per_mtoken: 0.1}}}\n")
    running = start(tmp_path, "--config", str(config))
    await_ready(running)
    children = psutil.Process(running.process.pid).children(recursive=True)
    assert children
    assert stop(running) == 0
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert not list(folder.glob("gemmule-*"))
    assert "nothing is left behind" in running.output()
    shutil.rmtree(folder)


def test_a_start_can_be_interrupted(tmp_path: Path) -> None:
    running = start(tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(timeout=6)
    children = psutil.Process(running.process.pid).children(recursive=True)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(timeout=60) == 0
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_a_taken_port_is_said_in_one_sentence() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "serving.main", "serve", "--http-port", str(port)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    assert re.search(rf"port {port}", done.stdout)
    assert "--http-port" in done.stdout


def test_a_wrong_setting_is_said_in_one_sentence(tmp_path: Path) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text("cluster: {sizes: {27b: {tensor_paralel: 2}}}\n")
    done = subprocess.run(
        [sys.executable, "-m", "serving.main", "serve", "--config", str(config)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "tensor_paralel: no such setting" in done.stderr
