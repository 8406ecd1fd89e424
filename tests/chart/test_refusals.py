"""Every rule of the validate templates: values that break it alone are refused, and the message names the key."""

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.chart import tools
from tests.chart.tools import Tree

RULES = sorted((tools.CHART / "templates").glob("validate*.yaml"))
SIZES = "config.cluster.sizes"
HUB = {"source": "hf://google/gemma-2-2b-it", "revision": "1"}
OPEN: Tree = {"networkPolicy": {"clientNamespaces": ["gateways"]}}
GATEWAY: Tree = {
    **OPEN,
    "gateway": {
        "enabled": True,
        "create": True,
        "className": "envoy",
        "hostnames": ["api.example.com"],
        "grpcHostnames": ["grpc.example.com"],
        "tls": {"existingSecret": "certificate"},
    },
}
INGRESS: Tree = {**OPEN, "ingress": {"enabled": True, "hosts": ["api.example.com"], "grpcHosts": ["grpc.example.com"]}}
FETCH: Tree = {
    **tools.nested(f"{SIZES}.2b", HUB),
    "modelCache": {"kind": "claim", "prefetch": {"enabled": True}},
}
MONITORED: Tree = {"monitoring": {"podMonitor": {"enabled": True}}}
REDIS: Tree = {"gcs": {"redis": {"address": "redis:6379", "existingSecret": "redis"}}}
SPOT: Tree = {"name": "27b-spot", "sizes": ["27b"], "max": 4}


@dataclass(frozen=True)
class Case:
    """A value that breaks a rule in company that breaks none; `blamed` when the key to name is another."""

    path: str
    value: Any
    blamed: str = ""
    company: Tree = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.blamed or self.path}={self.value!r}"[:80]


