"""The parent's side of the process that compiles guides."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

_START_S: Final = 120.0
"""Until the libraries are loaded, which takes seconds on a busy machine; no guide is to blame for that."""
_MAX_REPLY_BYTES: Final = 256 << 20
_SLACK_S: Final = 1.0


class TooLongError(Exception):
    """The guide took more time or memory than it may."""


class GuideProcess:
    """Starts the process at the first guide, again if it died, and puts guides to it. Thread-safe."""

    def __init__(self, pieces: list[str], stop_ids: list[int]) -> None:
        self._setup = json.dumps({"pieces": pieces, "stop_ids": stop_ids}).encode()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def compile(self, kind: str, text: str, limit_s: float) -> bytes:
        """The answer: its first byte says which. Blocks; raises `TooLongError`."""
        request = json.dumps({"kind": kind, "text": text, "limit_s": limit_s}).encode()
        with self._lock:
            ours = self._connect()
        with ours:
            ours.send_bytes(request)
            if not ours.poll(_START_S):
                raise TimeoutError(f"the process that compiles guides did not begin within {_START_S:g} s")
            ours.recv_bytes()  # it has begun
            try:
                answer = ours.recv_bytes(_MAX_REPLY_BYTES) if ours.poll(limit_s + _SLACK_S) else b""
            except (EOFError, OSError):  # ended by the kernel, or the answer is too large
                answer = b""
        if not answer:
            raise TooLongError
        return answer

    def close(self) -> None:
        """End the process; what it compiles is given up."""
        with self._lock:
            if self._control is not None:
                self._control.close()
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._process = self._control = None

    def _start(self) -> None:
        """Without GPUs and with one thread: a process that forks must have no more."""
        if self._control is not None:
            self._control.close()
        self._control, theirs = socket.socketpair()
        root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        with theirs, tempfile.TemporaryFile() as setup:
            setup.write(self._setup)
            setup.seek(0)
            handles = theirs.fileno(), setup.fileno()
            self._process = subprocess.Popen(  # noqa: S603  # our own module
                [sys.executable, "-m", "model.guide_worker", *map(str, handles)],
                pass_fds=handles,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            )

    def _connect(self) -> Connection:
        """A connection to a fork of the process."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._control is not None  # noqa: S101  # started together
        ours, theirs = Pipe()
        with theirs:
            socket.send_fds(self._control, [b"."], [theirs.fileno()])
        return ours
