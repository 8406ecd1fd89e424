"""Is the values schema what the code says, and does it refuse by name what is misspelt?"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.chart import tools
from tests.chart.tools import Tree

Steps = tuple[str, ...]

SCHEMA = json.loads((tools.CHART / "values.schema.json").read_text(encoding="utf-8"))


def resolved(node: Tree) -> Tree:
    """A node's fields and whether it is closed, through `$ref` and `allOf`."""
    if "$ref" in node:
        return resolved(SCHEMA["$defs"][node["$ref"].rsplit("/", 1)[-1]])
    if "allOf" in node:
        return resolved(node["allOf"][0])
    return node


def closed_objects(node: Tree, path: Steps = ()) -> Iterator[Steps]:
    """Paths of all objects that may hold known names only."""
    node = resolved(node)
    if node.get("additionalProperties") is False:
        yield path
    if "propertyNames" in node:  # the tiers: any of these names, and then a branch of the same kind
        yield path
        (first, *_) = resolved(node["propertyNames"])["enum"]
        yield from closed_objects(node["additionalProperties"], (*path, first))
    for name, child in node.get("properties", {}).items():
        yield from closed_objects(child, (*path, name))


CLOSED = sorted(closed_objects(SCHEMA))


def test_the_committed_schema_is_current() -> None:
    script = str(tools.ROOT / "helm" / "generate_schema.py")
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_every_branch_is_closed_but_kubernetes_own() -> None:
    """What is left open is free-form in Kubernetes, too."""
    assert len(CLOSED) > 30

    def free(node: Tree, path: Steps = ()) -> Iterator[str]:
        node = resolved(node)
        if node.get("type") == "object" and path not in CLOSED:
            yield path[-1]
        for name, child in node.get("properties", {}).items():
            yield from free(child, (*path, name))

    assert set(free(SCHEMA)) == {"nodeSelector", "affinity", "annotations", "grpcAnnotations", "labels", "global"}


@pytest.mark.parametrize("path", CLOSED, ids=".".join)
def test_a_misspelt_name_is_refused_by_name(path: Steps) -> None:
    message = tools.refusal("minimal", values=tools.nested(".".join((*path, "tpyo")), {}))
    assert "tpyo" in message
    assert all(name in message for name in path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("config.server.http_port", "8000"),
        ("config.server.http_port", 70_000),
        ("config.cluster.sizes.2b.tensor_parallel", 3),
        ("config.cluster.sizes.2b.tensor_parallel", 8),
        ("config.cluster.sizes.27b.tensor_parallel", 32),
        ("config.cluster.sizes.2b.engine.dtype", "fp64"),
        ("config.cluster.sizes.2b.replicas.min_replicas", -1),
        ("config.cluster.sizes.2b.usd_per_mtoken", 0),
        ("config.cluster.tiers.auto.quality_share", 1.5),
        ("config.cluster.tiers.economy.sizes", ["3b"]),
        ("image.digest", "sha256:abc"),
        ("image.pullPolicy", "Sometimes"),
        ("sizes.2b.cpu", 0.5),
        ("sizes.2b.memory", "4 GB"),
        ("sizes.2b.memory", 4096),
        ("head.cpu", 0),
        ("serving.maxStreamSeconds", 0),
        ("serving.objectStoreMiB", 10),
        ("upgradeStrategy", "Recreate"),
        ("autoscaler.upscalingMode", "Fast"),
        ("hfToken.key", ""),
        ("podDisruptionBudget.maxUnavailable", "half"),
        ("networkPolicy.clientNamespaces", "gateways"),
        ("extraEnv", [{"value": "no name"}]),
        ("extraEnv", [{"name": "A", "valeu": "x"}]),
        ("extraEnv", [{"name": "A-B", "value": "x"}]),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(path: str, value: Any) -> None:
    message = tools.refusal("minimal", values=tools.nested(path, value))
    assert path.rsplit(".", 1)[-1] in message