CASES = [
    Case("fullnameOverride", "Gemmule"),
    Case("fullnameOverride", "2b-server"),
    Case("fullnameOverride", "a" * 48),
    Case("image.repository", ""),
    Case("image.tag", "latest"),
    Case("upgradeStrategy", "NewClusterWithIncrementalUpgrade"),
    Case("config.server.host", "127.0.0.1"),
    Case("config.server.host", None),  # the code's own default is loopback
    Case("config.server.http_port", 8265),
    Case("config.server.http_port", 10_001),
    Case("config.server.grpc_port", 12_000),
    Case("config.server.grpc_port", 8000),
    Case("config.server.http_port", 80),
    Case("config.server.ingress_replicas", 33, "edge.groupMax"),
    Case("gcs.redis.address", "", company=REDIS),
    Case("config.cluster.routing.max_timeout_s", 601, "serving.maxStreamSeconds"),
    Case("config.cluster.routing.max_timeout_s", None, "serving.maxStreamSeconds"),  # the code's own is an hour
    Case("monitoring.rules.enabled", True),
    Case("extraEnv", [{"name": "HOME", "value": "/root"}], "extraEnv[0].name"),
    Case("extraEnv", [{"name": "REDIS_PASSWORD", "value": "x"}], "extraEnv[0].name"),
    Case("extraEnv", [{"name": "GEMMULE_DATABASE_URL", "value": "x"}], "extraEnv[0].name"),
    Case("extraEnv", [{"name": "KAGGLE_API_TOKEN", "value": "x"}], "extraEnv[0].value"),
]
OF_SIZES = [
    Case(SIZES, None),  # the code's own default is the embedded family
    Case(f"{SIZES}.9b.replicas", {"min_replicas": 3, "max_replicas": 2}),
    Case(f"{SIZES}.9b.replicas", {"min_replicas": 2, "max_replicas": None}),
    Case(f"{SIZES}.27b.replicas.max_replicas", 17, "sizes.27b.groupMax"),
    Case(f"{SIZES}.27b.replicas.max_replicas", 21, "sizes.27b.groupMax", {"pools": [SPOT]}),
    Case(f"{SIZES}.27b.cpus_per_rank", 4, "sizes.27b.cpu", tools.nested("sizes.27b.cpu", 7)),  # two ranks
    Case("pools", [{**SPOT, "name": "27b"}], "pools[0].name"),
    Case("pools", [{**SPOT, "name": "edge"}], "pools[0].name"),
    Case("pools", [SPOT, SPOT], "pools[1].name"),
    Case("pools", [{**SPOT, "sizes": ["2b", "27b"], "cpu": 2}], "pools[0].cpu"),
    Case(
        "config.cluster.tiers",
        {"economy": {"quality_share": 0, "sizes": ["2b"]}},
        "config.cluster.tiers.economy.sizes",
        tools.nested(f"{SIZES}.2b", None),
    ),
    Case(f"{SIZES}.2b.revision", None, company=FETCH),
]
OF_ACCESS = [
    Case("modelCache.existingClaim", "weights"),
    Case(
        "modelCache.kind",
        "ephemeral",
        "modelCache.existingClaim",
        {"modelCache": {"kind": "claim", "existingClaim": "w"}},
    ),
    Case("modelCache.kind", "emptyDir", "modelCache.prefetch.enabled", FETCH),
    Case(f"{SIZES}.2b.source", "embedded:nano-2b", "modelCache.prefetch.enabled", FETCH),
    Case("modelCache.prefetch.hook", True, company=FETCH),
    Case("gateway.parentRefs", [{"name": "g"}], company=GATEWAY),
    Case("gateway.create", False, "gateway.parentRefs", GATEWAY),
    Case("gateway.className", "", company=GATEWAY),
    Case("gateway.tls.existingSecret", "", company=GATEWAY),
    Case("gateway.hostnames", [], company=GATEWAY),
    Case("gateway.grpcHostnames", ["api.example.com"], company=GATEWAY),
    Case("gateway.grpcHostnames", ["*.example.com"], company=GATEWAY),
    Case("gateway.hostnames", ["*.example.com"], "gateway.grpcHostnames", GATEWAY),
    Case("ingress.hosts", [], company=INGRESS),
    Case("ingress.grpcHosts", ["api.example.com"], company=INGRESS),
    Case("networkPolicy.clientNamespaces", [], company=GATEWAY),
    Case("networkPolicy.clientNamespaces", [], company=INGRESS),
]
ALL = [*CASES, *OF_SIZES, *OF_ACCESS]


def refused(case: Case) -> str:
    return tools.refusal("minimal", values=tools.merged(case.company, tools.nested(case.path, case.value)))


@pytest.mark.parametrize("case", ALL, ids=str)
def test_a_broken_rule_is_named(case: Case) -> None:
    assert f"{case.blamed or case.path}: " in refused(case)


@pytest.mark.parametrize("case", [case for case in ALL if case.company], ids=str)
def test_nothing_else_is_wrong_there(case: Case) -> None:
    done = tools.template("minimal", values=case.company)
    assert done.returncode == 0, done.stderr


def test_what_is_not_installed_is_noticed_unless_told_not_to_look() -> None:
    assert "validation.skipCapabilities: " in tools.refusal("minimal", more=())
    assert "gateway.enabled: " in tools.refusal("minimal", values=GATEWAY, more=tools.KUBERAY)
    assert "monitoring.podMonitor.enabled: " in tools.refusal("minimal", values=MONITORED, more=tools.KUBERAY)
    skipped = ("--set", "validation.skipCapabilities=true")
    for values in (GATEWAY, MONITORED):
        assert tools.template("minimal", values=values, more=skipped).returncode == 0


def test_every_message_has_a_case() -> None:
    said = [
        *map(refused, ALL),
        tools.refusal("minimal", more=()),
        tools.refusal("minimal", values=GATEWAY, more=tools.KUBERAY),
        tools.refusal("minimal", values=MONITORED, more=tools.KUBERAY),
    ]
    hit = {found for message in said for found in re.findall(r"(validate[\w-]*\.yaml):(\d+):", message)}
    assert hit == {
        (path.name, str(number))
        for path in RULES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if "{{- fail " in line
    }
