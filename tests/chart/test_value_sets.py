"""What the value sets say of the devices that they are for."""

import pytest
import yaml

from cluster.config import ClusterConfig, SizeConfig
from model.checkpoint import shape_of
from model.config import Size
from model.memory import estimate
from serving.config import from_tree
from tests.chart import tools

GB = 10**9
DEVICES = {  # bytes of the smallest device of each size, as makers count them
    "small-gpu": {Size.B2: 12 * GB},
    "8xh100": dict.fromkeys(Size, 80 * GB),
    "gke": {Size.B2: 24 * GB, Size.B9: 24 * GB, Size.B27: 80 * GB},
    "eks": {Size.B2: 48 * GB, Size.B9: 48 * GB, Size.B27: 80 * GB},
    "aks": dict.fromkeys(Size, 80 * GB),
    "everything-on": {Size.B2: 48 * GB, Size.B9: 48 * GB, Size.B27: 80 * GB},
}
RUNTIME = 1 * GB  # a CUDA context and what an allocator wastes; not measured here


def cluster_of(name: str) -> ClusterConfig:
    return from_tree(tools.settings_tree(tools.ray_service(name))).cluster


def need(size: Size, config: SizeConfig) -> int:
    return estimate(shape_of(size), config.tensor_parallel, config.engine).total_bytes


@pytest.mark.parametrize("name", DEVICES)
def test_a_rank_fits_the_device_that_the_set_is_for(name: str) -> None:
    cluster = cluster_of(name)
    assert cluster.sizes.keys() == DEVICES[name].keys()
    for size, config in cluster.sizes.items():
        assert config.gpus_per_rank == 1
        assert need(size, config) + RUNTIME <= DEVICES[name][size]


def test_three_quantized_sizes_share_one_gpu_of_80_gb() -> None:
    cluster = cluster_of("one-80gb")
    assert sum(config.gpus_per_rank for config in cluster.sizes.values()) == pytest.approx(1)
    assert all(config.engine.quantization for config in cluster.sizes.values())
    whole = sum(need(size, config) + RUNTIME for size, config in cluster.sizes.items())
    assert whole < 80 * GB
    service = tools.ray_service("one-80gb")
    *own, shared = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert [group["maxReplicas"] for group in own] == [16, 0, 0, 0]
    assert (shared["groupName"], shared["maxReplicas"]) == ("shared", 1)
    limits = shared["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert (limits["nvidia.com/gpu"], limits["cpu"]) == ("1", "8")


def test_every_set_for_a_gpu_says_that_it_never_ran() -> None:
    for name in tools.VALUE_SETS:
        text = (tools.CHART / "ci" / f"{name}.yaml").read_text(encoding="utf-8")
        sizes = yaml.safe_load(text).get("config", {}).get("cluster", {}).get("sizes", {})
        real = any("://" in (size or {}).get("source", "") for size in sizes.values())
        assert (not real) or "Never ran" in text or "not a set to start from" in text
