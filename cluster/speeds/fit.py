"""The four coefficients of a speed from steps that were timed. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from cluster.routing.solve import Floats

_LEAST_STEPS: Final = 5


@dataclass(frozen=True, slots=True)
class TimedStep:
    """What was in a step, and how long it took."""

    prompt_tokens: float
    sequences: float
    context_tokens: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Coefficients:
    """As in `cluster.speed.Speed`. `error_share`: mean distance of fitted and timed, over the timed seconds."""

    step_s: float
    prefill_s_per_token: float
    decode_s_per_sequence: float
    decode_s_per_context_token: float
    error_share: float


def fit_steps(steps: Sequence[TimedStep]) -> Coefficients:
    """Least squares of the relative distances, no coefficient below 0; raises `ValueError` for too few steps.

    With four coefficients every set of them can be tried: the best without a negative one is the constrained optimum.
    """
    if len(steps) < _LEAST_STEPS:
        raise ValueError(f"{len(steps)} kinds of steps are too few to fit four coefficients on")
    timed = np.array([each.seconds for each in steps])
    inside = np.array([[1.0, each.prompt_tokens, each.sequences, each.context_tokens] for each in steps])
    rows = inside / timed[:, None]
    best, least = np.zeros(4), float("inf")
    for size in range(1, 5):
        for columns in combinations(range(4), size):
            found = _solved(rows, columns)
            error = float(((rows @ found - 1) ** 2).sum())
            if found.min() >= 0 and error < least:
                best, least = found, error
    step_s, prefill_s, sequence_s, context_s = map(float, best)
    return Coefficients(step_s, prefill_s, sequence_s, context_s, float(np.abs(rows @ best - 1).mean()))


def _solved(rows: Floats, columns: tuple[int, ...]) -> Floats:
    found = np.zeros(4)
    found[list(columns)] = np.linalg.lstsq(rows[:, columns], np.ones(len(rows)), rcond=None)[0]
    return found
