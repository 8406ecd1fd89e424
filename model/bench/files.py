"""The files that a run needs, made once and kept: random weights as a folder, and as GGUF for llama.cpp."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from model.bench.engines import BenchError, EngineFacts
from model.bench.roof import weight_bytes
from model.bench.runner import environment
from model.bench.shapes import model_shape

_GIB: Final = 2**30


def prepare(facts: EngineFacts, shape: str, dtype: str, peers: Path, cache: Path, say: Callable[[str], None]) -> Path:
    """What this engine loads; raises `BenchError` when the disk is full or a writer fails."""
    folder = cache / f"{shape}-weights"
    if not folder.exists():
        say(f"writing random weights of the {shape} shape")
        _expect_room(cache, weight_bytes(model_shape(shape), "bf16"))
        _call([sys.executable, "-m", "model.bench.checkpoint", shape, str(folder)], dict(os.environ))
    if facts.name != "llama.cpp":
        return folder.absolute()
    file = cache / f"{shape}-{dtype}.gguf"
    if not file.exists():
        say(f"writing the same tensors for llama.cpp in {dtype}")
        _expect_room(cache, weight_bytes(model_shape(shape), dtype) * 1.2)
        command = [str(facts.python(peers)), "-m", "model.bench.gguf_file", str(folder.absolute())]
        _call([*command, str(file.absolute()), dtype], environment(facts, 1, peers, cache))
    return file.absolute()


def _expect_room(cache: Path, needed: float) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if free < needed * 1.1:
        raise BenchError(
            f"{cache}: {needed / _GIB:.1f} GiB are needed and {free / _GIB:.1f} GiB are free; make room, or name "
            "another folder with --cache"
        )


def _call(command: list[str], env: dict[str, str]) -> None:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no words"])[-1]
        raise BenchError(f"{command[2]} failed: {last[:300]}")
