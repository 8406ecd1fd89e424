"""What a profile's promises cost on prompts that it was not fitted on, beside what else could be done."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cluster.routing.fit import calibration, calibration_error, fit
from cluster.routing.labels import Labels
from cluster.routing.outcome import Point, point
from cluster.routing.predictor import Predictor
from cluster.routing.profile import Profile
from cluster.routing.promising import RATES, chosen
from cluster.routing.solve import Floats
from model.config import Size

TEST_PARTS: Final = 5
QUALITIES: Final = (0.80, 0.90, 0.95, 0.98)


@dataclass(frozen=True, slots=True)
class Kept:
    """One promise over all splits."""

    promised: float
    quality: tuple[float, ...]  # of each split
    cost: tuple[float, ...]

    @property
    def mean_quality(self) -> float:
        """Over the splits."""
        return float(np.mean(self.quality))

    @property
    def mean_cost(self) -> float:
        """Over the splits."""
        return float(np.mean(self.cost))


@dataclass(frozen=True, slots=True)
class Frontier:
    """`curves`: points of each policy over all splits together, from cheap to dear."""

    splits: int
    tested: int
    kept: tuple[Kept, ...]
    curves: Mapping[str, tuple[Point, ...]]
    sizes: Mapping[Size, Point]
    calibration_error: Mapping[Size, float]


def offers_of(profile: Profile, labels: Labels) -> tuple[Floats, Floats]:
    """Predicted chances and costs, [N, S] each."""
    predictor = Predictor(profile)
    chances, costs = np.empty(labels.right.shape), np.empty(labels.right.shape)
    for row, text in enumerate(labels.texts):
        offers = predictor.offers(predictor.predict(text), text.prompt_tokens)
        chances[row], costs[row] = [offer.quality for offer in offers], [offer.cost for offer in offers]
    return chances, costs


@dataclass(frozen=True, slots=True)
class _Split:
    """What one split found; `kept` in the order of `QUALITIES`, `fixed` and `errors` in that of the sizes."""

    tested: int
    kept: list[Point]
    curves: dict[str, list[Point]]
    fixed: list[Point]
    errors: list[float]


def frontier(labels: Labels, splits: int, seed: int, progress: Callable[[int], None] = lambda _: None) -> Frontier:
    """Split, fit on the larger part, choose for the other; every `TEST_PARTS` splits choose for each prompt once."""
    found = []
    for number in range(splits):
        order = np.random.default_rng([seed, number // TEST_PARTS]).permutation(len(labels))
        found.append(_split(labels, np.sort(order[number % TEST_PARTS :: TEST_PARTS])))
        progress(number + 1)
    kept = zip(QUALITIES, zip(*(split.kept for split in found), strict=True), strict=True)
    fixed = [_mean(points) for points in zip(*(split.fixed for split in found), strict=True)]
    curves = {
        name: tuple(_mean(points) for points in zip(*(split.curves[name] for split in found), strict=True))
        for name in found[0].curves
    }
    errors = np.mean([split.errors for split in found], axis=0)
    return Frontier(
        splits=splits,
        tested=sum(split.tested for split in found),
        kept=tuple(Kept(q, tuple(p.quality for p in points), tuple(p.cost for p in points)) for q, points in kept),
        curves={**curves, "random mix": hull(fixed)},
        sizes=dict(zip(labels.sizes, fixed, strict=True)),
        calibration_error=dict(zip(labels.sizes, map(float, errors), strict=True)),
    )


def _split(labels: Labels, tested: NDArray[np.int64]) -> _Split:
    profile, test = fit(labels.take(np.setdiff1d(np.arange(len(labels)), tested))), labels.take(tested)
    chances, costs = offers_of(profile, test)
    columns = range(len(labels.sizes))
    return _Split(
        tested=len(test),
        kept=[point(test, chosen(chances, costs, profile.exchange_rate(quality))) for quality in QUALITIES],
        curves={
            "gemmule": [point(test, chosen(chances, costs, rate)) for rate in RATES],
            "threshold": _thresholds(test, chances),
            "oracle": [point(test, chosen(test.right, test.costs / test.costs[:, -1].mean(), 1e-3))],
        },
        fixed=[point(test, np.full(len(test), column)) for column in columns],
        errors=[calibration_error(calibration(chances[:, column], test.right[:, column])) for column in columns],
    )


def cost_at(curve: tuple[Point, ...], quality: float) -> float | None:
    """Least cost of a curve's points, mixed where need be, that reach a quality; None where none does."""
    corners = hull(curve)
    for low, high in pairwise(corners):
        if low.quality < quality <= high.quality:
            along = (quality - low.quality) / (high.quality - low.quality)
            return low.cost + along * (high.cost - low.cost)
    return corners[0].cost if corners and corners[0].quality >= quality else None


def _thresholds(labels: Labels, chances: Floats) -> list[Point]:
    """The largest size and one other, and a threshold between them (RouteLLM, I. Ong et al., 2024): each other one."""
    found, largest = [], len(labels.sizes) - 1
    for other in range(largest):
        gain = chances[:, largest] - chances[:, other]
        cuts = np.quantile(gain, np.linspace(0, 1, 41))
        found += [point(labels, np.where(gain >= cut, largest, other)) for cut in cuts]
    return found


def _mean(points: Sequence[Point]) -> Point:
    return Point(float(np.mean([p.quality for p in points])), float(np.mean([p.cost for p in points])))


def hull(points: Sequence[Point]) -> tuple[Point, ...]:
    """From cheap to dear, what a mix of two others does not beat."""
    kept: list[Point] = []
    for each in sorted(points, key=lambda p: (p.cost, -p.quality)):
        if kept and each.quality <= kept[-1].quality:
            continue
        while len(kept) > 1 and _below(kept[-2], kept[-1], each):
            kept.pop()
        kept.append(each)
    return tuple(kept)


def _below(first: Point, middle: Point, last: Point) -> bool:
    return (middle.quality - first.quality) * (last.cost - first.cost) <= (last.quality - first.quality) * (
        middle.cost - first.cost
    )
