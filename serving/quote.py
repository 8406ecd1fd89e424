"""What a request would cost and take on every size, and which would answer it: the answer before the answer."""

from dataclasses import dataclass

from cluster.config import Tier
from cluster.routing.choice import Offer
from cluster.routing.pricing import usd
from cluster.snapshot import Decision, RouteFacts, SizeState, Snapshot
from model.config import Size
from model.errors import Code, Fault


@dataclass(frozen=True, slots=True)
class SizeQuote:
    """One size by itself. Prices are of all choices; times, with their quantiles, of the whole answer."""

    size: Size
    quality: float  # chance of a right answer
    cost_usd: float  # expected
    max_cost_usd: float  # should the answer be as long as it may
    prompt_tokens: int
    expected_output_tokens: float
    time_p50_s: float | None  # None: not measured yet
    time_p90_s: float | None
    ready: bool
    load: float  # ongoing requests per decoding slot; 0 without a replica


@dataclass(frozen=True, slots=True)
class Quote:
    """Every served size, cheapest first. `chosen` is None where the request would be refused now."""

    model: str
    tier: Tier | None
    chosen: Size | None
    then: Size | None  # may take over
    reason: str
    detail: str
    sizes: tuple[SizeQuote, ...]


def quote_of(model: str, facts: RouteFacts, found: Decision | Fault, now: Snapshot, num_choices: int) -> Quote:
    """A decision, or why there is none, beside all sizes."""
    sizes = tuple(_size(facts.offer(state.size), state, facts, found, num_choices) for state in now.sizes)
    if isinstance(found, Fault):
        reason = "unaffordable" if found.field == "max_cost" else found.reason
        return Quote(model, facts.tier, None, None, reason, found.message, sizes)
    return Quote(model, facts.tier, found.size, found.then, found.reason.value, found.detail, sizes)


def would_refuse(fault: Fault) -> bool:
    """Whether a fault is the router's answer for now, so that a quote can tell it; others are the request's errors."""
    return fault.code in (Code.OVERLOADED, Code.NOT_READY) or fault.field == "max_cost"


def _size(
    offer: Offer, state: SizeState, facts: RouteFacts, found: Decision | Fault, num_choices: int
) -> SizeQuote:  # fmt: skip
    most = float(facts.max_tokens)
    if isinstance(found, Decision) and found.size is state.size and found.max_output_tokens is not None:
        most = min(most, float(found.max_output_tokens))  # a cost limit cuts the answer
    expected = min(offer.output_tokens, most)

    def price(output_tokens: float) -> float:
        return num_choices * usd(state.usd_per_mtoken, facts.prompt_tokens, output_tokens)

    pace = state.pace
    expected_s = None if pace is None else pace.answer_s(facts.prompt_tokens, expected)
    p50, p90 = (None, None) if pace is None else (pace.p50, pace.p90)
    return SizeQuote(
        size=state.size,
        quality=offer.quality,
        cost_usd=price(expected),
        max_cost_usd=price(most),
        prompt_tokens=facts.prompt_tokens,
        expected_output_tokens=expected,
        time_p50_s=None if expected_s is None or p50 is None else p50 * expected_s,
        time_p90_s=None if expected_s is None or p90 is None else p90 * expected_s,
        ready=state.num_replicas > 0,
        load=state.load if state.slots else 0.0,
    )
