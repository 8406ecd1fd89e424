"""Requests and clusters as values, for tests of what is decided about them."""

from math import inf

from cluster.config import ClusterConfig, Tier
from cluster.routing.choice import Offer
from cluster.routing.judge import Judge
from cluster.rules import Rules
from cluster.snapshot import Limits, Pace, RouteFacts, SizeState, Snapshot
from model.config import Size

CONFIG = ClusterConfig()
UNIT_USD = 1e-5
RATES = {Tier.BALANCED: 0.9, Tier.AUTO: 0.35, Tier.PREMIUM: -1.0}


def some_rules(judges: dict[Size, Judge] | None = None, config: ClusterConfig = CONFIG) -> Rules:
    """Rates by hand; the same with cascades and without."""

    def rate(tier: Tier | None, share: float, cascade: bool) -> float:
        del cascade
        return RATES.get(tier, inf) if tier and share == config.tiers[tier].quality_share else 1.0 - share

    return Rules(config.tiers, config.routing, rate, judges or {}, UNIT_USD, {})


def some_offers(b2: float = 0.4, b9: float = 0.7, b27: float = 0.9, tokens: float = 20.0) -> tuple[Offer, ...]:
    """Chances of a right answer by size, at the prices of the embedded family's slots."""
    costs = {Size.B2: 0.1, Size.B9: 0.34, Size.B27: 1.0}
    return tuple(Offer(size, quality, costs[size], tokens) for size, quality in zip(Size, (b2, b9, b27), strict=True))


def an_ask(target: Size | Tier, offers: tuple[Offer, ...] | None = None, **more: object) -> RouteFacts:
    """A request for a size or a tier; limits by their names."""
    names = ("max_cost_usd", "deadline_s", "min_quality")
    limits = Limits(**{name: more.pop(name) for name in names if name in more})  # type: ignore[arg-type]
    return RouteFacts(
        size=target if isinstance(target, Size) else None,
        tier=target if isinstance(target, Tier) else None,
        offers=offers or some_offers(),
        prompt_tokens=20,
        max_tokens=50,
        limits=limits,
        **more,  # type: ignore[arg-type]
    )


def a_state(
    size: Size, replicas: int = 1, load: float = 0.0, wakes: bool = False, pace: Pace | None = None
) -> SizeState:
    """One size of the cluster."""
    slots = 32 * replicas
    price = CONFIG.sizes[size].usd_per_mtoken
    return SizeState(size, replicas, round(load * slots), slots, 8192, price, wakes, pace)


def a_snapshot(b2: float | None = 0.0, b9: float | None = 0.0, b27: float | None = 0.0, **more: object) -> Snapshot:
    """Loads by size; None means no replica."""
    loads = dict(zip(Size, (b2, b9, b27), strict=True))
    states = tuple(a_state(size, 0 if load is None else 1, load or 0.0) for size, load in loads.items())
    return Snapshot(states, **more)  # type: ignore[arg-type]
