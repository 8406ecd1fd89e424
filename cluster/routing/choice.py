"""The cheapest plan that is worth its price: a chance of being right against what it costs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from model.config import Size


@dataclass(frozen=True, slots=True)
class Offer:
    """What one size would bring for a request. `cost` in mean costs of the largest size."""

    size: Size
    quality: float
    cost: float
    output_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A size that answers first, and a larger one that takes over when the answer looks weak. `worth` as of `worth`."""

    first: Size
    then: Size | None
    worth: float


Foreseen = Callable[[Offer, Offer], float]
"""Of a smaller and a larger offer: what their cascade is worth, the price of the first not yet taken off."""


def worth(offer: Offer, exchange_rate: float) -> float:
    """Chance of a right answer less what is given up for its price."""
    return offer.quality - exchange_rate * offer.cost


def best(offers: Sequence[Offer], exchange_rate: float) -> Offer:
    """The offer worth most; of equals the cheapest. A lower rate never takes a cheaper size.

    Below nothing a rate asks for more than predictions promise, in the end for the dearest size always.
    """
    return max(offers, key=lambda offer: (worth(offer, exchange_rate), -offer.cost, offer.quality))


def plan(offers: Sequence[Offer], exchange_rate: float, foreseen: Foreseen | None = None) -> Plan:
    """One size, or two in a row where looking at the smaller one's answer first is expected to be worth more.

    `offers` from small to large. Without `foreseen` no cascade is thought of.
    """
    chosen = best(offers, exchange_rate)
    found = Plan(chosen.size, None, worth(chosen, exchange_rate))
    if foreseen is None:
        return found
    for place, small in enumerate(offers):
        for large in offers[place + 1 :]:
            value = foreseen(small, large) - exchange_rate * small.cost
            if value > found.worth + 1e-9:
                found = Plan(small.size, large.size, value)
    return found
