"""A file of labelled prompts: which sizes answered each rightly, and with how many tokens."""

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cluster.routing.pricing import cost
from model.config import SIZES, Size

MIN_ROWS: Final = 50
_PROMPT_COLUMNS: Final = ("prompt", "question")


class LabelsError(ValueError):
    """What is wrong with a file of labels, where, and what would be right."""


@dataclass(frozen=True, slots=True)
class Labels:
    """`right` [N, S] 0 or 1, `output_tokens` [N, S], columns in the order of `sizes`; `prompt_tokens` [N]."""

    sizes: tuple[Size, ...]
    prompts: tuple[str, ...]
    prompt_tokens: NDArray[np.float64]
    right: NDArray[np.float64]
    output_tokens: NDArray[np.float64]
    groups: tuple[str, ...]  # of the column `dataset`, where there is one
    sha256: str

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> "Labels":
        """Some of the prompts, in the order given."""
        places = np.asarray(rows, np.int64)
        return replace(
            self,
            prompts=tuple(self.prompts[place] for place in places),
            prompt_tokens=self.prompt_tokens[places],
            right=self.right[places],
            output_tokens=self.output_tokens[places],
            groups=tuple(self.groups[place] for place in places),
        )

    @property
    def costs(self) -> NDArray[np.float64]:
        """What each answer cost, [N, S], in 10^9 parameters x tokens."""
        parameters = np.array([SIZES[size].parameters_e9 for size in self.sizes])
        return cost(parameters, self.prompt_tokens[:, None], self.output_tokens)


def read_labels(path: Path) -> Labels:
    """Columns `prompt` or `question`, `prompt_tokens`, and `correct_SIZE`, `out_tokens_SIZE` of each size.

    Raises `LabelsError` naming the row and the column.
    """
    try:
        raw = path.read_bytes()
        rows = list(csv.DictReader(io.StringIO(raw.decode("utf-8"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelsError(f"{path}: cannot be read ({error})") from None
    if len(rows) < MIN_ROWS:
        raise LabelsError(f"{path}: {len(rows)} prompts are too few to learn from; give at least {MIN_ROWS}")
    columns = set(rows[0])
    prompt = next((name for name in _PROMPT_COLUMNS if name in columns), None)
    if prompt is None:
        raise LabelsError(f"{path}: has no column `prompt` or `question`")
    sizes = tuple(size for size in Size if f"correct_{size}" in columns)
    if len(sizes) < 2:
        raise LabelsError(f"{path}: needs columns correct_SIZE for at least two of {', '.join(Size)}")
    return Labels(
        sizes=sizes,
        prompts=tuple(row[prompt] or "" for row in rows),
        prompt_tokens=_numbers(path, rows, "prompt_tokens"),
        right=np.stack([_marks(path, rows, f"correct_{size}") for size in sizes], axis=1),
        output_tokens=np.stack([_numbers(path, rows, f"out_tokens_{size}") for size in sizes], axis=1),
        groups=tuple(row.get("dataset") or "all" for row in rows),
        sha256=hashlib.sha256(raw).hexdigest(),
    )


def _numbers(path: Path, rows: Sequence[dict[str, str]], column: str) -> NDArray[np.float64]:
    values = np.empty(len(rows))
    for number, row in enumerate(rows):
        try:
            values[number] = float(row[column])
        except (KeyError, TypeError, ValueError):
            got = row.get(column)
            raise LabelsError(f"{path}: row {number + 2}, {column}: got {got!r}, needs a number") from None
        if not 0 <= values[number] < float("inf"):
            raise LabelsError(f"{path}: row {number + 2}, {column}: got {row[column]!r}, needs a number of at least 0")
    return values


def _marks(path: Path, rows: Sequence[dict[str, str]], column: str) -> NDArray[np.float64]:
    values = _numbers(path, rows, column)
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if len(wrong):
        row = int(wrong[0])
        raise LabelsError(f"{path}: row {row + 2}, {column}: got {rows[row][column]!r}, needs 0 or 1")
    return values
