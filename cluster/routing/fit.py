"""Labelled prompts -> a profile. Everything that the profile claims is measured on prompts it was not fitted on."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cluster.routing.cascading import cascaded, judged, judges
from cluster.routing.counts import NAMES
from cluster.routing.features import WIDTH, Scale, Text, learn
from cluster.routing.grams import BUCKETS
from cluster.routing.labels import Labels
from cluster.routing.pricing import cost
from cluster.routing.profile import Bin, Data, Fitted, Profile, Unseen
from cluster.routing.promising import directly, promises
from cluster.routing.solve import Floats, logistic, ridge, sigmoid
from model.config import SIZES, Size

MAX_PROMPTS: Final = 4000  # the fit takes their square in memory; of more, so many are drawn
FOLDS: Final = 5
SEED: Final = 20260101
QUALITY_STRENGTH: Final = 0.5
TOKENS_STRENGTH: Final = 0.7
_BINS: Final = 10
_FUTILE_ANSWERS: Final = 20
_CHUNK: Final = 4096  # features at once: products in single precision, their sum in double

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Rows:
    """All texts as one matrix [N, P] of the features that any of them has, and their inner products [N, N]."""

    scale: Scale
    places: NDArray[np.int64]
    values: NDArray[np.float32]
    products: Floats


def rows_of(texts: list[Text]) -> Rows:
    """Learn the scale, and apply it."""
    scale = learn(texts)
    sparse = [scale.row(text) for text in texts]
    seen = np.zeros(WIDTH, bool)
    for row in sparse:
        seen[row.places[row.values != 0]] = True
    places = np.flatnonzero(seen)
    column = np.cumsum(seen) - 1
    values = np.zeros((len(texts), len(places)), np.float32)
    for number, row in enumerate(sparse):
        known = seen[row.places]
        values[number, column[row.places[known]]] = row.values[known]
    products = np.ones((len(texts), len(texts)))  # the ones are the bias
    for begin in range(0, len(places), _CHUNK):
        part = values[:, begin : begin + _CHUNK]
        products += part @ part.T
    return Rows(scale, places, values, products)


@dataclass(frozen=True, slots=True)
class Guesses:
    """Logit and logarithm of tokens, [N, S] each."""

    logits: Floats
    log_tokens: Floats


def solve(products: Floats, labels: Labels, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Coefficients over `rows`, [n, S] for chances and for the logarithm of tokens."""
    inner = products[np.ix_(rows, rows)]
    chances = [logistic(inner, labels.right[rows, size], QUALITY_STRENGTH) for size in range(len(labels.sizes))]
    return np.stack(chances, axis=1), ridge(inner, np.log1p(labels.output_tokens[rows]), TOKENS_STRENGTH)


def guesses_for(products: Floats, labels: Labels, train: NDArray[np.int64], test: NDArray[np.int64]) -> Guesses:
    """What a fit on `train` says of `test`."""
    chances, tokens = solve(products, labels, train)
    across = products[np.ix_(test, train)]
    return Guesses(across @ chances, across @ tokens)


def held_out(products: Floats, labels: Labels) -> Guesses:
    """For each prompt, what a fit on the other folds says, [N, S]."""
    order = np.random.default_rng(SEED).permutation(len(labels))
    found = Guesses(np.empty(labels.right.shape), np.empty(labels.right.shape))
    for fold in range(FOLDS):
        test = np.sort(order[fold::FOLDS])
        train = np.setdiff1d(order, test)
        said = guesses_for(products, labels, train, test)
        found.logits[test], found.log_tokens[test] = said.logits, said.log_tokens
    return found


@dataclass(frozen=True, slots=True)
class Correction:
    """Makes guesses honest: logit -> slope x logit + shift, tokens x spread; [S] each."""

    slope: Floats
    shift: Floats
    spread: Floats

    def chances(self, guesses: Guesses) -> Floats:
        """[N, S] in [0, 1]."""
        return sigmoid(guesses.logits * self.slope + self.shift)

    def tokens(self, guesses: Guesses) -> Floats:
        """[N, S]."""
        return np.exp(guesses.log_tokens) * self.spread


def correct(guesses: Guesses, right: Floats, output_tokens: Floats) -> Correction:
    """From guesses about prompts that were not fitted on (J. Platt, Probabilities for SV Machines, 1999)."""
    slopes, shifts = [], []
    for size in range(right.shape[1]):
        raw = np.stack([guesses.logits[:, size], np.ones(len(right))], axis=1)
        found = raw.T @ logistic(raw @ raw.T, right[:, size], 100.0)
        slopes.append(float(found[0]))
        shifts.append(float(found[1]))
    spread = output_tokens.mean(axis=0) / np.exp(guesses.log_tokens).mean(axis=0)
    return Correction(np.array(slopes), np.array(shifts), spread)


