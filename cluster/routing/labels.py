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

from cluster.routing.features import Text
from cluster.routing.pricing import cost
from model.config import SIZES, Size

MIN_ROWS: Final = 50
_PROMPT_COLUMNS: Final = ("prompt", "question")


class LabelsError(ValueError):
    """What is wrong with a file of labels, where, and what would be right."""


@dataclass(frozen=True, slots=True)
class Labels:
    """`right` [N, S] 0 or 1, `output_tokens` [N, S], columns in the order of `sizes`; `prompt_tokens` [N].

    `evidence` [N, S, 2]: mean and least log-probability of each answer's tokens, where they are known.
    """

    sizes: tuple[Size, ...]
    prompts: tuple[str, ...]
    prompt_tokens: NDArray[np.float64]
    right: NDArray[np.float64]
    output_tokens: NDArray[np.float64]
    groups: tuple[str, ...]  # of the column `dataset`, where there is one
    sha256: str
    turns: tuple[int, ...] = ()  # of the user; empty where every prompt is a first one
    evidence: NDArray[np.float64] | None = None

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
            turns=tuple(self.turns[place] for place in places) if self.turns else (),
            evidence=None if self.evidence is None else self.evidence[places],
        )

    @property
    def texts(self) -> list[Text]:
        """What a predictor looks at."""
        turns = self.turns or (1,) * len(self)
        return [Text(*each) for each in zip(self.prompts, self.prompt_tokens.astype(int).tolist(), turns, strict=True)]

    @property
    def costs(self) -> NDArray[np.float64]:
        """What each answer cost, [N, S], in 10^9 parameters x tokens."""
        parameters = np.array([SIZES[size].parameters_e9 for size in self.sizes])
        return cost(parameters, self.prompt_tokens[:, None], self.output_tokens)


def read_labels(path: Path) -> Labels:
    """Columns `prompt` or `question`, `prompt_tokens`, and `correct_SIZE`, `out_tokens_SIZE` of each size.

    Also read where they are: `dataset`, `turns`, and `logprob_mean_SIZE` with `logprob_min_SIZE` of every size.
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
        turns=tuple(map(int, _numbers(path, rows, "turns"))) if "turns" in columns else (),
        evidence=_evidence(path, rows, sizes) if f"logprob_mean_{sizes[0]}" in columns else None,
    )


def _evidence(path: Path, rows: Sequence[dict[str, str]], sizes: Sequence[Size]) -> NDArray[np.float64]:
    columns = [[f"logprob_{which}_{size}" for which in ("mean", "min")] for size in sizes]
    values = [[_numbers(path, rows, column, -np.inf) for column in pair] for pair in columns]
    return np.moveaxis(np.array(values), 2, 0)


def _numbers(path: Path, rows: Sequence[dict[str, str]], column: str, least: float = 0.0) -> NDArray[np.float64]:
    values = np.empty(len(rows))
    for number, row in enumerate(rows):
        try:
            values[number] = float(row[column])
        except (KeyError, TypeError, ValueError):
            got = row.get(column)
            raise LabelsError(f"{path}: row {number + 2}, {column}: got {got!r}, needs a number") from None
        if not (least <= values[number] and np.isfinite(values[number])):
            what = "a number" if least < 0 else f"a number of at least {least:.0f}"
            raise LabelsError(f"{path}: row {number + 2}, {column}: got {row[column]!r}, needs {what}")
    return values


def _marks(path: Path, rows: Sequence[dict[str, str]], column: str) -> NDArray[np.float64]:
    values = _numbers(path, rows, column)
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if len(wrong):
        row = int(wrong[0])
        raise LabelsError(f"{path}: row {row + 2}, {column}: got {rows[row][column]!r}, needs 0 or 1")
    return values
