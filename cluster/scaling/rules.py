"""What scaling goes by beside the load."""

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.config import ClusterConfig, Tier
from model.config import Size


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """`promises`: the share of quality that each tier promises; `sizes`: that may answer for it."""

    promises: Mapping[Tier, float]
    sizes: Mapping[Tier, frozenset[Size]]
    upscale_delay_s: Mapping[Size, float]
    downscale_delay_s: Mapping[Size, float]
    target_load: float
    window_s: float
    catch_up_s: float
    sleep_after_s: float


def scaling_rules(config: ClusterConfig) -> ScalingRules:
    """As configured."""
    return ScalingRules(
        promises={tier: each.quality_share for tier, each in config.tiers.items()},
        sizes={tier: frozenset(each.sizes) for tier, each in config.tiers.items()},
        upscale_delay_s={size: each.replicas.upscale_delay_s for size, each in config.sizes.items()},
        downscale_delay_s={size: each.replicas.downscale_delay_s for size, each in config.sizes.items()},
        target_load=config.scaling.target_load,
        window_s=config.scaling.window_s,
        catch_up_s=config.scaling.catch_up_s,
        sleep_after_s=config.scaling.sleep_after_s,
    )
