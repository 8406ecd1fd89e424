"""Rules of KubeRay 1.7.0 that no schema holds (its validation.go, service.go and pod.go)."""

import re
from typing import Any

import pytest

from tests.chart import tools
from tests.chart.tools import Tree

each_set = pytest.mark.parametrize("name", tools.VALUE_SETS)
MANAGED = {"RAY_enable_autoscaler_v2", "REDIS_PASSWORD", "RAY_REDIS_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}


def cluster_of(name: str, **options: Any) -> Tree:
    cluster: Tree = tools.ray_service(name, **options)["spec"]["rayClusterConfig"]
    return cluster


def groups_of(cluster: Tree) -> list[Tree]:
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def ray_container(group: Tree) -> Tree:
    container: Tree = group["template"]["spec"]["containers"][0]
    return container


def ports_of(group: Tree) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in ray_container(group)["ports"]}


@pytest.mark.parametrize("release", ["gemmule", "r", "a-long-name-that-is-kept-since-it-says-gemmule"])
def test_names_fit(release: str) -> None:
    for item in tools.objects("minimal", release=release):
        assert len(item["metadata"]["name"]) <= 63
    assert re.fullmatch(
        r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", tools.ray_service("minimal", release=release)["metadata"]["name"]
    )


@each_set
def test_groups_stand_in_their_one_order_and_pools_behind(name: str) -> None:
    groups = [group["groupName"] for group in cluster_of(name)["workerGroupSpecs"]]
    assert groups[:4] == ["edge", "2b", "9b", "27b"]
    assert len(set(groups)) == len(groups)
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", group) for group in groups)


@each_set
def test_the_heads_ports_make_its_services(name: str) -> None:
    """Once a port is named the defaults are gone, and without `dashboard` nobody can submit the Serve config."""
    serve = tools.serve_config(tools.ray_service(name))
    faces = {"serve": serve["http_options"]["port"], "serve-grpc": serve["grpc_options"]["port"]}
    head, *workers = map(ports_of, groups_of(cluster_of(name)))
    assert head == {"gcs-server": 6379, "dashboard": 8265, "metrics": 8080} | faces  # no Ray client
    assert all(ports == {"metrics": 8080} | faces for ports in workers)


@each_set
def test_the_head_serves_nothing(name: str) -> None:
    service = tools.ray_service(name)
    assert service["spec"]["excludeHeadPodFromServeSvc"] is True
    assert cluster_of(name)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert "headService" not in cluster_of(name)["headGroupSpec"]


@each_set
def test_autoscaler_v2_is_asked_for_in_the_one_allowed_way(name: str) -> None:
    cluster = cluster_of(name)
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["autoscalerOptions"]["idleTimeoutSeconds"] >= 0
    for group in groups_of(cluster):
        assert group["template"]["spec"].get("restartPolicy", "Never") == "Never"
        assert not MANAGED & {variable["name"] for variable in ray_container(group)["env"]}


@each_set
def test_resources_are_said_once(name: str) -> None:
    """A group's `resources` and those of rayStartParams exclude each other; `labels` there is refused."""
    for group in groups_of(cluster_of(name)):
        said = {"num-cpus", "num-gpus", "memory", "resources"} & group["rayStartParams"].keys()
        assert not (said and group.get("resources"))
        assert "labels" not in group["rayStartParams"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


@each_set
def test_nothing_that_kuberay_refuses_is_set(name: str) -> None:
    service = tools.ray_service(name)
    cluster = cluster_of(name)
    gated = {"upgradeStrategy", "networkPolicy", "tlsOptions", "historyServerOptions"}
    assert not gated & cluster.keys()
    assert "annotations" not in service["metadata"]  # ft-enabled, initializing-timeout
    assert service["spec"]["upgradeStrategy"]["type"] in ("NewCluster", "None")
    assert service["spec"]["rayClusterDeletionDelaySeconds"] >= 0
    assert cluster["authOptions"]["mode"] == "token"
    assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 53)  # token since 2.52, HTTP liveness since 2.53
    for group in cluster["workerGroupSpecs"]:
        assert 0 <= group["minReplicas"] <= group["maxReplicas"]
        assert "suspend" not in group


@each_set
def test_workers_are_ready_when_their_proxy_is(name: str) -> None:
    """KubeRay's own readiness probe needs wget in the image."""
    head, *workers = map(ray_container, groups_of(cluster_of(name)))
    assert "readinessProbe" not in head
    for worker in workers:
        assert worker["readinessProbe"]["httpGet"] == {"path": "/-/healthz", "port": "serve"}
    assert not any({"livenessProbe", "startupProbe"} & container.keys() for container in (head, *workers))


@pytest.mark.parametrize("stream_s", [600, 700, 7200])
def test_nothing_ends_before_the_longest_answer(stream_s: int) -> None:
    service = tools.ray_service("minimal", values=tools.nested("serving.maxStreamSeconds", stream_s))
    deployments = tools.serve_config(service)["applications"][0]["deployments"]
    assert {d["graceful_shutdown_timeout_s"] for d in deployments} == {stream_s}
    for group in groups_of(service["spec"]["rayClusterConfig"]):
        (node_s,) = (
            int(e["value"]) for e in ray_container(group)["env"] if e["name"] == "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
        )
        pause_s = ray_container(group)["lifecycle"]["preStop"]["sleep"]["seconds"]
        pod_s = group["template"]["spec"]["terminationGracePeriodSeconds"]
        assert stream_s < node_s < node_s + pause_s < pod_s
    assert service["spec"]["rayClusterDeletionDelaySeconds"] > stream_s
