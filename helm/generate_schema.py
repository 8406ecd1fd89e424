"""Write `helm/gemmule/values.schema.json`: `config` from `serving.config.Settings`, the Kubernetes side from here.

usage: python helm/generate_schema.py [--check]
"""

import json
import sys
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).resolve().parent / "gemmule" / "values.schema.json"
sys.path.insert(0, str(SCHEMA.parents[2]))  # the code beside this file, installed or not

from model.config import SIZES  # noqa: E402
from serving.config import Settings  # noqa: E402

Schema = dict[str, Any]

QUANTITY: Schema = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"}
TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
FREE: Schema = {"type": "object"}  # Kubernetes' own structures are checked by Kubernetes
OBJECTS: Schema = {"type": "array", "items": {"type": "object"}}
TEXTS: Schema = {"type": "array", "items": {"type": "string"}}
SECRET: Schema = {"type": "string", "maxLength": 253, "description": "Name of a Secret, never a secret."}


def whole(least: int, most: int | None = None) -> Schema:
    """A whole number within bounds."""
    return {"type": "integer", "minimum": least} | ({} if most is None else {"maximum": most})


def choice(*values: str) -> Schema:
    """One of these."""
    return {"enum": list(values)}


def closed(**properties: Schema) -> Schema:
    """An object that has these keys and no others."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


PLACE = {"nodeSelector": FREE, "tolerations": OBJECTS, "affinity": FREE, "priorityClassName": TEXT}
POD = closed(groupMax=whole(1), cpu=whole(0), memory=QUANTITY, shmSize=QUANTITY, gpuResource=TEXT, **PLACE)
ENV = closed(name={"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}, value=TEXT, valueFrom=FREE)


def kubernetes_side() -> dict[str, Schema]:
    """Every key beside `config`."""
    return {
        "fullnameOverride": TEXT,
        "image": closed(
            repository=TEXT,
            tag=TEXT,
            digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
            pullPolicy=choice("Always", "IfNotPresent", "Never"),
            pullSecrets=OBJECTS,
        ),
        "sizes": closed(**dict.fromkeys(map(str, SIZES), POD)),
        "head": closed(cpu=whole(1), memory=QUANTITY, shmSize=QUANTITY, **PLACE),
        "autoscaler": closed(
            idleTimeoutSeconds=whole(0),
            upscalingMode=choice("Default", "Aggressive", "Conservative"),
            cpu=QUANTITY,
            memory=QUANTITY,
        ),
        "serving": closed(maxStreamSeconds=whole(1, 86_400), objectStoreMiB=whole(80), tmpSize=QUANTITY),
        "upgradeStrategy": choice("NewCluster", "None", "NewClusterWithIncrementalUpgrade"),  # the last by a message
        "modelCache": closed(existingClaim=TEXT, size=QUANTITY),
        "auth": closed(rayToken=closed(existingSecret=SECRET)),
        "hfToken": closed(existingSecret=SECRET, key={"type": "string", "minLength": 1}),
        "serviceAccount": closed(create=FLAG, name=TEXT, annotations=FREE),
        "networkPolicy": closed(
            enabled=FLAG, operatorNamespace=TEXT, clientNamespaces=TEXTS, monitoringNamespace=TEXT, extraEgress=OBJECTS
        ),
        "podDisruptionBudget": closed(
            enabled=FLAG, maxUnavailable={"anyOf": [whole(0), {"type": "string", "pattern": "^[0-9]+%$"}]}
        ),
        "extraEnv": {"type": "array", "items": ENV | {"required": ["name"]}},
        "extraVolumes": OBJECTS,
        "extraVolumeMounts": OBJECTS,
        "validation": closed(skipCapabilities=FLAG),
        "global": FREE,  # Helm's own, for parent charts
    }


def config_side() -> tuple[Schema, dict[str, Schema]]:
    """The configuration tree and its definitions; a size's degree must divide its KV heads, as the code wants it."""
    tree = Settings.model_json_schema()
    definitions: dict[str, Schema] = tree.pop("$defs")
    sizes = definitions["ClusterConfig"]["properties"]["sizes"]
    one = sizes.pop("additionalProperties")
    sizes.pop("propertyNames", None)
    sizes["additionalProperties"] = False
    sizes["properties"] = {
        str(size): {"allOf": [one, {"properties": {"tensor_parallel": {"enum": _divisors(facts.kv_heads)}}}]}
        for size, facts in SIZES.items()
    }
    tree, definitions = _without(tree, "default"), _without(definitions, "default")  # values.yaml holds them
    return tree, definitions


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _without(node: Any, key: str) -> Any:
    if isinstance(node, list):
        return [_without(item, key) for item in node]
    if isinstance(node, dict):
        return {k: _without(v, key) for k, v in node.items() if k != key}
    return node


def render() -> str:
    """The schema file's text."""
    config, definitions = config_side()
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of the gemmule chart",
        "description": "Written by helm/generate_schema.py; do not edit.",
        "$defs": definitions,
        "type": "object",
        "properties": {"config": config, **kubernetes_side()},
        "additionalProperties": False,
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the schema, or with --check say whether the file is current."""
    text = render()
    if "--check" not in arguments:
        SCHEMA.write_text(text, encoding="utf-8")
        return 0
    if SCHEMA.exists() and SCHEMA.read_text(encoding="utf-8") == text:
        return 0
    print(f"{SCHEMA.name} is not what the code says; run `make schema`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
