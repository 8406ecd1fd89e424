"""What choosing goes by beside the request and the cluster's state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cluster.config import ClusterConfig, RoutingConfig, Tier, TierConfig
from cluster.forecast import Forecast
from cluster.promise_watch import PromiseWatch
from cluster.routing.judge import Judge
from cluster.routing.profile import Profile
from cluster.snapshot import SizeState
from model.config import Size

_PRIORITIES: Final = 21  # that a client may wish for


@dataclass(frozen=True, slots=True)
class Rules:
    """`rate` turns a tier's promised share of quality into a rate of exchange, with or without cascades."""

    tiers: Mapping[Tier, TierConfig]
    routing: RoutingConfig
    rate: Callable[[Tier | None, float, bool], float]
    judges: Mapping[Size, Judge]
    unit_usd: float
    useful_tokens: Mapping[Size, int]
    _standing: Mapping[Tier | None, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        shares = sorted(each.quality_share for each in self.tiers.values())
        last = max(1, len(shares) - 1)
        places = {tier: shares.index(each.quality_share) / last for tier, each in self.tiers.items()}
        object.__setattr__(self, "_standing", places if len(shares) > 1 else dict.fromkeys(self.tiers, 1.0))

    def standing(self, tier: Tier | None) -> float:
        """0 for the cheapest promise, 1 for the dearest; a size that was asked for by name is paid in full."""
        return 1.0 if tier is None else self._standing[tier]

    def load(self, state: SizeState, tier: Tier | None) -> float:
        """Requests per decoding slot before or beside one of this tier: cheaper ones wait for it."""
        if not state.slots:
            return float("inf")
        own = self.standing(tier)
        behind = sum(count for other, count in state.by_tier.items() if count and self.standing(other) < own)
        return max(0, state.ongoing - behind) / state.slots

    def max_load(self, tier: Tier | None) -> float:
        """Requests per decoding slot from which new ones are refused: the cheapest promise at half of the limit."""
        return self.routing.max_load * (1 + self.standing(tier)) / 2

    def priority(self, tier: Tier | None, wanted: int) -> int:
        """For an engine, where lower goes first: what a client wishes orders the requests of one tier alone."""
        return wanted + round(_PRIORITIES * len(self.tiers) * (1 - self.standing(tier)))


def rules_of(config: ClusterConfig, profile: Profile, forecast: Forecast, watch: PromiseWatch) -> Rules:
    """The configured tiers at the profile's rates, corrected by what was seen to be kept."""

    def rate(tier: Tier | None, share: float, cascade: bool) -> float:
        return profile.exchange_rate(watch.asked(tier, share) if tier else share, cascade)

    return Rules(config.tiers, config.routing, rate, forecast.judges, forecast.unit_usd, forecast.useful_tokens)
