"""Kernels built ahead, for machines without a compiler such as the image's: one library for each kind of processor."""

import sys
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_V3: Final = frozenset({"abm", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"})
_V4: Final = _V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}


@dataclass(frozen=True, slots=True)
class Level:
    """What the compiler is told, and what /proc/cpuinfo must list for the result to run."""

    name: str
    options: tuple[str, ...]
    needs: frozenset[str]

    def file(self, folder: Path) -> Path:
        """Where its library lies."""
        return folder / f"kernels-{self.name}.so"


LEVELS: Final = (  # the best first
    Level(
        "avx512-bf16",
        ("-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16"),
        _V4 | {"avx512_vnni", "avx512_bf16"},
    ),
    Level("avx512-vnni", ("-march=x86-64-v4", "-mavx512vnni"), _V4 | {"avx512_vnni"}),
    Level("avx512", ("-march=x86-64-v4",), _V4),
    Level("avx2", ("-march=x86-64-v3",), _V3),
)


def ahead_folder() -> Path:
    """Part of the environment, as the packages are."""
    return Path(sys.prefix) / "kernels"


def best(flags: Set[str], folder: Path) -> Path | None:
    """The best library in `folder` that a processor with these flags can run."""
    found = (level.file(folder) for level in LEVELS if level.needs <= flags)
    return next((file for file in found if file.exists()), None)
