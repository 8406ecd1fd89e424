"""Every rule of validate.yaml: a value set that breaks it alone is refused, and the message names the key."""

import re
from typing import Any

import pytest

from tests.chart import tools
from tests.chart.tools import Tree

VALIDATE = (tools.CHART / "templates" / "validate.yaml").read_text(encoding="utf-8")
SIZES = "config.cluster.sizes"
CASES = [
    ("fullnameOverride", "Gemmule"),
    ("fullnameOverride", "2b-server"),
    ("fullnameOverride", "a" * 48),
    ("image.repository", ""),
    ("image.tag", "latest"),
    ("upgradeStrategy", "NewClusterWithIncrementalUpgrade"),
    ("config.server.host", "127.0.0.1"),
    ("config.server.host", None),  # the code's own default is loopback
    ("config.server.http_port", 8265),
    ("config.server.http_port", 10_001),
    ("config.server.grpc_port", 12_000),
    ("config.server.grpc_port", 8000),
    ("config.server.http_port", 80),
    ("config.cluster.sizes", None),  # the code's own default is the embedded family
    (f"{SIZES}.9b.replicas", {"min_replicas": 3, "max_replicas": 2}),
    (f"{SIZES}.9b.replicas", {"min_replicas": 2, "max_replicas": None}),
]
# What breaks a rule, and the key that the message has to name when it is not the one that was set.
BLAMED = [
    ("config.cluster.routing.max_timeout_s", 601, "serving.maxStreamSeconds"),
    ("config.cluster.routing.max_timeout_s", None, "serving.maxStreamSeconds"),  # the code's own default is an hour
    (f"{SIZES}.27b.replicas.max_replicas", 17, "sizes.27b.groupMax"),
    (f"{SIZES}.27b.cpus_per_rank", 4, "sizes.27b.cpu"),
    ("config.cluster.tiers", {"economy": {"quality_share": 0, "sizes": ["2b"]}}, "config.cluster.tiers.economy.sizes"),
    ("extraEnv", [{"name": "HOME", "value": "/root"}], "extraEnv[0].name"),
    ("extraEnv", [{"name": "REDIS_PASSWORD", "value": "x"}], "extraEnv[0].name"),
    ("extraEnv", [{"name": "KAGGLE_API_TOKEN", "value": "x"}], "extraEnv[0].value"),
]
ALONGSIDE = {
    "sizes.27b.cpu": tools.nested("sizes.27b.cpu", 7),  # the pod has two ranks of four CPUs
    "config.cluster.tiers.economy.sizes": tools.nested(f"{SIZES}.2b", None),
}


def refused(path: str, value: Any, blamed: str) -> str:
    values = merged(ALONGSIDE.get(blamed, {}), tools.nested(path, value))
    return tools.refusal("minimal", values=values)


def merged(one: Tree, other: Tree) -> Tree:
    both = {**one, **other}
    for key in one.keys() & other.keys():
        if isinstance(one[key], dict) and isinstance(other[key], dict):
            both[key] = merged(one[key], other[key])
    return both


@pytest.mark.parametrize(("path", "value", "blamed"), [*((p, v, p) for p, v in CASES), *BLAMED])
def test_a_broken_rule_is_named(path: str, value: Any, blamed: str) -> None:
    assert f"{blamed}: " in refused(path, value, blamed)


def test_an_absent_operator_is_noticed_unless_told_not_to_look() -> None:
    assert "validation.skipCapabilities: " in tools.refusal("minimal", more=())
    assert tools.template("minimal", more=("--set", "validation.skipCapabilities=true")).returncode == 0


def test_every_message_has_a_case() -> None:
    broken = [(p, v, p) for p, v in CASES] + BLAMED
    said = [refused(*case) for case in broken] + [tools.refusal("minimal", more=())]
    hit = {int(line) for message in said for line in re.findall(r"validate\.yaml:(\d+):", message)}
    assert hit == {number for number, line in enumerate(VALIDATE.splitlines(), 1) if "{{- fail " in line}
