"""What an answer says about itself: whether it is right, and whether a larger size would do better.

The larger size's chance is looked at again too: a prompt whose answer looks weak is often one that defeats all sizes,
and paying for the largest there buys nothing. (Deferral by the gain and not by doubt alone: W. Jitkrittum et al., When
Does Confidence-Based Cascade Deferral Suffice?, 2023.)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import log

import numpy as np
from numpy.typing import NDArray

from cluster.routing.choice import Offer
from cluster.routing.solve import Floats, sigmoid
from model.config import Size

SAMPLES = 32
_REMEMBERED = 2048
_NEAREST = 1e-4  # chances nearer to 0 or 1 count as this near


@dataclass(frozen=True, slots=True)
class Evidence:
    """How sure a size was of its answer: natural logarithms of its tokens' probabilities."""

    mean: float
    least: float


@dataclass(frozen=True, slots=True)
class Judge:
    """One size's answers. A view is (weight of the prediction's logit, of the mean, of the least, bias).

    `keep` looks at this size, `rescue` at each larger one. `right` and `wrong` [K, 2] are means and leasts of answers
    of either kind: what may come, before there is an answer.
    """

    keep: Floats
    rescue: Mapping[Size, Floats]
    right: Floats
    wrong: Floats
    _ahead: Mapping[Size | None, Floats] = field(init=False, repr=False, compare=False)
    foreseen: Callable[[Offer, Offer, float], float] = field(init=False, repr=False, compare=False)
    """Expected worth of asking the small one and then choosing; its own price is not taken off."""

    def __post_init__(self) -> None:
        """What each view says of the sampled answers, but for the prediction: the same for every request.

        Equal questions, as of a prompt that is quoted, retried or often asked, are answered once.
        """
        drawn = np.concatenate([self.right, self.wrong])
        views: list[tuple[Size | None, Floats]] = [(None, self.keep), *self.rescue.items()]
        object.__setattr__(self, "_ahead", {who: drawn @ w[1:3] + w[3] for who, w in views})
        object.__setattr__(self, "foreseen", lru_cache(_REMEMBERED)(self._foreseen))

    def kept(self, quality: float, seen: Evidence) -> float:
        """Chance that this answer is right."""
        return float(view(self.keep, quality, np.array([[seen.mean, seen.least]]))[0])

    def rescued(self, large: Size, quality: float, seen: Evidence) -> float:
        """Chance that the larger size's answer would be right."""
        return float(view(self.rescue[large], quality, np.array([[seen.mean, seen.least]]))[0])

    def _foreseen(self, small: Offer, large: Offer, exchange_rate: float) -> float:
        keep = 1 / (1 + np.exp(-self._ahead[None] - self.keep[0] * _log_odds(small.quality)))
        rescue = 1 / (1 + np.exp(-self._ahead[large.size] - self.rescue[large.size][0] * _log_odds(large.quality)))
        value, right = np.maximum(keep, rescue - exchange_rate * large.cost), len(self.right)
        if_right, if_wrong = float(value[:right].sum()) / right, float(value[right:].sum()) / (len(value) - right)
        return small.quality * if_right + (1 - small.quality) * if_wrong


def _log_odds(chance: float) -> float:
    inside = min(1 - _NEAREST, max(_NEAREST, chance))
    return log(inside / (1 - inside))


def logit(chance: Floats | float) -> Floats:
    """log(p / (1 - p)), with p kept away from 0 and 1."""
    inside = np.clip(chance, _NEAREST, 1 - _NEAREST)
    return np.asarray(np.log(inside / (1 - inside)), np.float64)


def view(weights: Floats, quality: Floats | float, evidence: Floats) -> Floats:
    """Chances [K] by one view of answers [K, 2], for one prediction or as many [K]."""
    return sigmoid(weights[0] * logit(quality) + evidence @ weights[1:3] + weights[3])


def samples(evidence: Floats, which: NDArray[np.bool_]) -> Floats:
    """[SAMPLES, 2] of those [N, 2], evenly drawn by the least; fewer where there are fewer."""
    some = evidence[which]
    order = np.argsort(some[:, 1], kind="stable")
    count = min(SAMPLES, len(some))
    drawn: Floats = some[order[((np.arange(count) + 0.5) * len(some) / max(1, count)).astype(int)]]
    return drawn
