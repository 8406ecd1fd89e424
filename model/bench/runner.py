"""Our end of a runner's pipe: start the process, ask, end it with everything that it started."""

import json
import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from model.bench.engines import BenchError, EngineFacts
from model.bench.lines import Setup
from model.bench.timing import Measured
from model.bench.workload import Workload

_START_S: Final = 1200.0  # vLLM compiles for 3.5 min the first time
_ANSWER_S: Final = 3600.0
_END_S: Final = 20.0


class RunnerProcess:
    """One engine in a process group of its own."""

    def __init__(self, facts: EngineFacts, setup: Setup, peers: Path, cache: Path) -> None:
        self.facts = facts
        self.version = ""
        self._log = cache / "logs" / f"{facts.name}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [str(facts.python(peers)), "-m", facts.module, json.dumps(asdict(setup))]
        env = environment(facts, setup.threads, peers, cache)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, env=env, cwd=cache, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def start(self) -> None:
        """Wait until it is loaded; raises `BenchError`."""
        self.version = self._answer(_START_S)["ready"]["version"]

    def ask(self, workload: Workload) -> Measured:
        """One measurement; raises `BenchError`."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the answer says that it has ended
            self._process.stdin.write(json.dumps({"workload": workload.to_json()}).encode() + b"\n")
            self._process.stdin.flush()
        return Measured(**self._answer(_ANSWER_S))

    def pause(self) -> None:
        """Stop all its processes until `resume`: whoever waits for its turn must not spin on our processors."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them run."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it: by the end of its input, and what is left of its group by force."""
        self.resume()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _answer(self, limit_s: float) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._line(limit_s) or json.dumps({"error": self._last_words()}))
        if "error" in answer:
            raise BenchError(f"{self.facts.name} does not run this here: {answer['error']} (see {self._log})")
        return answer

    def _line(self, limit_s: float) -> str:
        """The next line; empty when the process has ended. Raises `BenchError` when none comes in time."""
        assert self._process.stdout is not None
        pipe, ends_s, got = self._process.stdout.fileno(), time.monotonic() + limit_s, b""
        while not got.endswith(b"\n"):
            ready, _, _ = select.select([pipe], [], [], max(0.0, ends_s - time.monotonic()))
            if not ready:
                raise BenchError(f"{self.facts.name} was silent for {limit_s:.0f} s (see {self._log})")
            piece = os.read(pipe, 2**16)
            if not piece:
                return ""
            got += piece
        return got.decode()

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return f"it ended with code {self._process.wait()}: {lines[-1][:300] if lines else 'no words'}"


def environment(facts: EngineFacts, threads: int, peers: Path, cache: Path) -> dict[str, str]:
    """The same threads for everyone, no downloads, and the package `model` alone where a peer's Python finds it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VLLM_"))}
    preload = _preload(peers / facts.home) if facts.home == "vllm" else ""
    return {
        **env,
        "PYTHONPATH": str(_root(cache)),
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "DS_ACCELERATOR": "cpu",
        "VLLM_NO_USAGE_STATS": "1",
        **({"LD_PRELOAD": preload} if preload else {}),
    }


def _root(cache: Path) -> Path:
    """A folder with a link to this package and nothing else."""
    root = (cache / "python").absolute()
    root.mkdir(parents=True, exist_ok=True)
    link, package = root / "model", Path(__file__).resolve().parents[1]
    if not link.is_symlink() or link.resolve() != package:
        link.unlink(missing_ok=True)
        link.symlink_to(package)
    return root


def _preload(home: Path) -> str:
    """What vLLM's page for CPUs tells to preload for best performance, as far as it is here."""
    places = [home / "lib" / "libiomp5.so", *Path("/usr/lib").glob("*/libtcmalloc_minimal.so.4")]
    return ":".join(str(place.absolute()) for place in places if place.exists())
