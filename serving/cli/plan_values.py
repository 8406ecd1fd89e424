"""A plan as values of the chart: which sizes run how, on which nodes, and what tiers ask for."""

from math import ceil
from typing import Any, Final

from cluster.config import ClusterConfig
from cluster.planning.problem import FleetPlan, Part
from cluster.speeds.file import Speeds
from model.config import SIZES, Size

_GIB: Final = 2**30
_LOADING_GIB: Final = 24  # beside twice the checkpoint: the process, the object store, room in /dev/shm
_GRAIN_GIB: Final = 8
_GROUP_MAX: Final = 16

Tree = dict[str, Any]


def values_of(plan: FleetPlan, settings: ClusterConfig, speeds: Speeds) -> Tree:
    """Everything that follows from a plan. What does not (image, secrets, ways in) is the operator's to add."""
    cluster = settings.model_dump(mode="json", exclude_unset=True)
    unserved = {str(size): None for size in Size if size not in settings.sizes}  # helm takes them out of the defaults
    return {
        "config": {"cluster": {**cluster, "sizes": {**cluster["sizes"], **unserved}}},
        "sizes": {str(part.size): _pod(part, speeds) for part in plan.parts},
    }


def _pod(part: Part, speeds: Speeds) -> Tree:
    product = speeds.devices[part.candidate.speed.device].product
    checkpoint_gib = 2 * SIZES[part.size].parameters_e9 * 1e9 / _GIB
    memory = ceil((2 * checkpoint_gib + _LOADING_GIB) / _GRAIN_GIB) * _GRAIN_GIB
    return {
        "groupMax": max(_GROUP_MAX, part.replicas),
        "memory": f"{memory}Gi",
        "shmSize": "8Gi",
        "nodeSelector": {"nvidia.com/gpu.product": product} if product else {},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    }
