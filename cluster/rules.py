"""What choosing goes by beside the request and the cluster's state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cluster.config import ClusterConfig, RoutingConfig, Tier, TierConfig
from cluster.forecast import Forecast
from cluster.routing.judge import Judge
from cluster.routing.profile import Profile
from model.config import Size


@dataclass(frozen=True, slots=True)
class Rules:
    """`rate` turns a tier's promised share of quality into a rate of exchange, with or without cascades."""

    tiers: Mapping[Tier, TierConfig]
    routing: RoutingConfig
    rate: Callable[[Tier | None, float, bool], float]
    judges: Mapping[Size, Judge]
    unit_usd: float
    useful_tokens: Mapping[Size, int]


def rules_of(config: ClusterConfig, profile: Profile, forecast: Forecast) -> Rules:
    """The configured tiers at the profile's rates."""

    def rate(tier: Tier | None, share: float, cascade: bool) -> float:
        del tier  # whoever watches what is kept may know better for one of them
        return profile.exchange_rate(share, cascade)

    return Rules(config.tiers, config.routing, rate, forecast.judges, forecast.unit_usd, forecast.useful_tokens)
