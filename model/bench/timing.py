"""Arrival times to what is reported: time to the first token, gaps between tokens, tokens per second."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arrival:
    """`num_tokens` new tokens at an instant, in seconds on the runner's clock."""

    at_s: float
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One workload on one engine. `ttft_s` has a number per request, `itl_s` one per token but the first ones."""

    output_tokens_per_s: float
    ttft_s: list[float]
    itl_s: list[float]
    wall_s: float
    output_tokens: int


def measured(began_s: float, requests: Sequence[Sequence[Arrival]]) -> Measured:
    """What the arrivals of all requests amount to; the clock starts when they were sent, together.

    Tokens that came in one piece share its gap equally, so engines that publish several at a time are neither better
    nor worse for it.
    """
    ttft_s, itl_s, tokens, last_s = [], [], 0, began_s
    for arrivals in requests:
        before_s = None
        for arrival in arrivals:
            tokens += arrival.num_tokens
            if before_s is None:
                ttft_s.append(arrival.at_s - began_s)
                itl_s += [0.0] * (arrival.num_tokens - 1)
            else:
                itl_s += [(arrival.at_s - before_s) / arrival.num_tokens] * arrival.num_tokens
            before_s = arrival.at_s
            last_s = max(last_s, arrival.at_s)
    wall_s = last_s - began_s
    return Measured(tokens / wall_s if wall_s else 0.0, ttft_s, itl_s, wall_s, tokens)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie, in [0, 1], between neighbours by proportion; 0 when there are none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
