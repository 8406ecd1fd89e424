"""What each size would make of a text before it runs: the chance that it is right, and how long it answers."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cluster.routing.choice import Offer
from cluster.routing.features import WIDTH, Scale, Text
from cluster.routing.grams import BUCKETS
from cluster.routing.pricing import cost
from cluster.routing.profile import Profile
from cluster.routing.solve import sigmoid
from model.config import CONTEXT_TOKENS, Size


@dataclass(frozen=True, slots=True)
class Prediction:
    """Of one request: chance of a right answer in [0, 1] and expected tokens of the answer, for each size."""

    quality: Mapping[Size, float]
    output_tokens: Mapping[Size, float]


class Predictor:
    """A profile, unpacked. Equal texts get equal predictions."""

    def __init__(self, profile: Profile) -> None:
        fitted = profile.fitted
        self.profile = profile
        outputs = 2 * len(profile.sizes)
        rarity = np.zeros(WIDTH)
        rarity[fitted.places] = fitted.rarity
        self._weights = np.zeros((WIDTH, outputs))
        self._weights[fitted.places] = fitted.weights.reshape(-1, outputs)
        mean, spread = (np.array(list(each.values())) for each in (fitted.counts_mean, fitted.counts_spread))
        self._scale = Scale(rarity[: 2 * BUCKETS], mean, spread)
        self._bias = np.array(fitted.bias)
        self._slope, self._shift, self._spread = (
            np.array([each[size] for size in profile.sizes]) for each in (fitted.slope, fitted.shift, fitted.spread)
        )

    def predict(self, text: Text) -> Prediction:
        """Takes well under a millisecond for 2,000 tokens."""
        row = self._scale.row(text)
        raw = row.values @ self._weights[row.places] + self._bias
        sizes = self.profile.sizes
        quality = sigmoid(raw[: len(sizes)] * self._slope + self._shift)
        tokens = np.clip(np.exp(raw[len(sizes) :]) * self._spread, 1, CONTEXT_TOKENS)
        return Prediction(
            dict(zip(sizes, map(float, quality), strict=True)), dict(zip(sizes, map(float, tokens), strict=True))
        )

    def offers(self, prediction: Prediction, prompt_tokens: int) -> tuple[Offer, ...]:
        """Of every size, smallest first."""
        profile = self.profile
        return tuple(
            Offer(
                size,
                prediction.quality[size],
                cost(profile.parameters_e9[size], prompt_tokens, prediction.output_tokens[size]) / profile.mean_cost,
            )
            for size in profile.sizes
        )
