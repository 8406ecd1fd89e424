"""Do the groups and the Serve configuration of one rendering find each other on real raylets? About a minute."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from tests.chart import tools
from tests.chart.tools import Tree

PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"


def autoscaler_config(service: Tree) -> Tree:
    """What Ray's autoscaler makes of the specification; only who makes the nodes, and how long they idle, is ours."""
    seen = {"metadata": {"name": "x", "namespace": "y"}, "spec": service["spec"]["rayClusterConfig"]}
    config: Tree = _derive_autoscaling_config_from_ray_cr(seen)
    nodes = config["available_node_types"]
    for node in nodes.values():
        node["resources"].pop("memory", None)  # a raylet of this provider takes it from the machine
        node["resources"]["object_store_memory"] = 80_000_000
        node.pop("idle_timeout_s", None)
    nodes["ray.head.default"] = nodes.pop(config["head_node_type"])  # the provider's own word
    provider = {"type": "external", "module": PROVIDER, "launch_multiple": True}
    return config | {"provider": provider, "head_node_type": "ray.head.default", "idle_timeout_minutes": 0.1}


def options_of(service: Tree, size: str) -> dict[str, Any]:
    (application,) = tools.serve_config(service)["applications"]
    (entry,) = (entry for entry in application["deployments"] if entry["name"] == size)
    return {key: entry[key] for key in ("ray_actor_options", "placement_group_bundles") if key in entry}


@pytest.mark.ray
def test_pods_come_for_replicas_and_go_when_they_are_gone() -> None:
    """27b at two GPUs takes its own group first, then the pool of lower priority; nothing else is touched."""
    pool = {"name": "27b-spot", "sizes": ["27b"], "max": 2}
    service = tools.ray_service("8xh100", values={"pools": [pool], "sizes": {"27b": {"groupMax": 1}}, **one_27b()})
    wanted = [
        {"name": "2b", "count": 1, "options": options_of(service, "2b")},
        {"name": "27b", "count": 2, "options": options_of(service, "27b")},
    ]
    impossible = {"num_cpus": 4, "num_gpus": 4, "resources": {"size_2b": 1}}
    asked = {"cluster": autoscaler_config(service), "replicas": wanted, "impossible": impossible}
    done = subprocess.run(
        [sys.executable, "-m", "tests.chart.raylets_here"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=280,
        cwd=tools.ROOT,
        env=os.environ | {"PYTHONPATH": str(tools.ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert report["grown"] == {"2b": 1, "27b": 1, "27b-spot": 1}, report
    assert report["left"] == 0
    assert report["impossible"] == [{"CPU": 4.0, "GPU": 4.0, "size_2b": 1.0}]


def one_27b() -> Tree:
    """`groupMax` holds the replicas that are promised."""
    return tools.nested("config.cluster.sizes.27b.replicas", {"min_replicas": 1, "max_replicas": 1})
