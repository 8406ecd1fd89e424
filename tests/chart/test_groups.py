"""Which group Ray's own autoscaler grows, by the specification that the chart renders. Private parts: Ray is pinned."""

from typing import Any

import pytest
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import GangResourceRequest

from tests.chart import tools
from tests.chart.tools import Tree


def launched(replicas: list[list[dict[str, float]]], *value_sets: str, **values: Any) -> dict[str, int]:
    """Pods of each group that are started for replicas, each of these bundles, in an empty cluster."""
    service: Tree = tools.ray_service(*value_sets, values=values)
    seen = {"metadata": {"name": "x", "namespace": "y"}, "spec": service["spec"]["rayClusterConfig"]}
    config = AutoscalingConfig(_derive_autoscaling_config_from_ray_cr(seen), skip_content_hash=True)
    made = [[ResourceRequestUtil.make(bundle) for bundle in bundles] for bundles in replicas]
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=1000,
        resource_requests=ResourceRequestUtil.group_by_count([one for one, *more in made if not more]),
        gang_resource_requests=[GangResourceRequest(requests=bundles) for bundles in made if len(bundles) > 1],
    )
    reply = ResourceDemandScheduler(event_logger=None).schedule(request)
    return {launch.instance_type: launch.count for launch in reply.to_launch}


B2 = [{"CPU": 4, "GPU": 1, "size_2b": 1}]
B27 = [{"CPU": 4, "GPU": 1, "size_27b": 1}, {"CPU": 4, "GPU": 1}]


@pytest.mark.parametrize(("replicas", "groups"), [(1, {"2b": 1}), (4, {"2b": 4}), (7, {"2b": 4, "2b-spot": 3})])
def test_spot_nodes_come_behind_the_sizes_own(replicas: int, groups: dict[str, int]) -> None:
    assert launched([B2] * replicas, "gke") == groups


def test_a_pool_of_higher_priority_comes_first() -> None:
    first = {"name": "2b-first", "sizes": ["2b"], "max": 4, "priority": 20}
    assert launched([B2] * 6, "gke", pools=[first]) == {"2b-first": 4, "2b": 2}


def test_ranks_of_a_replica_share_a_pod() -> None:
    groups = launched([B27] * 3, "everything-on", sizes={"27b": {"groupMax": 2}})
    assert groups == {"27b": 2, "27b-h200": 1}


def test_the_edge_grows_by_two_replicas_a_pod() -> None:
    assert launched([[{"edge": 0.5}]] * 5, "gke") == {"edge": 3}


def test_three_sizes_take_one_pod_together() -> None:
    b2, b9 = {"CPU": 2, "GPU": 0.15, "size_2b": 1}, {"CPU": 2, "GPU": 0.25, "size_9b": 1}
    assert launched([[b2], [b9], [{"CPU": 4, "GPU": 0.6, "size_27b": 1}]], "one-80gb") == {"shared": 1}