def calibration(chances: Floats, right: Floats) -> tuple[Bin, ...]:
    """Prompts in bins of equal number by predicted chance, [N] each."""
    order = np.argsort(chances, kind="stable")
    return tuple(
        Bin(predicted=float(chances[part].mean()), right=float(right[part].mean()), prompts=len(part))
        for part in np.array_split(order, _BINS)
        if len(part)
    )


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Mean distance between predicted and right, weighed by prompts."""
    return sum(b.prompts * abs(b.predicted - b.right) for b in bins) / sum(b.prompts for b in bins)


def fit(labels: Labels, about: str = "", progress: Progress = lambda _: None) -> Profile:
    """Everything: features, chances, tokens, corrections, promises."""
    if len(labels) > MAX_PROMPTS:
        drawn = np.random.default_rng(SEED).choice(len(labels), MAX_PROMPTS, replace=False)
        labels = labels.take(np.sort(drawn))
    progress("reading the prompts")
    rows = rows_of(labels.texts)
    progress("fitting on four fifths, five times")
    everyone = np.arange(len(labels))
    guesses = held_out(rows.products, labels)
    correction = correct(guesses, labels.right, labels.output_tokens)
    chances, mean_cost = correction.chances(guesses), float(labels.costs[:, -1].mean())
    parameters = np.array([SIZES[size].parameters_e9 for size in labels.sizes])
    costs = cost(parameters, labels.prompt_tokens[:, None], correction.tokens(guesses)) / mean_cost
    by_size = judges(chances, labels)
    progress("fitting on everything")
    on_chances, on_tokens = solve(rows.products, labels, everyone)
    both = np.concatenate([on_chances, on_tokens], axis=1)
    bins = {size: calibration(chances[:, column], labels.right[:, column]) for column, size in enumerate(labels.sizes)}
    return Profile(
        about=about,
        sizes=labels.sizes,
        parameters_e9={size: SIZES[size].parameters_e9 for size in labels.sizes},
        mean_cost=mean_cost,
        data=_data(labels),
        promises=promises(directly(chances, costs, labels), chances, labels),
        calibration=bins,
        calibration_error={size: calibration_error(found) for size, found in bins.items()},
        useful_tokens=useful_tokens(labels),
        judges={size: judged(judge) for size, judge in by_size.items()},
        cascade_promises=promises(cascaded(chances, costs, labels, by_size), chances, labels) if by_size else (),
        unseen=Unseen(chances=chances.astype(np.float16).reshape(-1), costs=costs.astype(np.float16).reshape(-1)),
        fitted=_fitted(rows, both, correction, labels.sizes),
    )


def useful_tokens(labels: Labels) -> dict[Size, int]:
    """Of each size the length beyond which at most one answer in a hundred was right, of twenty at least."""
    found: dict[Size, int] = {}
    for column, size in enumerate(labels.sizes):
        order = np.argsort(-labels.output_tokens[:, column], kind="stable")
        many = np.arange(1, len(order) + 1)
        futile = np.flatnonzero((np.cumsum(labels.right[order, column]) <= many / 100) & (many >= _FUTILE_ANSWERS))
        if len(futile) and futile[-1] + 1 < len(order):
            found[size] = int(labels.output_tokens[order[futile[-1] + 1], column])
    return found


def _data(labels: Labels) -> Data:
    paid = labels.costs.sum(axis=0)
    return Data(
        sha256=labels.sha256,
        prompts=len(labels),
        groups=dict(Counter(labels.groups)),
        right_share=_by_size(labels.sizes, labels.right.mean(axis=0)),
        cost_share=_by_size(labels.sizes, paid / paid[-1]),
    )


def _fitted(rows: Rows, coefficients: Floats, correction: Correction, sizes: tuple[Size, ...]) -> Fitted:
    rarity = np.append(rows.scale.rarity, np.ones(len(NAMES)))[rows.places]
    return Fitted(
        buckets=BUCKETS,
        places=rows.places.astype(np.int32),
        rarity=rarity.astype(np.float16),
        weights=(rows.values.T @ coefficients).astype(np.float16).reshape(-1),
        bias=tuple(map(float, coefficients.sum(axis=0))),
        slope=_by_size(sizes, correction.slope),
        shift=_by_size(sizes, correction.shift),
        spread=_by_size(sizes, correction.spread),
        counts_mean=dict(zip(NAMES, map(float, rows.scale.mean), strict=True)),
        counts_spread=dict(zip(NAMES, map(float, rows.scale.spread), strict=True)),
    )


def _by_size(sizes: tuple[Size, ...], values: Floats) -> dict[Size, float]:
    return dict(zip(sizes, map(float, values), strict=True))
