"""What the API server would say of objects that custom definitions describe, unknown names included."""

import functools
import gzip
from pathlib import Path
from typing import Final

import yaml
from jsonschema import Draft202012Validator

from tests.chart.tools import Tree

_FOLDER = Path(__file__).parent / "crds"  # versions and origins in NOTICE
KINDS: Final = {
    "Gateway": "gateway.networking.k8s.io_gateways",
    "GRPCRoute": "gateway.networking.k8s.io_grpcroutes",
    "HTTPRoute": "gateway.networking.k8s.io_httproutes",
    "PodMonitor": "monitoring.coreos.com_podmonitors",
    "PrometheusRule": "monitoring.coreos.com_prometheusrules",
    "RayService": "ray.io_rayservices",
}
_LEFT_OUT = ("default", "description", "example", "format")


def closed(node: Tree) -> Tree:
    """A structural OpenAPI schema as a JSON Schema that refuses what the API server would prune in silence.

    A required field that has a default may be missing, since defaults are filled in before the check. Rules in CEL
    (`x-kubernetes-validations`) are not covered.
    """
    out = {key: value for key, value in node.items() if key not in _LEFT_OUT and not key.startswith("x-")}
    for key in ("items", "additionalProperties"):
        if isinstance(out.get(key), dict):
            out[key] = closed(out[key])
    if fields := node.get("properties"):
        out["properties"] = {name: closed(field) for name, field in fields.items()}
        out["required"] = [name for name in node.get("required", ()) if "default" not in fields.get(name, {})]
        if not node.get("x-kubernetes-preserve-unknown-fields"):
            out.setdefault("additionalProperties", False)
    if node.get("x-kubernetes-int-or-string"):
        out["type"] = ["integer", "string"]
    if node.get("nullable"):
        out["type"] = [out["type"], "null"]
    return out


@functools.cache
def _validator(kind: str, version: str) -> Draft202012Validator:
    definition = yaml.load(gzip.decompress((_FOLDER / f"{KINDS[kind]}.yaml.gz").read_bytes()), yaml.CSafeLoader)
    (found,) = (v for v in definition["spec"]["versions"] if v["name"] == version and v["served"])
    schema = closed(found["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return Draft202012Validator(schema)


def errors(item: Tree) -> list[str]:
    """Every complaint, each with its path."""
    group, _, version = item["apiVersion"].rpartition("/")
    assert KINDS[item["kind"]].startswith(f"{group}_")
    return [f"{error.json_path}: {error.message}" for error in _validator(item["kind"], version).iter_errors(item)]
