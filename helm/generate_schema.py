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


def closed(*required: str, **properties: Schema) -> Schema:
    """An object that has these keys and no others."""
    found: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return found | ({"required": list(required)} if required else {})


PLACE = {"nodeSelector": FREE, "tolerations": OBJECTS, "affinity": FREE, "priorityClassName": TEXT}
CONTAINER = {"memory": QUANTITY, "shmSize": QUANTITY}
WORKER = {"cpu": whole(0), "gpuResource": TEXT, "priority": whole(-1000, 1000), **CONTAINER, **PLACE}
NAME: Schema = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?$"}
SIZES_OF_POOL: Schema = {
    "type": "array", "items": {"enum": [str(size) for size in SIZES]}, "minItems": 1, "uniqueItems": True
}  # fmt: skip
POOL = closed("name", "sizes", "max", name=NAME, sizes=SIZES_OF_POOL, max=whole(0), **WORKER)
HOSTS: Schema = {"type": "array", "items": {"type": "string", "pattern": r"^(\*\.)?[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"}}
PATHS: Schema = {"type": "array", "items": {"type": "string", "pattern": "^/"}, "minItems": 1}
CIDRS: Schema = {"type": "array", "items": {"type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$"}}
ADDRESS: Schema = {"type": "string", "pattern": "^((rediss?://)?[A-Za-z0-9.-]+:[0-9]{1,5})?$"}  # never with a password
KEY: Schema = {"type": "string", "minLength": 1}
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
        "sizes": closed(**dict.fromkeys(map(str, SIZES), closed(groupMax=whole(0), **WORKER))),
        "pools": {"type": "array", "items": POOL},
        "edge": closed(groupMax=whole(1), cpu=whole(1), **CONTAINER, **PLACE),
        "head": closed(cpu=whole(1), **CONTAINER, **PLACE),
        "autoscaler": closed(
            idleTimeoutSeconds=whole(0),
            upscalingMode=choice("Default", "Aggressive", "Conservative"),
            cpu=QUANTITY,
            memory=QUANTITY,
        ),
        "serving": closed(maxStreamSeconds=whole(1, 86_400), objectStoreMiB=whole(80), tmpSize=QUANTITY),
        "upgradeStrategy": choice("NewCluster", "None", "NewClusterWithIncrementalUpgrade"),  # the last by a message
        "modelCache": closed(
            kind=choice("emptyDir", "ephemeral", "claim"),
            size=QUANTITY,
            storageClass=TEXT,
            existingClaim=TEXT,
            accessMode=choice("ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"),
            prefetch=closed(enabled=FLAG, hook=FLAG, cpu=QUANTITY, memory=QUANTITY),
        ),
        "auth": closed(rayToken=closed(existingSecret=SECRET)),
        "hfToken": closed(existingSecret=SECRET, key=KEY),
        "gcs": closed(redis=closed(address=ADDRESS, existingSecret=SECRET, key=KEY)),
        "database": closed(existingSecret=SECRET, key=KEY),
        **_ways_in(),
        "serviceAccount": closed(create=FLAG, name=TEXT, annotations=FREE),
        "podDisruptionBudget": closed(enabled=FLAG, maxUnavailable=whole(0)),
        "monitoring": closed(
            podMonitor=closed(enabled=FLAG, labels=FREE, interval={"type": "string", "pattern": "^[0-9]+(s|m)$"}),
            rules=closed(
                enabled=FLAG, labels=FREE, runbook=TEXT, firstTokenSeconds={"type": "number", "exclusiveMinimum": 0}
            ),
            dashboards=closed(enabled=FLAG, labels=FREE, annotations=FREE),
        ),
        "extraEnv": {"type": "array", "items": ENV | {"required": ["name"]}},
        "extraVolumes": OBJECTS,
        "extraVolumeMounts": OBJECTS,
        "extraObjects": OBJECTS,
        "validation": closed(skipCapabilities=FLAG),
        "global": FREE,  # Helm's own, for parent charts
    }


def _ways_in() -> dict[str, Schema]:
    """What leads to the faces from outside."""
    tls = closed(existingSecret=SECRET)
    return {
        "publicPaths": PATHS,
        "gateway": closed(
            enabled=FLAG,
            parentRefs=OBJECTS,
            create=FLAG,
            className=TEXT,
            annotations=FREE,
            tls=tls,
            hostnames=HOSTS,
            grpcHostnames=HOSTS,
        ),
        "ingress": closed(
            enabled=FLAG,
            className=TEXT,
            annotations=FREE,
            hosts=HOSTS,
            grpcHosts=HOSTS,
            grpcAnnotations=FREE,
            tls=tls,
        ),
        "networkPolicy": closed(
            enabled=FLAG,
            operatorNamespace=TEXT,
            clientNamespaces=TEXTS,
            clientCIDRs=CIDRS,
            monitoringNamespace=TEXT,
            extraEgress=OBJECTS,
        ),
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
