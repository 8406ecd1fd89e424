"""From answers that say how sure they were: judges, and what asking a small size first brings."""

from collections.abc import Mapping
from itertools import combinations
from typing import Final

import numpy as np

from cluster.routing.judge import Judge, logit, samples, view
from cluster.routing.labels import Labels
from cluster.routing.profile import Judged
from cluster.routing.promising import AtRate, Outcome
from cluster.routing.solve import Floats, few
from model.config import Size

_STRENGTH: Final = 10.0
_LEAST_ANSWERS: Final = 20  # of either kind, below which nothing is claimed


def judges(chances: Floats, labels: Labels) -> dict[Size, Judge]:
    """One for each size but the largest; `chances` [N, S] from fits on other prompts. None without evidence."""
    found: dict[Size, Judge] = {}
    if labels.evidence is None:
        return found
    for column, size in enumerate(labels.sizes[:-1]):
        seen, right = labels.evidence[:, column], labels.right[:, column] > 0.5
        if min(right.sum(), (~right).sum()) < _LEAST_ANSWERS:
            continue
        larger = range(column + 1, len(labels.sizes))
        views = {
            other: few(_features(chances[:, other], seen), labels.right[:, other], _STRENGTH)
            for other in (column, *larger)
        }
        rescue = {labels.sizes[other]: views[other] for other in larger}
        found[size] = Judge(views[column], rescue, samples(seen, right), samples(seen, ~right))
    return found


def _features(chances: Floats, evidence: Floats) -> Floats:
    return np.column_stack([logit(chances), evidence, np.ones(len(chances))])


def cascaded(chances: Floats, costs: Floats, labels: Labels, by_size: Mapping[Size, Judge]) -> AtRate:
    """Plans of one size or two, as `cluster.routing.choice.plan` makes them, and what their answers then decide.

    An escalated prompt pays both sizes in full; what a draft saves comes on top.
    """
    sizes, count, paid = labels.sizes, len(labels), labels.costs
    pairs = [(s, t) for s, t in combinations(range(len(sizes)), 2) if sizes[s] in by_size]
    ahead = {pair: _ahead(by_size[sizes[pair[0]]], sizes[pair[1]], chances, pair) for pair in pairs}
    evidence = np.empty((count, 0, 2)) if labels.evidence is None else labels.evidence
    told = {pair: _told(by_size[sizes[pair[0]]], chances, evidence[:, pair[0]], sizes[pair[1]], pair) for pair in pairs}

    def at(rate: float) -> Outcome:
        worths = [chances[:, column] - rate * costs[:, column] for column in range(len(sizes))]
        for pair in pairs:
            weight, keep, rescue = ahead[pair]
            later = np.maximum(keep, rescue - rate * costs[:, pair[1], None])
            worths.append((weight * later).sum(axis=1) - rate * costs[:, pair[0]])
        plans = np.argmax(np.stack(worths, axis=1), axis=1)
        out = Outcome(np.zeros(count, np.int64), np.zeros(count), np.zeros(count), np.zeros(count))
        for column in range(len(sizes)):
            _write(out, plans == column, column, labels.right, chances[:, column], paid[:, column])
        for number, pair in enumerate(pairs, len(sizes)):
            keep, rescue = told[pair]
            goes_on = rescue - rate * costs[:, pair[1]] > keep
            _write(out, (plans == number) & ~goes_on, pair[0], labels.right, keep, paid[:, pair[0]])
            _write(out, (plans == number) & goes_on, pair[1], labels.right, rescue, paid[:, list(pair)].sum(axis=1))
        return out

    return at


def _ahead(judge: Judge, large: Size, chances: Floats, pair: tuple[int, int]) -> tuple[Floats, Floats, Floats]:
    """Weight of each sampled answer, and both chances if it came, [N, K] each."""
    drawn = np.concatenate([judge.right, judge.wrong])
    small = chances[:, pair[0], None]
    parts = ((small, len(judge.right)), (1 - small, len(judge.wrong)))
    weight = np.concatenate([np.repeat(chance / number, number, axis=1) for chance, number in parts], axis=1)
    keep = np.stack([view(judge.keep, chances[:, pair[0]], each[None]) for each in drawn], axis=1)
    rescue = np.stack([view(judge.rescue[large], chances[:, pair[1]], each[None]) for each in drawn], axis=1)
    return weight, keep, rescue


def _told(judge: Judge, chances: Floats, seen: Floats, large: Size, pair: tuple[int, int]) -> tuple[Floats, Floats]:
    """Both chances once the small answers are there, [N] each."""
    keep = view(judge.keep, chances[:, pair[0]], seen)
    return keep, view(judge.rescue[large], chances[:, pair[1]], seen)


def _write(out: Outcome, which: Floats, column: int, right: Floats, predicted: Floats, paid: Floats) -> None:
    out.taken[which], out.right[which] = column, right[which, column]
    out.predicted[which], out.paid[which] = predicted[which], paid[which]


def judged(judge: Judge) -> Judged:
    """As a profile holds it."""
    return Judged(
        keep=_view(judge.keep),
        rescue={size: _view(weights) for size, weights in judge.rescue.items()},
        right=_pairs(judge.right),
        wrong=_pairs(judge.wrong),
    )


def judge_of(part: Judged) -> Judge:
    """As routing uses it."""
    rescue = {size: np.array(weights) for size, weights in part.rescue.items()}
    return Judge(np.array(part.keep), rescue, np.array(part.right), np.array(part.wrong))


def _view(weights: Floats) -> tuple[float, float, float, float]:
    logit_weight, mean, least, bias = map(float, weights)
    return logit_weight, mean, least, bias


def _pairs(evidence: Floats) -> tuple[tuple[float, float], ...]:
    return tuple((float(mean), float(least)) for mean, least in evidence)
