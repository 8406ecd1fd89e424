"""The cheapest size that is worth its price: a chance of being right against what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass

from model.config import Size


@dataclass(frozen=True, slots=True)
class Offer:
    """What one size would bring for a request. `cost` in mean costs of the largest size."""

    size: Size
    quality: float
    cost: float


def worth(offer: Offer, exchange_rate: float) -> float:
    """Chance of a right answer less what is given up for its price."""
    return offer.quality - exchange_rate * offer.cost


def best(offers: Sequence[Offer], exchange_rate: float) -> Offer:
    """The offer worth most; of equals the cheapest. A lower rate never takes a cheaper size.

    Below nothing a rate asks for more than predictions promise, in the end for the dearest size always.
    """
    return max(offers, key=lambda offer: (worth(offer, exchange_rate), -offer.cost, offer.quality))
