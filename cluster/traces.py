"""Reads public traces of LLM services: when requests came, how long they and their answers were.

Azure 2023 (`TIMESTAMP,ContextTokens,GeneratedTokens`; Azure/AzurePublicDataset, CC-BY-4.0), Mooncake (a JSON object a
line; kvcache-ai/Mooncake, Apache-2.0), and tables of request rates (`timestamp_s,total_rate_rps,…`).
"""

import csv
import gzip
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from cluster.trace import TraceRequest

_AZURE: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_RATES: Final = ("timestamp_s", "total_rate_rps")
_MOONCAKE: Final = ("timestamp", "input_length", "output_length")
_MICROSECONDS: Final = 26  # characters of a time to the microsecond; the trace has a digit more


class TraceError(ValueError):
    """What is wrong with a trace file, and what to do."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests per second, each rate holding from its instant to the next one's; the last as long as the one before."""

    at_s: tuple[float, ...]
    per_s: tuple[float, ...]

    @property
    def until_s(self) -> float:
        """End of the last rate."""
        return self.at_s[-1] + (self.at_s[-1] - self.at_s[-2] if len(self.at_s) > 1 else 1.0)

    def part(self, from_s: float, until_s: float) -> "Rates":
        """That stretch, beginning at 0."""
        pairs = [(at, rate) for at, rate in zip(self.at_s, self.per_s, strict=True) if from_s <= at < until_s]
        if not pairs:
            raise TraceError(
                f"no rate between {from_s:.0f} s and {until_s:.0f} s; the table ends at {self.until_s:.0f}"
            )
        return Rates(tuple(at - from_s for at, _ in pairs), tuple(rate for _, rate in pairs))


def read_trace(path: Path) -> list[TraceRequest]:
    """Requests in order, the first at 0; the kind of file is seen from its first line. Raises `TraceError`."""
    lines = _lines(path)
    if not lines:
        raise TraceError(f"{path}: is empty")
    if lines[0].lstrip().startswith("{"):
        rows = [_mooncake(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    elif tuple(lines[0].split(",")) == _AZURE:
        rows = [_azure(path, number, line) for number, line in enumerate(lines[1:], 2) if line.strip()]
    else:
        known = f"{','.join(_AZURE)} (Azure) or JSON objects (Mooncake)"
        raise TraceError(
            f"{path}: begins with {lines[0][:60]!r}; known are {known}; `read_rates` reads tables of rates"
        )
    if not rows:
        raise TraceError(f"{path}: has no requests")
    return from_zero(rows)


def is_rates(path: Path) -> bool:
    """Whether it begins as a table of rates does. Raises `TraceError`."""
    return any(line.startswith(",".join(_RATES)) for line in _lines(path)[:1])


def read_rates(path: Path) -> Rates:
    """A table of rates, from its first instant on. Raises `TraceError`."""
    rows = list(csv.DictReader(_lines(path)))
    try:
        at_s = [float(row[_RATES[0]]) for row in rows]
        per_s = [float(row[_RATES[1]]) for row in rows]
    except (KeyError, ValueError, TypeError) as error:
        raise TraceError(f"{path}: needs the columns {', '.join(_RATES)} ({error!r})") from None
    if not rows or any(later <= at for at, later in itertools.pairwise(at_s)) or min(per_s) < 0:
        raise TraceError(f"{path}: instants have to rise and rates may not be negative")
    return Rates(tuple(at - at_s[0] for at in at_s), tuple(per_s))


def arrivals(rates: Rates, like: Sequence[TraceRequest], seed: int, share: float = 1.0) -> list[TraceRequest]:
    """Poisson arrivals at `share` of the rates; each is as long as one drawn from `like`, and shares no blocks."""
    if not like:
        raise TraceError("lengths are drawn from a trace, and this one has no requests")
    rng = np.random.default_rng(seed)
    ends = (*rates.at_s[1:], rates.until_s)
    instants: list[float] = []
    for begin, end, per_s in zip(rates.at_s, ends, rates.per_s, strict=True):
        count = int(rng.poisson(per_s * share * (end - begin)))
        instants += sorted(rng.uniform(begin, end, count).tolist())
    drawn = rng.integers(0, len(like), len(instants)).tolist()
    return [
        TraceRequest(at, like[which].prompt_tokens, like[which].output_tokens)
        for at, which in zip(instants, drawn, strict=True)
    ]


def from_zero(requests: Iterable[TraceRequest]) -> list[TraceRequest]:
    """In order of arrival, the first at 0."""
    ordered = sorted(requests, key=lambda each: each.at_s)
    first_s = ordered[0].at_s if ordered else 0.0
    return [
        TraceRequest(each.at_s - first_s, each.prompt_tokens, each.output_tokens, each.blocks, each.block_tokens)
        for each in ordered
    ]


def _lines(path: Path) -> list[str]:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig").splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: cannot be read ({error})") from None


def _azure(path: Path, number: int, line: str) -> TraceRequest:
    try:
        instant, prompt, output = line.split(",")
        at_s = datetime.fromisoformat(instant.strip()[:_MICROSECONDS] + "+00:00").timestamp()
        return TraceRequest(at_s, int(prompt), int(output))
    except ValueError as error:
        raise TraceError(f"{path}: line {number}: needs {','.join(_AZURE)} ({error})") from None


def _mooncake(path: Path, number: int, line: str) -> TraceRequest:
    try:
        row: dict[str, Any] = json.loads(line)
        at_ms, prompt, output = (float(row[name]) for name in _MOONCAKE)
        return TraceRequest(at_ms / 1000, int(prompt), int(output), tuple(map(int, row.get("hash_ids", ()))))
    except (ValueError, TypeError, KeyError) as error:
        needs = ", ".join(_MOONCAKE)
        raise TraceError(f"{path}: line {number}: needs an object with {needs} ({error!r})") from None
