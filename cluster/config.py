"""The cluster's branch of the configuration tree: sizes, tiers, bounds."""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.config import SIZES, EngineConfig, Size


class Branch(BaseModel):
    """A part of the tree: closed and frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tier(StrEnum):
    """What a request buys: a promise of price and quality that may be kept by any size."""

    ECONOMY = "economy"
    BALANCED = "balanced"
    PREMIUM = "premium"
    AUTO = "auto"


class AutoscaleConfig(Branch):
    """Bounds and pace of one size's replicas."""

    min_replicas: int = Field(1, ge=0, description="Replicas kept running; 0 lets the size sleep.")
    max_replicas: int = Field(1, ge=1, description="Replicas at most.")
    upscale_delay_s: float = Field(10, ge=0, description="Seconds of pressure before a replica is added.")
    downscale_delay_s: float = Field(
        120, ge=0, description="Seconds of calm before a replica is removed; doubles if too soon."
    )

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas={self.min_replicas} is above max_replicas={self.max_replicas}")
        return self


class ReplicaConfig(Branch):
    """What a replica is made of: a running one cannot take a change of it, another has to be started."""

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


class SizeConfig(ReplicaConfig):
    """One size: which weights, how sharded, how many replicas, what it costs."""

    replicas: AutoscaleConfig = Field(AutoscaleConfig(), description="Bounds and pace of scaling.")
    usd_per_mtoken: float = Field(gt=0, description="Price of a million output tokens; a prompt token costs a quarter.")

    @property
    def devices(self) -> float:
        """That one replica takes from the budget: its GPUs, or its ranks where it runs on CPU."""
        return self.tensor_parallel * (self.gpus_per_rank or 1.0)

    def replica(self) -> ReplicaConfig:
        """What each replica is made of."""
        return ReplicaConfig.model_validate(self.model_dump(include=set(ReplicaConfig.model_fields)))


class Cascade(StrEnum):
    """Whether a smaller size may answer first, its answer then deciding whether a larger one takes over."""

    OFF = "off"
    ON = "on"  # whenever the tier would take a larger size
    AUTO = "auto"  # where it is expected to be worth more than either size alone


class TierConfig(Branch):
    """What a tier promises."""

    quality_share: float = Field(
        ge=0, le=1, description="Share of the largest size's right answers that is promised at the least cost; 0 none."
    )
    cascade: Cascade = Field(Cascade.AUTO, description="Let a smaller size answer first and look: off, on or auto.")
    sizes: tuple[Size, ...] = Field(
        (Size.B2, Size.B9, Size.B27), min_length=1, description="Sizes that may answer for this tier."
    )


class GuardAction(StrEnum):
    """What happens to an answer that runs away."""

    OFF = "off"
    STOP = "stop"
    ESCALATE = "escalate"  # to a larger size while nothing was sent, else stop


class GuardConfig(Branch):
    """Answers of a tier that repeat themselves, or grow past every use."""

    action: GuardAction = Field(GuardAction.ESCALATE, description="off, stop, or escalate where that is possible.")
    length_factor: float = Field(
        4.0, gt=1, description="Times the predicted length from which an answer counts as running away."
    )
    least_tokens: int = Field(256, ge=1, description="Answers shorter than this never count as too long.")


class CascadeConfig(Branch):
    """What escalation may cost at most."""

    drafts: bool = Field(True, description="Let the larger size verify the smaller one's tokens, not start anew.")
    hold_tokens: int = Field(
        64, ge=1, description="Tokens of a stream that are held back at most until the smaller answer is judged."
    )
    max_sizes: int = Field(2, ge=1, le=3, description="Sizes that one request may set to work.")
    max_output_factor: float = Field(
        2.0, ge=1, description="Tokens that all sizes together may write for a request, as a multiple of its limit."
    )


class BrownOutConfig(Branch):
    """When promises are waived, the cheapest first, so that the dearest are kept."""

    from_load: float = Field(1.5, gt=0, description="Requests per decoding slot of a size that count as too many.")
    until_load: float = Field(0.7, gt=0, description="And those that count as calm again.")
    pressed_s: float = Field(2.0, ge=0, description="Seconds of too many before the next promise is waived.")
    calm_s: float = Field(
        30.0, ge=1, description="Seconds of calm before a promise is kept again; doubles if too soon."
    )

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.until_load >= self.from_load:
            raise ValueError(f"until_load={self.until_load} has to be below from_load={self.from_load}")
        return self


