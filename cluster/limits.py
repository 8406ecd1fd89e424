"""What a request's limits of cost and time leave of the sizes. Pure."""

from collections.abc import Sequence

from cluster.routing.choice import Offer
from cluster.routing.pricing import PROMPT_SHARE
from cluster.snapshot import RouteFacts, Snapshot
from model.config import Size


def affordable(offers: Sequence[Offer], facts: RouteFacts, unit_usd: float) -> list[Offer]:
    """The cheaper sizes, up to the last whose expected price is within the limit; all of them without one.

    A size counts as dear as any cheaper one, so that a higher limit only ever adds larger sizes.
    """
    limit = facts.limits.max_cost_usd
    if limit is None:
        return list(offers)
    kept: list[Offer] = []
    for offer in offers:
        if offer.cost * unit_usd > limit:
            break
        kept.append(offer)
    return kept


def output_tokens_within(facts: RouteFacts, usd_per_mtoken: float) -> int | None:
    """Tokens of an answer that the limit leaves room for at a size's price; None without a limit."""
    limit = facts.limits.max_cost_usd
    if limit is None:
        return None
    return max(1, int(limit * 1e6 / usd_per_mtoken - PROMPT_SHARE * facts.prompt_tokens))


def expected_s(offer: Offer, facts: RouteFacts, now: Snapshot, share_before: float = 1.0) -> float | None:
    """Seconds to the end of an answer; None where nothing was measured yet.

    `share_before`: of those ongoing, who goes first or beside it.
    """
    state = now.get(offer.size)
    if state is None or state.pace is None:
        return None
    waits_s = state.pace.wait_s * (1 - share_before)
    return state.pace.answer_s(facts.prompt_tokens, offer.output_tokens) - waits_s


def in_time(offers: Sequence[Offer], wanted: Size, facts: RouteFacts, now: Snapshot) -> Size:
    """The wanted size, or if it would be late the cheapest larger one that is not; if all are late, the fastest.

    Only larger sizes come into question because they keep the promise too. So a looser deadline never takes a dearer
    size; who would rather have a worse answer in time says so with `min_quality`.
    """
    deadline_s = facts.limits.deadline_s
    if deadline_s is None:
        return wanted
    place = next(place for place, offer in enumerate(offers) if offer.size is wanted)
    times = [(expected_s(offer, facts, now), offer.size) for offer in offers[place:]]
    known = [(took, size) for took, size in times if took is not None]
    if times[0][0] is None or not known:
        return wanted
    return next((size for took, size in known if took <= deadline_s), min(known)[1])
