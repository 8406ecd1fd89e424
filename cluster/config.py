"""The cluster's branch of the configuration tree: sizes, tiers, bounds."""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.config import SIZES, EngineConfig, Size


class _Branch(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tier(StrEnum):
    """What a request buys: a promise of price and quality that may be kept by any size."""

    ECONOMY = "economy"
    BALANCED = "balanced"
    PREMIUM = "premium"
    AUTO = "auto"


class AutoscaleConfig(_Branch):
    """Bounds and pace of one size's replicas."""

    min_replicas: int = Field(1, ge=0, description="Replicas kept running; 0 lets the size sleep.")
    max_replicas: int = Field(1, ge=1, description="Replicas at most.")
    target_ongoing_requests: float = Field(16, ge=1, description="Requests per replica that scaling aims at.")
    upscale_delay_s: float = Field(10, ge=0, description="Seconds of pressure before a replica is added.")
    downscale_delay_s: float = Field(120, ge=0, description="Seconds of calm before a replica is removed.")

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas={self.min_replicas} is above max_replicas={self.max_replicas}")
        return self


class ExpectedQuality(_Branch):
    """Share of answers that are right, by predicted difficulty: linear between `easy` (0) and `hard` (1)."""

    easy: float = Field(ge=0, le=1, description="Share right at difficulty 0.")
    hard: float = Field(ge=0, le=1, description="Share right at difficulty 1.")


class SizeConfig(_Branch):
    """One size: which weights, how sharded, how many replicas, what it costs."""

    source: str = Field(
        description="Where the checkpoint is: `embedded:NAME`, a local folder, `hf://ID` or `kaggle://HANDLE`."
    )
    revision: str | None = Field(None, description="Commit or version of a hub checkpoint; none means newest.")
    tensor_parallel: int = Field(1, ge=1, le=16, description="Ranks per replica; divides the size's attention heads.")
    gpus_per_rank: float = Field(0, ge=0, le=1, description="GPUs that a rank takes; 0 runs on CPU.")
    cpus_per_rank: float = Field(
        1, gt=0, description="CPUs that Ray reserves for a rank; a laptop may promise more than it has."
    )
    threads_per_rank: int = Field(1, ge=1, le=256, description="Threads torch uses in a rank on CPU.")
    engine: EngineConfig = Field(EngineConfig(), description="Settings of each replica's engine.")
    replicas: AutoscaleConfig = Field(AutoscaleConfig(), description="Bounds and pace of scaling.")
    usd_per_mtoken: float = Field(gt=0, description="Price of a million output tokens; a prompt token costs a quarter.")
    quality: ExpectedQuality = Field(description="Expected quality by difficulty, as `gemmule evaluate` measures it.")


class TierConfig(_Branch):
    """What a tier promises."""

    quality_share: float = Field(
        ge=0, le=1, description="Share of the largest size's expected quality that a chosen size must reach."
    )
    sizes: tuple[Size, ...] = Field(
        (Size.B2, Size.B9, Size.B27), min_length=1, description="Sizes that may answer for this tier."
    )


class ReplicaChoice(StrEnum):
    """How the replica of a size is chosen."""

    PREFIX = "prefix"  # where the least is left to compute: prefix cache, queue and free memory
    POWER_OF_TWO = "power_of_two"  # Serve's own: the shorter queue of two at random


class RoutingConfig(_Branch):
    """When a size counts as under pressure, which of its replicas works, and how long answers may take."""

    spill_load: float = Field(
        1.0, gt=0, description="Ongoing requests per decoding slot from which a tier spills to a neighbour."
    )
    max_load: float = Field(
        4.0, gt=0, description="Ongoing requests per decoding slot from which new ones are refused with 429."
    )
    replica_choice: ReplicaChoice = Field(
        ReplicaChoice.PREFIX,
        description="Which replica of a size: `prefix` looks at what each has cached, `power_of_two` at queues alone.",
    )
    queue_tokens: int = Field(
        256,
        ge=1,
        description="Prompt tokens found cached that make a replica worth one more request in its queue, for `prefix`.",
    )
    default_timeout_s: float = Field(300, gt=0, le=3600, description="Deadline of a request that names none.")
    max_timeout_s: float = Field(3600, gt=0, le=86_400, description="Longest deadline; longer ones are cut to it.")


def _size(name: str, usd: float, easy: float, hard: float, degree: int = 1) -> SizeConfig:
    return SizeConfig(
        source=f"embedded:{name}",
        tensor_parallel=degree,
        usd_per_mtoken=usd,
        quality=ExpectedQuality(easy=easy, hard=hard),
        replicas=AutoscaleConfig(),
    )


# Prices in the ratio of the real sizes' parameters (2.61 : 9.24 : 27.23), since serving cost follows them. Quality by
# hand after the family's REPORT.md: near 0 are dates and facts, near 1 arithmetic; a fitted profile will replace it.
EMBEDDED_SIZES = {
    Size.B2: _size("nano-2b", 0.10, 0.98, 0.05),
    Size.B9: _size("nano-9b", 0.35, 0.99, 0.40),
    Size.B27: _size("nano-27b", 1.04, 0.99, 0.90, degree=2),
}
DEFAULT_TIERS = {
    Tier.ECONOMY: TierConfig(quality_share=0.0),
    Tier.BALANCED: TierConfig(quality_share=0.80),
    Tier.AUTO: TierConfig(quality_share=0.95),
    Tier.PREMIUM: TierConfig(quality_share=1.0),
}


class ClusterConfig(_Branch):
    """Everything below serving: one entry per size and per tier."""

    sizes: dict[Size, SizeConfig] = Field(EMBEDDED_SIZES, min_length=1, description="Sizes that are served.")
    tiers: dict[Tier, TierConfig] = Field(DEFAULT_TIERS, description="Tiers that requests may buy.")
    routing: RoutingConfig = Field(RoutingConfig(), description="Pressure and deadlines.")
    token_env: str = Field("HF_TOKEN", description="Environment variable that holds the hub token for gated weights.")

    @model_validator(mode="after")
    def _degrees_divide_heads(self) -> Self:
        for size, config in self.sizes.items():
            facts = SIZES[size]
            if config.tensor_parallel > facts.max_degree or facts.kv_heads % config.tensor_parallel:
                raise ValueError(
                    f"sizes.{size}.tensor_parallel={config.tensor_parallel} does not divide the {facts.kv_heads} KV "
                    f"heads of {size}; choose a divisor"
                )
        return self

    @model_validator(mode="after")
    def _tiers_name_served_sizes(self) -> Self:
        for tier, config in self.tiers.items():
            if not set(config.sizes) & set(self.sizes):
                raise ValueError(f"tiers.{tier}.sizes names no size that is served")
        return self
