"""What an upgrade does: for every value, whether a change of it starts a second cluster."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.kuberay import Verdict, verdict
from tests.chart import tools
from tests.chart.tools import Tree

NEW, PLACE, LATER, NONE = Verdict.NEW_CLUSTER, Verdict.IN_PLACE, Verdict.LATER, Verdict.NONE
SOME = {"disk": "ssd"}
TOLERATIONS = [{"operator": "Exists"}]
AFFINITY: Tree = {"nodeAffinity": {}}
SIZE = "config.cluster.sizes.2b"
# Each value of values.yaml once: a change of it from the minimal value set, and what becomes of a running service. What
# is not the RayService (policies, budget, account) changes at once and does not count here.
CHANGES = [
    ("fullnameOverride", "other", Verdict.OTHER),
    ("image.repository", "registry.example/other", NEW),
    ("image.tag", "0.1.1", NEW),
    ("image.digest", "sha256:" + "0" * 64, NEW),
    ("image.pullPolicy", "Always", NEW),
    ("image.pullSecrets", [{"name": "pull"}], NEW),
    ("config.server.host", "::", PLACE),
    ("config.server.http_port", 8001, NEW),
    ("config.server.grpc_port", 9001, NEW),
    ("config.server.ingress_replicas", 2, PLACE),
    (f"{SIZE}.source", "hf://google/gemma-2-2b-it", PLACE),
    (f"{SIZE}.tensor_parallel", 2, NEW),
    (f"{SIZE}.gpus_per_rank", 1, NEW),
    (f"{SIZE}.cpus_per_rank", 2, NEW),
    (f"{SIZE}.engine.dtype", "bf16", PLACE),
    (f"{SIZE}.engine.quantization", "int8", PLACE),
    (f"{SIZE}.engine.kv_tokens", 8192, PLACE),
    (f"{SIZE}.engine.kv_memory_gb", 0.5, PLACE),
    (f"{SIZE}.replicas.min_replicas", 0, PLACE),
    (f"{SIZE}.replicas.max_replicas", 9, PLACE),
    (f"{SIZE}.usd_per_mtoken", 0.2, PLACE),
    ("config.cluster.routing.max_timeout_s", 500, PLACE),
    ("sizes.2b.groupMax", 17, LATER),
    ("sizes.2b.priority", 5, NEW),
    ("sizes.2b.cpu", 8, NEW),
    ("sizes.2b.memory", "8Gi", NEW),
    ("sizes.2b.shmSize", "3Gi", NEW),
    ("sizes.2b.gpuResource", "amd.com/gpu", NONE),  # the stand-ins have no GPU
    ("sizes.2b.nodeSelector", SOME, NEW),
    ("sizes.2b.tolerations", TOLERATIONS, LATER),
    ("sizes.2b.affinity", AFFINITY, NEW),
    ("sizes.2b.priorityClassName", "high", NEW),
    ("pools", [{"name": "27b-spot", "sizes": ["27b"], "max": 4}], Verdict.APPENDED),
    ("edge.groupMax", 17, LATER),
    ("edge.cpu", 2, NEW),
    ("edge.memory", "5Gi", NEW),
    ("edge.shmSize", "2Gi", NEW),
    ("edge.nodeSelector", SOME, NEW),
    ("edge.tolerations", TOLERATIONS, LATER),
    ("edge.affinity", AFFINITY, NEW),
    ("edge.priorityClassName", "high", NEW),
    ("head.cpu", 3, NEW),
    ("head.memory", "5Gi", NEW),
    ("head.shmSize", "3Gi", NEW),
    ("head.nodeSelector", SOME, NEW),
    ("head.tolerations", TOLERATIONS, LATER),
    ("head.affinity", AFFINITY, NEW),
    ("head.priorityClassName", "high", NEW),
    ("autoscaler.idleTimeoutSeconds", 60, NEW),
    ("autoscaler.upscalingMode", "Conservative", NEW),
    ("autoscaler.cpu", "1", NEW),
    ("autoscaler.memory", "1Gi", NEW),
    ("serving.maxStreamSeconds", 700, NEW),
    ("serving.objectStoreMiB", 512, NEW),
    ("serving.tmpSize", "20Gi", NEW),
    ("upgradeStrategy", "None", NONE),
    ("modelCache.kind", "claim", NEW),
    ("modelCache.size", "30Gi", NEW),
    ("modelCache.storageClass", "nvme", NONE),  # an emptyDir has none
    ("modelCache.existingClaim", "weights", NEW),
    ("modelCache.accessMode", "ReadWriteOnce", NONE),  # without a claim there is none
    ("modelCache.prefetch.enabled", True, NEW),  # what comes along: the claim
    ("modelCache.prefetch.hook", True, NONE),
    ("modelCache.prefetch.cpu", "2", NONE),
    ("modelCache.prefetch.memory", "8Gi", NONE),
    ("auth.rayToken.existingSecret", "ray", NEW),
    ("hfToken.existingSecret", "hf", NEW),
    ("hfToken.key", "other", NONE),  # without a secret there is no key
    ("gcs.redis.address", "redis:6379", NEW),
    ("gcs.redis.existingSecret", "redis", NEW),  # what comes along: an address
    ("gcs.redis.key", "other", NONE),
    ("database.existingSecret", "ledger", NEW),
    ("database.key", "other", NONE),
    ("publicPaths", ["/"], NONE),
    ("gateway.enabled", True, NONE),
    ("gateway.parentRefs", [{"name": "other"}], NONE),
    ("gateway.create", True, NONE),
    ("gateway.className", "envoy", NONE),
    ("gateway.annotations", {"a": "b"}, NONE),
    ("gateway.tls.existingSecret", "cert", NONE),
    ("gateway.hostnames", ["b.example"], NONE),
    ("gateway.grpcHostnames", ["c.example"], NONE),
    ("ingress.enabled", True, NONE),
    ("ingress.className", "nginx", NONE),
    ("ingress.annotations", {"a": "b"}, NONE),
    ("ingress.hosts", ["b.example"], NONE),
    ("ingress.grpcHosts", ["c.example"], NONE),
    ("ingress.grpcAnnotations", {"a": "b"}, NONE),
    ("ingress.tls.existingSecret", "cert", NONE),
    ("serviceAccount.create", False, NEW),
    ("serviceAccount.name", "other", NEW),
    ("serviceAccount.annotations", {"a": "b"}, NONE),
    ("networkPolicy.enabled", False, NONE),
    ("networkPolicy.operatorNamespace", "ray-system", NONE),
    ("networkPolicy.clientNamespaces", ["gateways"], NONE),
    ("networkPolicy.clientCIDRs", ["10.0.0.0/8"], NONE),
    ("networkPolicy.monitoringNamespace", "prometheus", NONE),
    ("networkPolicy.extraEgress", [{"ports": [{"port": 443}]}], NONE),
    ("podDisruptionBudget.enabled", False, NONE),
    ("podDisruptionBudget.maxUnavailable", 2, NONE),
    ("monitoring.podMonitor.enabled", True, NONE),
    ("monitoring.podMonitor.labels", {"team": "a"}, NONE),
    ("monitoring.podMonitor.interval", "30s", NONE),
    ("monitoring.rules.enabled", False, NONE),  # true needs the monitor
    ("monitoring.rules.labels", {"team": "a"}, NONE),
    ("monitoring.rules.runbook", "https://example.com/ops", NONE),
    ("monitoring.rules.firstTokenSeconds", 1, NONE),
    ("monitoring.dashboards.enabled", True, NONE),
    ("monitoring.dashboards.labels.grafana_dashboard", "2", NONE),
    ("monitoring.dashboards.annotations", {"folder": "a"}, NONE),
    ("extraEnv", [{"name": "A", "value": "b"}], NEW),
    ("extraVolumes", [{"name": "nvme", "emptyDir": {}}], NEW),
    ("extraVolumeMounts", [{"name": "nvme", "mountPath": "/nvme"}], NEW),
    ("extraObjects", [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}}], NONE),
    ("validation.skipCapabilities", True, NONE),
]
# What a value does not stand without.
COMPANY: dict[str, Tree] = {
    "modelCache.existingClaim": {"modelCache": {"kind": "claim"}},
    "modelCache.prefetch.enabled": {
        "modelCache": {"kind": "claim"},
        **tools.nested(SIZE, {"source": "hf://google/gemma-2-2b-it", "revision": "1"}),
    },
    "gcs.redis.existingSecret": {"gcs": {"redis": {"address": "redis:6379"}}},
    "gateway.enabled": {
        "gateway": {"parentRefs": [{"name": "g"}], "hostnames": ["a.example"]},
        "networkPolicy": {"clientNamespaces": ["gateways"]},
    },
    "ingress.enabled": {"ingress": {"hosts": ["a.example"]}, "networkPolicy": {"clientNamespaces": ["gateways"]}},
}
# Not in values.yaml, or another answer in company.
MORE = [
    (f"{SIZE}.cpus_per_rank", 0.5, PLACE),  # the pod's CPUs are rounded up to the same
    (f"{SIZE}.threads_per_rank", 2, PLACE),
    (f"{SIZE}.revision", "abc", PLACE),
    (f"{SIZE}.engine", {"max_running": 8}, PLACE),
    ("config.server.max_body_bytes", 1 << 20, PLACE),
    ("config.cluster.tiers", {"economy": {"quality_share": 0.1}}, PLACE),
    ("config.cluster.routing.profile", "gemma-2", PLACE),
    ("config.cluster.routing.cascade.drafts", False, PLACE),
    ("config.cluster.scaling.budget_devices", 64, PLACE),
    ("config.cluster.token_env", "OTHER", PLACE),
    ("config.cluster.sizes.9b", None, PLACE),  # a size less, and so a size more
    ("config.cluster.sizes.27b", None, NEW),  # gone, it counts as one rank, and had two
    (SIZE, None, PLACE),  # the ingress has pods of its own
    ("sizes.27b", {"groupMax": 20, "tolerations": TOLERATIONS}, LATER),
    ("sizes.9b.memory", "8Gi", NEW),
]


def leaves(node: Tree, path: tuple[str, ...] = ()) -> Iterator[str]:
    if isinstance(node, dict) and node:
        for name, child in node.items():
            yield from leaves(child, (*path, name))
    else:
        yield ".".join(path)


def test_every_value_has_a_verdict() -> None:
    values = yaml.safe_load((tools.CHART / "values.yaml").read_text(encoding="utf-8"))
    for others in (values["sizes"], values["config"]["cluster"]["sizes"]):
        del others["9b"], others["27b"]
    assert [path for path, _, _ in CHANGES] == list(leaves(values))


@pytest.mark.parametrize(("path", "value", "expected"), CHANGES + MORE)
def test_a_change_of(path: str, value: Any, expected: Verdict) -> None:
    new = tools.ray_service("minimal", values=tools.merged(COMPANY.get(path, {}), tools.nested(path, value)))
    assert verdict(tools.ray_service("minimal"), new) == expected


@pytest.mark.parametrize("name", tools.VALUE_SETS)
def test_prices_and_replicas_never_start_a_second_cluster(name: str) -> None:
    price = tools.nested(f"{SIZE}.usd_per_mtoken", 0.2)
    count = tools.nested(f"{SIZE}.replicas", {"min_replicas": 0, "max_replicas": 1})
    for values in (price, count):
        assert verdict(tools.ray_service(name), tools.ray_service(name, values=values)) in (PLACE, NONE)


def test_an_image_is_dropped_in_silence_where_the_strategy_is_none() -> None:
    new = tools.ray_service("8xh100", values={"image": {"tag": "0.1.1-cuda"}})
    assert verdict(tools.ray_service("8xh100"), new) == Verdict.IGNORED


def test_a_release_alone_changes_nothing(tmp_path: Path) -> None:
    """Chart and application version, and whether it is an upgrade: labels of the RayService, which are not hashed."""
    chart = shutil.copytree(tools.CHART, tmp_path / "gemmule")
    about = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about | {"version": "9.9.9", "appVersion": "9.9.9"}))
    for name in tools.VALUE_SETS:
        new = tools.ray_service(name, chart=chart, more=(*tools.INSTALLED, "--is-upgrade"))
        assert new["metadata"]["labels"]["helm.sh/chart"] == "gemmule-9.9.9"
        assert verdict(tools.ray_service(name), new) == NONE


def moved(groups: list[Tree]) -> list[Tree]:
    return [groups[1], groups[0], *groups[2:]]


def longer(groups: list[Tree]) -> list[Tree]:
    return [*groups, {**groups[3], "groupName": "27b-spot"}]


def test_a_pool_is_appended_retired_and_never_moved() -> None:
    spot = {"name": "27b-spot", "sizes": ["27b"], "max": 4}
    other = {"name": "2b-l4", "sizes": ["2b"], "max": 2}

    def with_pools(*pools: Tree) -> Tree:
        return tools.ray_service("minimal", values={"pools": list(pools)})

    assert verdict(with_pools(spot), with_pools(spot, other)) == Verdict.APPENDED
    assert verdict(with_pools(spot, other), with_pools({**spot, "max": 0}, other)) == LATER
    assert verdict(with_pools(spot, other), with_pools(other, spot)) == NEW
    assert verdict(with_pools(spot, other), with_pools(other)) == NEW


@pytest.mark.parametrize(("change", "expected"), [(moved, NEW), (longer, Verdict.APPENDED)])
def test_order_of_groups_matters(change: Callable[[list[Tree]], list[Tree]], expected: Verdict) -> None:
    old, new = tools.ray_service("minimal"), tools.ray_service("minimal")
    cluster = new["spec"]["rayClusterConfig"]
    cluster["workerGroupSpecs"] = change(cluster["workerGroupSpecs"])
    assert verdict(old, new) == expected
