"""Compiles the kernels once per machine and source, and loads them; without a compiler those that were built ahead."""

import ctypes
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

from model.kernels.levels import ahead_folder, best

_SOURCES: Final = Path(__file__).parent
_FLAGS: Final = ("-O3", "-std=c++17", "-fPIC", "-shared", "-fopenmp", "-fno-math-errno")
_NATIVE: Final = ("-march=native",)
_POINTER, _INT, _LONG, _FLOAT = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_float
_TABLES: Final = (*[_POINTER] * 3, _LONG, _LONG, _LONG, _LONG, _LONG)  # starts, positions, tables, and their sizes
_ARGUMENTS: Final = {
    "pack": (_INT, _POINTER, _POINTER, _POINTER, _LONG, _LONG, _INT),
    "linear": (_INT, _POINTER, _POINTER, _POINTER, _POINTER, _LONG, _LONG, _LONG, _INT),
    "embed": (_POINTER, _INT, _POINTER, _POINTER, _POINTER, _LONG, _LONG, _FLOAT, _INT),
    "rms_norm": (_POINTER, _POINTER, _POINTER, _LONG, _LONG, _FLOAT, _INT, _INT),
    "geglu": (_POINTER, _POINTER, _LONG, _LONG, _INT),
    "soft_cap": (_POINTER, _LONG, _FLOAT, _INT),
    "store_kv": (_INT, *[_POINTER] * 7, *_TABLES, _INT),
    "attend": (_INT, *[_POINTER] * 4, *_TABLES, _FLOAT, _FLOAT, _LONG, _INT),
}


@cache
def kernels() -> ctypes.CDLL | None:
    """The library, or None where it can neither be built nor was built ahead. Calls release the interpreter lock.

    torch must be imported before: both then share one OpenMP, and so one pool of threads.
    """
    found = compiler()
    path = _build(found) if found else None
    path = path or best(frozenset(_processor().split()), ahead_folder())
    if path is None:
        return None
    library = ctypes.CDLL(str(path))
    for name, arguments in _ARGUMENTS.items():
        function = getattr(library, f"gemmule_{name}")
        function.argtypes, function.restype = arguments, None
    return library


def cache_folder() -> Path:
    """Where built libraries lie; `GEMMULE_CACHE` moves it, as an image with a read-only home must."""
    root = (
        os.environ.get("GEMMULE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gemmule"
    )
    return Path(root) / "kernels"


def compiler() -> str | None:
    """The C++ compiler, where there is one."""
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")


def compile_to(compiler: str, options: tuple[str, ...], out: Path) -> None:
    """Build the library whole or not at all. Raises `OSError`, `CalledProcessError`."""
    made = out.with_suffix(".new")
    command = [compiler, *_FLAGS, *options, "-o", str(made), str(_SOURCES / "kernels.cpp")]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - the compiler, and files of ours
    os.replace(made, out)


def _build(compiler: str) -> Path | None:
    out = cache_folder() / f"kernels-{_fingerprint(compiler)}.so"
    if out.exists():
        return out
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with open(out.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # ranks start together; freed by the kernel when its holder dies
            if not out.exists():
                compile_to(compiler, _NATIVE, out)
    except (OSError, subprocess.CalledProcessError):
        return None
    return out


def _fingerprint(compiler: str) -> str:
    """Sources, flags, compiler and processor: a library built for another machine must not be loaded here."""
    digest = hashlib.sha256(" ".join((compiler, *_FLAGS, *_NATIVE, platform.machine(), _processor())).encode())
    for source in sorted([*_SOURCES.glob("*.h"), *_SOURCES.glob("*.cpp")]):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
