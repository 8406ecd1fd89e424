"""What became of everybody, in columns: a million requests fit."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cluster.config import Tier
from cluster.simulation.ask import Ask
from model.config import Size

SIZES: Final = tuple(Size)
ALL: Final = "all"

Column = NDArray[Any]


class End(IntEnum):
    """How a request ended."""

    ANSWERED = 0
    REFUSED = 1  # at the door, with 429 or 503
    LATE = 2  # its timeout passed
    LOST = 3  # with its replica


class Outcomes:
    """One row for each request, in the order of their ends."""

    def __init__(self) -> None:
        self.number = array("q")
        self.at_s = array("d")
        self.ttft_s = array("d")  # NaN without a token
        self.total_s = array("d")
        self.output_tokens = array("q")
        self.cached_tokens = array("q")
        self.prompt_tokens = array("q")
        self.tier = array("b")
        self.size = array("b")  # that answered; -1 for none
        self.end = array("b")
        self.right = array("b")
        self.best = array("b")  # the largest size would have been right
        self.usd = array("d")
        self.replica: list[str] = []  # that worked on it last; "" for none
        self._tiers: dict[Tier | None, int] = {}

    def __len__(self) -> int:
        return len(self.at_s)

    @property
    def tiers(self) -> tuple[Tier | None, ...]:
        """By their numbers in `tier`; None for requests that named a size."""
        return tuple(self._tiers)

    def add(
        self,
        ask: Ask,
        end: End,
        size: Size | None,
        first_s: float,
        now_s: float,
        cached: int,
        usd: float,
        largest: Size,
        replica: str,
    ) -> None:
        """A request ended."""
        tier = ask.facts.tier
        self.number.append(ask.number)
        self.at_s.append(ask.at_s)
        self.ttft_s.append(first_s - ask.at_s if first_s < inf else float("nan"))
        self.total_s.append(now_s - ask.at_s)
        self.output_tokens.append(ask.output_tokens[size] if size is not None and end is End.ANSWERED else 0)
        self.prompt_tokens.append(ask.facts.prompt_tokens)
        self.cached_tokens.append(cached)
        self.tier.append(self._tiers.setdefault(tier, len(self._tiers)))
        self.size.append(-1 if size is None else SIZES.index(size))
        self.end.append(end)
        self.right.append(end is End.ANSWERED and size in ask.right)
        self.best.append(largest in ask.right)
        self.usd.append(usd)
        self.replica.append(replica)


@dataclass(frozen=True, slots=True)
class Summary:
    """Of some of the requests. Times in seconds over those answered; `goodput_per_s` counts those in time."""

    requests: int
    answered: int
    refused: int
    late: int
    lost: int
    in_time_share: float
    goodput_per_s: float
    ttft_p50_s: float
    ttft_p90_s: float
    ttft_p99_s: float
    itl_p50_s: float
    itl_p99_s: float
    total_p50_s: float
    total_p99_s: float
    cached_share: float
    quality_share: float  # right answers, over those the largest size would have given to the same requests
    usd: float  # what clients pay
    sizes: Mapping[Size, int]


@dataclass(frozen=True, slots=True)
class SizeUse:
    """What one size's replicas came to."""

    replica_s: float
    device_s: float
    usd: float  # that its devices cost
    most_replicas: int
    least_replicas: int
    changes: int  # of the wished number
    turns: int  # of direction
    over_time: Sequence[tuple[float, int, int]] = field(repr=False)  # instant, running and starting, running


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    seconds: float  # of virtual time
    outcomes: Outcomes = field(repr=False)
    use: Mapping[Size, SizeUse]
    brown_out_switches: int
    preemptions: int
    failures: int
    events: int
    reasons: Sequence[tuple[float, Size, int, str]] = field(repr=False)  # instant, size, replicas, why

    @property
    def fleet_usd(self) -> float:
        """What the devices cost."""
        return sum(use.usd for use in self.use.values())

    def summaries(self) -> dict[str, Summary]:
        """`all`, each tier, and `by name` for requests that named a size."""
        out = self.outcomes
        columns: dict[str, Column] = {name: np.asarray(getattr(out, name)) for name in _COLUMNS}
        found = {ALL: self._summary(columns, np.ones(len(out), bool))}
        for number, tier in enumerate(out.tiers):
            found[str(tier) if tier else "by name"] = self._summary(columns, columns["tier"] == number)
        return found

    def _summary(self, columns: Mapping[str, Column], which: NDArray[np.bool_]) -> Summary:
        some = {name: values[which] for name, values in columns.items()}
        ends = {end: int((some["end"] == end).sum()) for end in End}
        done = {name: values[some["end"] == End.ANSWERED] for name, values in some.items()}
        longer = done["output_tokens"] > 1
        gaps = (done["total_s"] - done["ttft_s"])[longer] / (done["output_tokens"][longer] - 1)
        best = float(done["best"].sum())
        return Summary(
            requests=len(some["end"]),
            answered=ends[End.ANSWERED],
            refused=ends[End.REFUSED],
            late=ends[End.LATE],
            lost=ends[End.LOST],
            in_time_share=ends[End.ANSWERED] / max(1, len(some["end"])),
            goodput_per_s=ends[End.ANSWERED] / self.seconds if self.seconds else 0.0,
            ttft_p50_s=_at(done["ttft_s"], 0.5),
            ttft_p90_s=_at(done["ttft_s"], 0.9),
            ttft_p99_s=_at(done["ttft_s"], 0.99),
            itl_p50_s=_at(gaps, 0.5),
            itl_p99_s=_at(gaps, 0.99),
            total_p50_s=_at(done["total_s"], 0.5),
            total_p99_s=_at(done["total_s"], 0.99),
            cached_share=float(done["cached_tokens"].sum()) / max(1.0, float(done["prompt_tokens"].sum())),
            quality_share=float(done["right"].sum()) / best if best else float("nan"),
            usd=float(some["usd"].sum()),
            sizes={size: int((done["size"] == place).sum()) for place, size in enumerate(SIZES)},
        )


_COLUMNS: Final = (
    "ttft_s", "total_s", "output_tokens", "cached_tokens", "prompt_tokens", "tier", "size", "end", "right", "best",
    "usd",
)  # fmt: skip


def _at(values: Column, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else float("nan")
