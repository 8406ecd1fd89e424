"""Where a loader's tensors come from: safetensors files, read by the slice, or random numbers of a real shape."""

import zlib
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

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
    """Weights of given shapes that no file holds: the same numbers for the same name, place and shape.

    A matrix is one endless noise, read in circles from a place that the name decides. Rows are most often a view of it,
    so that 27 · 10⁹ numbers cost no more than their packing; the circle's length is prime, so no row comes again.
    """

    _CIRCLE: Final = 4_194_301

    def __init__(self, shapes: dict[str, tuple[int, ...]], scale: float = 0.02) -> None:
        self._shapes = shapes
        self._noise = torch.randn(self._CIRCLE, generator=torch.Generator().manual_seed(0)) * scale

    def names(self) -> set[str]:
        """As given."""
        return set(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """As given."""
        return self._shapes[name]

    def read(self, name: str, rows: slice, columns: slice | None = None) -> torch.Tensor:
        """Not to be written to: it may be the noise itself."""
        first, end, _ = rows.indices(self._shapes[name][0])
        if len(self._shapes[name]) == 1:
            return torch.zeros(end - first)  # a norm that changes nothing
        width = self._shapes[name][1]
        stretch = self._stretch(zlib.crc32(name.encode()) + first * width, (end - first) * width)
        return stretch.view(end - first, width)[:, columns or slice(None)]

    def _stretch(self, start: int, count: int) -> torch.Tensor:
        """So many numbers from there on."""
        start %= self._CIRCLE
        if start + count <= self._CIRCLE:
            return self._noise[start : start + count]
        rest = count - (self._CIRCLE - start)
        rounds, last = divmod(rest, self._CIRCLE)
        return torch.cat([self._noise[start:], *[self._noise] * rounds, self._noise[:last]])
