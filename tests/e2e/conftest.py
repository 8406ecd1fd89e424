"""One `gemmule serve` for all end-to-end tests: the real command, the embedded family, free ports."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

START_S = 240.0  # a cold machine under load; a quiet one takes a fraction


@dataclass(frozen=True)
class Served:
    """A running gemmule and where it listens."""

    process: subprocess.Popen[bytes]
    http_port: int
    grpc_port: int
    log: Path
    traffic: Path | None = None  # the store of sampled prompts, when every request is kept

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def output(self) -> str:
        """What the command printed so far, without colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.log.read_text(errors="replace"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(folder: Path, *arguments: str) -> Served:
    """Start the command and return at once."""
    http_port, grpc_port = free_port(), free_port()
    log = folder / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.main", "serve", "--http-port", str(http_port), "--grpc-port",
             str(grpc_port), *arguments],
            stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
    return Served(process, http_port, grpc_port, log)


def await_ready(served: Served) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if served.process.poll() is not None:
            pytest.fail(f"gemmule serve ended with {served.process.returncode}:\n{served.output()}")
        try:
            if httpx.get(f"{served.url}/readyz", timeout=5).status_code == 200 and "ready" in served.output():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.25)
    pytest.fail(f"not ready after {START_S:.0f} s:\n{served.output()}")


def stop(served: Served) -> int:
    """Ctrl-C, and the exit status."""
    if served.process.poll() is None:
        served.process.send_signal(signal.SIGINT)
    return served.process.wait(timeout=60)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("serve")
    traffic = folder / "traffic.db"
    (folder / "gemmule.yaml").write_text(f"traffic: {{share: 1, path: {traffic}}}\n")
    running = replace(start(folder, "--config", str(folder / "gemmule.yaml")), traffic=traffic)
    try:
        await_ready(running)
        yield running
    finally:
        stop(running)
