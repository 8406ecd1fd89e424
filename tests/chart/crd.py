"""What the API server would say of an object of the RayService kind, unknown names included."""

import functools
import gzip
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator

from tests.chart.tools import Tree

_FILE = Path(__file__).parent / "crds" / "ray.io_rayservices.yaml.gz"  # KubeRay 1.7.0, see NOTICE
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
def _validator() -> Draft202012Validator:
    definition = yaml.load(gzip.decompress(_FILE.read_bytes()), yaml.CSafeLoader)
    (version,) = (v for v in definition["spec"]["versions"] if v["name"] == "v1")
    schema = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return Draft202012Validator(schema)


def errors(service: Tree) -> list[str]:
    """Every complaint, each with its path."""
    return [f"{error.json_path}: {error.message}" for error in _validator().iter_errors(service)]
