"""A plan as settings of the cluster. Pure."""

from collections.abc import Mapping
from math import floor
from typing import Final

from cluster.config import EMBEDDED_SIZES, AutoscaleConfig, ClusterConfig, SizeConfig, Tier, TierConfig
from cluster.planning.problem import FleetPlan, Part
from model.capacity import BLOCK_TOKENS, bytes_per_block
from model.checkpoint import shape_of
from model.config import Dtype, EngineConfig, Size

CPU: Final = "cpu"
"""The kind of device that stand-ins are measured on."""
_GB: Final = 1e9
_CPUS_PER_RANK: Final = 4
# As for the embedded family: in the ratio of the parameters, which routing profiles count costs by.
_USD_PER_MTOKEN: Final = {Size.B2: 0.10, Size.B9: 0.35, Size.B27: 1.04}


def settings_of(plan: FleetPlan, tiers: Mapping[Tier, TierConfig], profile: str) -> ClusterConfig:
    """Sizes as planned, tiers that ask for what was planned; tiers without traffic keep what they ask for."""
    asked = {
        tier: config.model_copy(update={"quality_share": plan.mixes[tier].threshold}) if tier in plan.mixes else config
        for tier, config in tiers.items()
    }
    return ClusterConfig.model_validate(
        {
            "sizes": {part.size: _size(part) for part in plan.parts},
            "tiers": {tier: config.model_dump(exclude_unset=True) for tier, config in asked.items()},
            "routing": {"profile": profile},
        }
    )


def _size(part: Part) -> SizeConfig:
    speed = part.candidate.speed
    replicas = AutoscaleConfig(min_replicas=part.replicas, max_replicas=part.replicas)
    if speed.device == CPU:
        embedded = EMBEDDED_SIZES[part.size]
        return embedded.model_copy(update={"tensor_parallel": speed.degree, "replicas": replicas})
    return SizeConfig(
        source=f"hf://google/gemma-2-{part.size}-it",
        tensor_parallel=speed.degree,
        gpus_per_rank=1,
        cpus_per_rank=_CPUS_PER_RANK,
        threads_per_rank=_CPUS_PER_RANK,
        engine=EngineConfig(
            dtype=Dtype.BF16,
            quantization=speed.quantization,
            max_running=speed.slots,
            max_step_tokens=speed.max_step_tokens,
            kv_memory_gb=kv_memory_gb(part),
        ),
        replicas=replicas,
        usd_per_mtoken=_USD_PER_MTOKEN[part.size],
    )


def kv_memory_gb(part: Part) -> float:
    """Of each rank, for the tokens that the plan counts on, rounded down to 10 MB."""
    speed = part.candidate.speed
    blocks = 2 * (speed.kv_tokens // BLOCK_TOKENS)
    return floor(blocks * bytes_per_block(shape_of(part.size), speed.degree, Dtype.BF16) / _GB * 100) / 100
