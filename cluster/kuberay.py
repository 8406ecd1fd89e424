"""What KubeRay 1.7 does with a changed RayService: the fields it leaves out of its hash, and what follows. Pure.

As read from its source: its own digest is of Go structs, this compares the same fields as they are written.
"""

import copy
from enum import StrEnum
from typing import Any

Tree = dict[str, Any]


class Verdict(StrEnum):
    """What becomes of a change."""

    NONE = "nothing changed"
    IN_PLACE = "Serve takes it in place"
    LATER = "the next cluster has it, this one not"
    IN_PLACE_AND_LATER = "Serve takes its part, the next cluster has the rest"
    APPENDED = "a group is added to this cluster"
    NEW_CLUSTER = "a second cluster is started"
    IGNORED = "dropped in silence, since the strategy is None"
    OTHER = "another RayService"


def counted(cluster: Tree) -> Tree:
    """What is left of a cluster's specification when all that the operator does not hash is gone."""
    cluster = copy.deepcopy({key: cluster[key] for key in cluster.keys() - {"suspend", "upgradeStrategy"}})
    groups = cluster.get("workerGroupSpecs", [])
    for group in groups:
        for key in ("replicas", "minReplicas", "maxReplicas"):
            group.pop(key, None)
        group.get("scaleStrategy", {}).pop("workersToDelete", None)
    for pod in (cluster["headGroupSpec"], *groups):
        for key in ("tolerations", "schedulingGates"):
            pod["template"]["spec"].pop(key, None)
    return cluster


def verdict(old: Tree, new: Tree) -> Verdict:
    """Two RayServices to what happens. Quantities are compared as text: errs towards a new cluster."""
    if old["metadata"]["name"] != new["metadata"]["name"]:
        return Verdict.OTHER
    before, after = (service["spec"]["rayClusterConfig"] for service in (old, new))
    if counted(before) == counted(after):
        serve = old["spec"]["serveConfigV2"] != new["spec"]["serveConfigV2"]
        if before == after:
            return Verdict.IN_PLACE if serve else Verdict.NONE
        return Verdict.IN_PLACE_AND_LATER if serve else Verdict.LATER
    first = after["workerGroupSpecs"][: len(before["workerGroupSpecs"])]
    if counted(before) == counted(after | {"workerGroupSpecs": first}):
        return Verdict.APPENDED
    return Verdict.IGNORED if new["spec"]["upgradeStrategy"]["type"] == "None" else Verdict.NEW_CLUSTER
