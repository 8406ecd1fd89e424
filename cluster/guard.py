"""Answers that run away: they repeat themselves, or grow past every use. Pure.

On public Gemma 2 results no answer of the 2B above 1,500 tokens was right, and those were half of what it wrote.
"""

from collections.abc import Sequence
from typing import Final

from cluster.config import GuardConfig
from cluster.routing.choice import Offer

_LONGEST_PERIOD: Final = 64
_REPEATED_TOKENS: Final = 64  # at the least, so that a ruled line or a row of zeros is not taken for a loop
_REPEATS: Final = 4


def most_tokens(offer: Offer, useful_tokens: int | None, config: GuardConfig) -> int:
    """Length from which an answer counts as running away.

    A multiple of the prediction, and where it is known not above the length from which this size was never right.
    """
    bound = max(config.least_tokens, int(config.length_factor * offer.output_tokens))
    return bound if useful_tokens is None else max(config.least_tokens, min(bound, useful_tokens))


def repeats(token_ids: Sequence[int]) -> bool:
    """Whether the end of an answer says the same again and again; tens of microseconds."""
    tail = list(token_ids[-(_LONGEST_PERIOD * _REPEATS) :])
    for period in range(1, _LONGEST_PERIOD + 1):
        span = max(_REPEATED_TOKENS, _REPEATS * period)
        if span > len(tail):
            return False
        end = tail[-span:]
        if end[period:] == end[:-period]:
            return True
    return False