class ShadowConfig(Branch):
    """Answers of smaller sizes that the largest one looks at too, to watch over the promises."""

    share: float = Field(
        0.0, ge=0, le=1, description="Share of the tiers' answers; 0 watches nothing and costs nothing."
    )
    seed: int = Field(0, description="Which requests are drawn.")


class ScalingConfig(Branch):
    """How the sizes share one budget of devices, and when they get more or less of it."""

    budget_devices: float | None = Field(
        None, gt=0, description="GPUs (ranks, on CPU) for all sizes together; none means what all `max_replicas` take."
    )
    target_load: float = Field(
        0.7, gt=0, le=1, description="Share of a replica's decoding slots that scaling means to have at work."
    )
    window_s: float = Field(60, ge=5, description="Seconds of arrivals that rate and trend are taken from.")
    catch_up_s: float = Field(20, gt=0, description="Seconds in which a queue shall be gone.")
    sleep_after_s: float = Field(
        600, ge=1, description="Seconds without a request for a size after which its last replica ends, at minimum 0."
    )
    wake_timeout_s: float = Field(
        120, gt=0, description="Seconds that a request waits at most for a size that wakes; then 503 with Retry-After."
    )


class ReplicaChoice(StrEnum):
    """How the replica of a size is chosen."""

    PREFIX = "prefix"  # where the least is left to compute: prefix cache, queue and free memory
    POWER_OF_TWO = "power_of_two"  # Serve's own: the shorter queue of two at random


class RoutingConfig(Branch):
    """How sizes and their replicas are chosen, when a size counts as under pressure, and how long answers may take."""

    profile: str | None = Field(
        None, description="Routing profile: `embedded`, `gemma-2` or a file; none takes what fits the served sizes."
    )
    cascade: CascadeConfig = Field(CascadeConfig(), description="Bounds of escalation.")
    guard: GuardConfig = Field(GuardConfig(), description="What counts as running away, and what happens then.")
    brown_out: BrownOutConfig = Field(BrownOutConfig(), description="When promises are waived under load.")
    shadow: ShadowConfig = Field(ShadowConfig(), description="Watching over promises while serving.")

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


def _size(name: str, usd: float, degree: int = 1) -> SizeConfig:
    return SizeConfig(source=f"embedded:{name}", tensor_parallel=degree, usd_per_mtoken=usd, replicas=AutoscaleConfig())


# Prices in the ratio of the real sizes' parameters (2.61 : 9.24 : 27.23), since serving cost follows them.
EMBEDDED_SIZES = {
    Size.B2: _size("nano-2b", 0.10),
    Size.B9: _size("nano-9b", 0.35),
    Size.B27: _size("nano-27b", 1.04, degree=2),
}
DEFAULT_TIERS = {
    Tier.ECONOMY: TierConfig(quality_share=0.0),
    Tier.BALANCED: TierConfig(quality_share=0.80),
    Tier.AUTO: TierConfig(quality_share=0.95),
    Tier.PREMIUM: TierConfig(quality_share=1.0),
}


class ClusterConfig(Branch):
    """Everything below serving: one entry per size and per tier."""

    sizes: dict[Size, SizeConfig] = Field(EMBEDDED_SIZES, min_length=1, description="Sizes that are served.")
    tiers: dict[Tier, TierConfig] = Field(DEFAULT_TIERS, description="Tiers that requests may buy.")
    routing: RoutingConfig = Field(RoutingConfig(), description="Pressure and deadlines.")
    scaling: ScalingConfig = Field(ScalingConfig(), description="One budget of devices for all sizes.")
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

    @property
    def budget_devices(self) -> float:
        """That all sizes share."""
        most = sum(size.devices * size.replicas.max_replicas for size in self.sizes.values())
        return most if self.scaling.budget_devices is None else self.scaling.budget_devices

    @model_validator(mode="after")
    def _minimum_within_budget(self) -> Self:
        least = sum(size.devices * size.replicas.min_replicas for size in self.sizes.values())
        if least > self.budget_devices:
            raise ValueError(
                f"scaling.budget_devices={self.budget_devices:g} is below the {least:g} that the sizes' min_replicas "
                "take; raise it or lower them"
            )
        return self

    @model_validator(mode="after")
    def _tiers_name_served_sizes(self) -> Self:
        for tier, config in self.tiers.items():
            if not set(config.sizes) & set(self.sizes):
                raise ValueError(f"tiers.{tier}.sizes names no size that is served")
        return self
