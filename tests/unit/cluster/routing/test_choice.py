"""The choice as a function: what more money, other prices and equal offers do to it."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.routing.choice import Offer, best
from model.config import Size

SHARES = st.floats(0, 1, allow_nan=False)
OFFERS = st.tuples(*(st.builds(Offer, st.just(size), SHARES, st.floats(0.01, 5)) for size in Size))
RATES = st.floats(0, 10, allow_nan=False)


@given(OFFERS, RATES, RATES)
def test_who_gives_up_less_quality_never_gets_less(offers: tuple[Offer, ...], one: float, two: float) -> None:
    careful, thrifty = (best(offers, rate) for rate in sorted((one, two)))
    assert careful.quality >= thrifty.quality - 1e-9
    if abs(one - two) > 1e-3:  # nearer rates differ by less than rounding
        assert careful.cost >= thrifty.cost - 1e-9


@given(OFFERS, RATES, st.permutations(range(3)))
def test_the_order_of_offers_does_not_matter(offers: tuple[Offer, ...], rate: float, order: list[int]) -> None:
    chosen, again = best(offers, rate), best([offers[place] for place in order], rate)
    assert (chosen.quality, chosen.cost) == (again.quality, again.cost)


@given(OFFERS, RATES)
def test_nothing_is_better_and_cheaper_than_what_is_chosen(offers: tuple[Offer, ...], rate: float) -> None:
    chosen = best(offers, rate)
    assert not any(offer.quality > chosen.quality + 1e-9 and offer.cost < chosen.cost for offer in offers)


def test_of_equals_the_cheapest() -> None:
    offers = [Offer(Size.B27, 0.5, 1.0), Offer(Size.B2, 0.5, 0.1), Offer(Size.B9, 0.5, 0.3)]
    assert best(offers, 0.0).size is Size.B2
