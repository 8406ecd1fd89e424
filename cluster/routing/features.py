"""A text as one sparse vector: n-grams weighed by rarity, and counts measured from their mean."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cluster.routing.counts import NAMES, counts
from cluster.routing.grams import BUCKETS, Buckets, grams
from cluster.routing.solve import Floats

WIDTH: Final = 2 * BUCKETS + len(NAMES)
"""Buckets of characters, buckets of words, counts."""
_COUNTS_WEIGHT: Final = 0.12  # beside n-grams, whose block has length 1: n-grams decide, counts tip
_FURTHEST: Final = 4.0  # standard deviations: a text unlike all others must not decide by its length alone


@dataclass(frozen=True, slots=True)
class Text:
    """What of a request is looked at."""

    text: str
    prompt_tokens: int
    turns: int = 1


@dataclass(frozen=True, slots=True)
class Sparse:
    """One row of `WIDTH` numbers, of which those at `places` are not zero."""

    places: Buckets
    values: Floats


@dataclass(frozen=True, slots=True)
class Scale:
    """What a set of texts taught: `rarity` [2 x BUCKETS] of each bucket, 0 for unknown; mean and spread of counts."""

    rarity: Floats
    mean: Floats
    spread: Floats

    def row(self, text: Text) -> Sparse:
        """Well under a millisecond for 2,000 tokens."""
        found = grams(text.text)
        characters = self._block(found.characters, 0)
        words = self._block(found.words, BUCKETS)
        numbers = (np.array(counts(text.text, text.prompt_tokens, text.turns)) - self.mean) / self.spread
        return Sparse(
            np.concatenate([characters.places, words.places, np.arange(2 * BUCKETS, WIDTH)]),
            np.concatenate([characters.values, words.values, _COUNTS_WEIGHT * numbers.clip(-_FURTHEST, _FURTHEST)]),
        )

    def _block(self, buckets: Buckets, offset: int) -> Sparse:
        """Logarithm of how often, times rarity, of length 1."""
        often = np.bincount(buckets, minlength=BUCKETS)
        places = np.flatnonzero(often)
        values = np.log1p(often[places]) * self.rarity[offset + places]
        length = float(np.sqrt(values @ values))
        return Sparse(places + offset, values / length if length else values)


def learn(texts: list[Text], least: int = 2) -> Scale:
    """Rarity and spread from texts; buckets that fewer than `least` texts fill are left out."""
    filled = np.zeros(2 * BUCKETS)
    numbers = np.empty((len(texts), len(NAMES)))
    for place, text in enumerate(texts):
        found = grams(text.text)
        filled[np.unique(found.characters)] += 1
        filled[BUCKETS + np.unique(found.words)] += 1
        numbers[place] = counts(text.text, text.prompt_tokens, text.turns)
    rarity = np.where(filled >= least, np.log((1 + len(texts)) / (1 + filled)) + 1, 0.0)
    return Scale(rarity, numbers.mean(axis=0), numbers.std(axis=0) + 1e-6)
