"""What a trace asks of a cluster: requests per second to be ready for, and how long they are. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cluster.routing.solve import Floats
from cluster.trace import TraceRequest
from cluster.traces import Rates
from model.config import CONTEXT_TOKENS

_KEPT_LENGTHS: Final = 250
_STEPS: Final = 40  # of a bisection


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of prompts and answers, [N] each, a request a row."""

    prompt: Floats
    output: Floats

    @property
    def longest(self) -> int:
        """Tokens of the longest request."""
        return int((self.prompt + self.output).max())


@dataclass(frozen=True, slots=True)
class Bursts:
    """How unevenly requests come: variance over mean of their number in a second, 1 where they come at random."""

    dispersion: float
    per_s: float  # of all requests

    def among(self, per_s: float) -> float:
        """The same of those that a replica gets, when each of all requests goes to it by chance."""
        return 1 + (self.dispersion - 1) * min(1.0, per_s / self.per_s)


AT_RANDOM: Final = Bursts(1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Demand:
    """`per_s`: what the plan has to carry so that at most `late_share` of all requests come while it cannot."""

    per_s: float
    mean_per_s: float
    peak_per_s: float  # of the fullest window
    late_share: float
    window_s: float
    lengths: Lengths
    bursts: Bursts
    left_out_share: float  # of the trace's requests, longer than the context
    per_window: tuple[float, ...]  # requests per second


def demand_of(requests: Sequence[TraceRequest], window_s: float, late_share: float, scale: float = 1.0) -> Demand:
    """Of single requests, `scale` times as many. What is longer than the context is left out, as the API refuses it."""
    fitting = [each for each in requests if each.prompt_tokens + each.output_tokens <= CONTEXT_TOKENS]
    if not fitting:
        raise ValueError(f"trace: no request fits the context of {CONTEXT_TOKENS} tokens")
    at_s = np.array([each.at_s for each in fitting])
    windows = np.bincount((at_s // window_s).astype(np.int64)).astype(np.float64) * scale / window_s
    left_out = 1 - len(fitting) / len(requests)
    bursts = Bursts(dispersion_of(at_s, window_s), float(windows.mean()) / min(1.0, scale))
    return _demand(windows, window_s, late_share, lengths_of(fitting), bursts, left_out)


def demand_of_rates(rates: Rates, like: Sequence[TraceRequest], late_share: float, scale: float = 1.0) -> Demand:
    """Of a table of rates, each request as long as one of `like`; its windows are the table's."""
    fitting = [each for each in like if each.prompt_tokens + each.output_tokens <= CONTEXT_TOKENS]
    window_s = rates.at_s[1] - rates.at_s[0] if len(rates.at_s) > 1 else 1.0
    return _demand(np.array(rates.per_s) * scale, window_s, late_share, lengths_of(fitting), AT_RANDOM, 0.0)


def dispersion_of(at_s: Floats, window_s: float) -> float:
    """Of the numbers in each second, around the mean of their window; never below 1.

    It stays as it is where a trace is laid over itself to make it denser.
    """
    seconds = max(2, int(window_s))
    counts = np.bincount(at_s.astype(np.int64))
    whole = counts[: len(counts) // seconds * seconds].reshape(-1, seconds)
    if not whole.sum():
        return 1.0
    return max(1.0, float(whole.var(axis=1, ddof=1).sum() / whole.mean(axis=1).sum()))


def lengths_of(requests: Sequence[TraceRequest]) -> Lengths:
    """Some hundred of them, evenly over all when sorted by what they take, the longest among them."""
    ordered = sorted(requests, key=lambda each: (each.prompt_tokens + each.output_tokens, each.prompt_tokens))
    places = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), _KEPT_LENGTHS)).round().astype(int))
    kept = [ordered[place] for place in places]
    prompt, output = ([float(getattr(each, name)) for each in kept] for name in ("prompt_tokens", "output_tokens"))
    return Lengths(np.array(prompt), np.maximum(1.0, np.array(output)))


def late_share_at(windows: Floats, per_s: float) -> float:
    """Share of the requests that come while there is more to do than `per_s`, or still some of it left.

    A fluid: what a window leaves undone is added to the next one.
    """
    backlog, late, everyone = 0.0, 0.0, float(windows.sum())
    for rate in windows.tolist():
        over = max(0.0, backlog + rate - per_s)
        late += rate if backlog > 0 else rate * over / rate if rate else 0.0
        backlog = over
    return late / everyone if everyone else 0.0


def _demand(
    windows: Floats, window_s: float, late_share: float, lengths: Lengths, bursts: Bursts, left_out: float
) -> Demand:
    low, high = 0.0, float(windows.max())
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if late_share_at(windows, middle) > late_share:
            low = middle
        else:
            high = middle
    return Demand(
        high,
        float(windows.mean()),
        float(windows.max()),
        late_share,
        window_s,
        lengths,
        bursts,
        left_out,
        tuple(windows.tolist()),
    )
