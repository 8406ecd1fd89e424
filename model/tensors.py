"""Where a loader's tensors come from: safetensors files, read by the slice, or random numbers of a real shape."""

import zlib
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from safetensors import safe_open

from model.checkpoint import weight_files


class Tensors(Protocol):
    """Named tensors, read a part at a time."""

    def names(self) -> set[str]:
        """All there are."""

    def shape(self, name: str) -> tuple[int, ...]:
        """The whole tensor's."""

    def read(self, name: str, rows: slice, columns: slice | None = None) -> torch.Tensor:
        """Rows, and of these the columns if the tensor has two dimensions."""


class FileTensors:
    """The safetensors files of a checkpoint folder; only what is asked for is read. Closed as a context."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}
        for path in weight_files(folder):  # those that were checked, not whatever else lies there
            file = self._stack.enter_context(safe_open(path, framework="pt"))
            self._files |= dict.fromkeys(file.keys(), file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stack.close()

    def names(self) -> set[str]:
        """Over all files."""
        return set(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """From the file's header."""
        return tuple(self._files[name].get_slice(name).get_shape())

    def read(self, name: str, rows: slice, columns: slice | None = None) -> torch.Tensor:
        """One read of the file, a copy of our own."""
        part = self._files[name].get_slice(name)
        tensor: torch.Tensor = part[rows] if columns is None else part[rows, columns]
        return tensor


class RandomTensors:
    """Weights of given shapes that no file holds: the same numbers for the same name, place and shape."""

    _NUMBERS = 1 << 20

    def __init__(self, shapes: dict[str, tuple[int, ...]], scale: float = 0.02) -> None:
        self._shapes = shapes
        self._noise = torch.randn(self._NUMBERS, generator=torch.Generator().manual_seed(0)) * scale

    def names(self) -> set[str]:
        """As given."""
        return set(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """As given."""
        return self._shapes[name]

    def read(self, name: str, rows: slice, columns: slice | None = None) -> torch.Tensor:
        """A stretch of one noise, begun at a place that name and row decide: fast, and nothing repeats side by side."""
        first, end = rows.start or 0, min(rows.stop or self._shapes[name][0], self._shapes[name][0])
        if len(self._shapes[name]) == 1:
            return torch.zeros(end - first)  # a norm that changes nothing
        width = self._shapes[name][1]
        seed = zlib.crc32(name.encode())
        lines = [self._line(seed + row * 40_503, width) for row in range(first, end)]
        return torch.stack(lines)[:, columns or slice(None)]

    def _line(self, at: int, width: int) -> torch.Tensor:
        start = at % (self._NUMBERS - width)
        return self._noise[start : start + width]
