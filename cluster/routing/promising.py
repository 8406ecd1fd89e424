"""Rates of exchange for every promise, from what each rate brings on prompts that were not fitted on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cluster.routing.labels import Labels
from cluster.routing.profile import Promise
from cluster.routing.solve import Floats

QUALITIES: Final = tuple(round(0.5 + 0.01 * step, 2) for step in range(51))
# Below nothing, more is paid than a prediction justifies: the way to the largest size for every prompt.
RATES: Final = (*-np.geomspace(1, 1e-3, 40), 0.0, *np.geomspace(1e-3, 10, 240))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rate brings, [N] each: the column of the size that answered, right by label, by prediction, paid."""

    taken: NDArray[np.int64]
    right: Floats
    predicted: Floats
    paid: Floats


AtRate = Callable[[float], Outcome]


def directly(chances: Floats, costs: Floats, labels: Labels) -> AtRate:
    """One size for each prompt, as `cluster.routing.choice.best` takes it."""
    everyone, paid = np.arange(len(labels)), labels.costs

    def at(rate: float) -> Outcome:
        taken = chosen(chances, costs, rate)
        return Outcome(taken, labels.right[everyone, taken], chances[everyone, taken], paid[everyone, taken])

    return at


def chosen(chances: Floats, costs: Floats, rate: float) -> NDArray[np.int64]:
    """[N] column of the size that `cluster.routing.choice.best` takes."""
    return np.asarray(np.argmax(chances - rate * costs, axis=1), np.int64)


def promises(at: AtRate, chances: Floats, labels: Labels) -> tuple[Promise, ...]:
    """For each quality the highest rate at which it is kept, and what that brings."""
    rates = np.array(RATES)
    shares = np.array([_share(at(rate), chances, labels) for rate in RATES])
    return tuple(
        _promise(quality, float(rates[shares >= quality].max(initial=rates[0])), at, labels) for quality in QUALITIES
    )


def _share(outcome: Outcome, chances: Floats, labels: Labels) -> float:
    """Share of the largest size's right answers: the mean of what labels and what predictions say.

    The labels are right and few, the predictions smooth and a little off.
    """
    counted = outcome.right.sum() / labels.right[:, -1].sum()
    predicted = outcome.predicted.sum() / chances[:, -1].sum()
    return float(counted + predicted) / 2


def _promise(quality: float, rate: float, at: AtRate, labels: Labels) -> Promise:
    outcome, most = at(rate), labels.right[:, -1]
    kept = float(outcome.right.sum() / most.sum())
    # A ratio of two means over the same prompts: its standard error by the delta method.
    error = 1.96 * float(np.sqrt(np.mean((outcome.right - kept * most) ** 2) / len(most))) / float(most.mean())
    return Promise(
        quality=quality, exchange_rate=rate, quality_share=kept, low=kept - error, high=kept + error,
        cost_share=float(outcome.paid.sum() / labels.costs[:, -1].sum()),
        sizes={size: float(np.mean(outcome.taken == column)) for column, size in enumerate(labels.sizes)},
    )  # fmt: skip
