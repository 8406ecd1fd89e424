"""What `model` may name: every size and every tier, with what stands behind it."""

from dataclasses import dataclass

from cluster.config import ClusterConfig
from cluster.snapshot import ClusterStatus, SizeStatus


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A size, or a tier and the sizes that may answer for it; the middle fields are a size's only."""

    id: str
    created: int
    is_tier: bool
    ready: bool
    sizes: tuple[str, ...]
    checkpoint: str | None = None
    stand_in: bool | None = None
    parameters: int | None = None
    tensor_parallel: int | None = None
    usd_per_mtoken: float | None = None


def model_cards(cluster: ClusterConfig, status: ClusterStatus, created: int) -> list[ModelCard]:
    """Sizes, cheapest first, then tiers in configured order."""
    sizes = sorted(status.sizes, key=lambda size: size.usd_per_mtoken)
    ready = {size.size: size.ready for size in sizes}
    cards = [_of_size(size, created) for size in sizes]
    for tier, config in cluster.tiers.items():
        allowed = [size for size in config.sizes if size in ready]
        cards.append(ModelCard(tier.value, created, True, any(ready[size] for size in allowed), tuple(allowed)))
    return cards


def _of_size(size: SizeStatus, created: int) -> ModelCard:
    return ModelCard(
        id=size.size.value,
        created=created,
        is_tier=False,
        ready=size.ready,
        sizes=(size.size.value,),
        checkpoint=size.checkpoint,
        stand_in=size.stand_in,
        parameters=size.parameters,
        tensor_parallel=size.tensor_parallel,
        usd_per_mtoken=size.usd_per_mtoken,
    )
