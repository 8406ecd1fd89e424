"""The configuration tree refuses what contradicts itself, by name."""

import pytest
from pydantic import ValidationError

from cluster.config import AutoscaleConfig, ClusterConfig, TierConfig
from model.config import Size


def test_defaults_are_the_embedded_family_with_the_27b_on_two_ranks() -> None:
    config = ClusterConfig()
    assert config.sizes[Size.B27].tensor_parallel == 2
    assert all(sized.source.startswith("embedded:") for sized in config.sizes.values())


@pytest.mark.parametrize(("size", "degree"), [("2b", 8), ("9b", 16), ("27b", 3)])
def test_a_degree_that_does_not_divide_the_kv_heads_is_refused(size: str, degree: int) -> None:
    tree = ClusterConfig().model_dump(mode="json")
    tree["sizes"][size]["tensor_parallel"] = degree
    with pytest.raises(ValidationError, match=rf"sizes\.{size}\.tensor_parallel={degree}"):
        ClusterConfig.model_validate(tree)


def test_bounds_out_of_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="min_replicas=3 is above max_replicas=2"):
        AutoscaleConfig(min_replicas=3, max_replicas=2)


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_replica"):
        AutoscaleConfig.model_validate({"max_replica": 2})


def test_a_tier_without_a_served_size_is_refused() -> None:
    config = ClusterConfig()
    with pytest.raises(ValidationError, match=r"tiers\.economy\.sizes"):
        ClusterConfig(
            sizes={Size.B2: config.sizes[Size.B2]},
            tiers={"economy": TierConfig(quality_share=0.5, sizes=(Size.B27,))},  # type: ignore[dict-item]
        )
