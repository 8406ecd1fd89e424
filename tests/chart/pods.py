"""The pods that KubeRay 1.7 makes of a RayService, and the restricted Pod Security Standard."""

from collections.abc import Iterator, Sequence
from typing import Final

from tests.chart.tools import Tree

_VOLUMES: Final = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"
}  # fmt: skip
_FROM_RAY: Final = ("image", "imagePullPolicy", "securityContext", "env", "volumeMounts")
_FROM_OPTIONS: Final = ("imagePullPolicy", "securityContext", "resources", "env", "volumeMounts")


def pods_of(service: Tree) -> dict[str, Tree]:
    """Head and one worker of each group by name, with the containers that the operator adds.

    The autoscaler takes its image from the Ray container and the rest from `autoscalerOptions` only; the init container
    of workers copies the Ray container.
    """
    cluster = service["spec"]["rayClusterConfig"]
    head = _pod("head", cluster["headGroupSpec"]["template"])
    options = cluster["autoscalerOptions"]
    head["spec"]["containers"].append(
        {"name": "autoscaler", "image": head["spec"]["containers"][0]["image"]}
        | {key: options[key] for key in _FROM_OPTIONS if key in options}
    )
    found = {"head": head}
    for group in cluster["workerGroupSpecs"]:
        pod = found[group["groupName"]] = _pod(group["groupName"], group["template"])
        ray = pod["spec"]["containers"][0]
        small = {"cpu": "200m", "memory": "256Mi"}
        pod["spec"]["initContainers"] = [
            {"name": "wait-gcs-ready", "resources": {"requests": small, "limits": small}}
            | {key: ray[key] for key in _FROM_RAY if key in ray}
        ]
    return found


def every_pod(found: Sequence[Tree]) -> dict[str, Tree]:
    """All pods that a rendering leads to: Ray's, those of Jobs, and those that stand alone, by name."""
    pods = {}
    for item in found:
        name = item["metadata"]["name"]
        match item["kind"]:
            case "RayService":
                pods |= pods_of(item)
            case "Job":
                pods[name] = _pod(name, item["spec"]["template"])
            case "Pod":
                pods[name] = item
    return pods


def _pod(name: str, template: Tree) -> Tree:
    spec = template["spec"] | {"containers": list(template["spec"]["containers"])}
    metadata = template["metadata"] | {"name": name, "namespace": "models"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def containers(pod: Tree) -> Iterator[Tree]:
    """All of them, those that run first included."""
    yield from pod["spec"].get("initContainers", ())
    yield from pod["spec"]["containers"]


def breaches(pod: Tree) -> list[str]:
    """What the restricted profile refuses (Kubernetes 1.37), and a writable root, which it would let pass."""
    spec = pod["spec"]
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    found += [f"volume {v['name']}" for v in spec.get("volumes", ()) if not _VOLUMES & v.keys()]
    of_pod = spec.get("securityContext", {})
    for container in containers(pod):
        own = container.get("securityContext", {})
        rules = {
            "runAsNonRoot": (own.get("runAsNonRoot", of_pod.get("runAsNonRoot")) is True),
            "runAsUser": own.get("runAsUser", of_pod.get("runAsUser")) != 0,
            "seccomp": (own.get("seccompProfile") or of_pod.get("seccompProfile") or {}).get("type")
            in ("RuntimeDefault", "Localhost"),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "privileged": not own.get("privileged"),
            "drop ALL": "ALL" in own.get("capabilities", {}).get("drop", ()),
            "capabilities": set(own.get("capabilities", {}).get("add", ())) <= {"NET_BIND_SERVICE"},
            "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
            "hostPort": not any(port.get("hostPort") for port in container.get("ports", ())),
        }
        found += [f"{container['name']}: {rule}" for rule, kept in rules.items() if not kept]
    return found
