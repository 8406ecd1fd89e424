"""Would Kubernetes take what is rendered? Strict schemas of four versions, KubeRay's CRD, the restricted profile."""

import re
from collections.abc import Sequence
from typing import Any

import kubernetes_validate
import pytest

from tests.chart import builtin, crd, tools
from tests.chart.pods import breaches, containers, every_pod, pods_of

each_set = pytest.mark.parametrize("name", tools.VALUE_SETS)
each_version = pytest.mark.parametrize("kube", tools.KUBE_VERSIONS)


@each_version
@each_set
def test_builtin_objects_and_pods_fit_the_published_schemas(name: str, kube: str) -> None:
    found = tools.objects(name, kube=kube)
    ours = [item for item in found if item["kind"] not in {*crd.KINDS, *tools.FOREIGN}]
    assert ours
    for item in [*ours, *every_pod(found).values()]:
        builtin.check(item, kube)


def test_the_published_schemas_refuse_unknown_names() -> None:
    (policy, *_) = tools.of_kind(tools.objects("minimal"), "NetworkPolicy")
    policy["spec"]["podSelectr"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="podSelectr"):
        builtin.check(policy, "1.37")


@each_set
def test_the_others_fit_the_definitions_of_their_operators(name: str) -> None:
    others = [item for item in tools.objects(name) if item["kind"] in crd.KINDS]
    assert "RayService" in {item["kind"] for item in others}
    assert [error for item in others for error in crd.errors(item)] == []


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("autoscalerOptions", "idleTimeoutSecs"), 5, "idleTimeoutSecs"),
        (("autoscalerOptions", "version"), "v3", "v3"),
        (("authOptions", "mode"), "tokens", "tokens"),
        (("workerGroupSpecs", 0, "maxReplicas"), "16", "maxReplicas"),
        (("workerGroupSpecs", 0, "groupName"), None, "groupName"),
        (("workerGroupSpecs", 0, "template", "spec", "containers", 0, "imagePullPolicyy"), "x", "imagePullPolicyy"),
        (("headGroupSpec", "template", "spec", "containers", 0, "ports", 0, "containerPort"), "x", "containerPort"),
    ],
)
def test_kuberays_definition_refuses(path: Sequence[str | int], value: Any, complaint: str) -> None:
    service = tools.ray_service("minimal")
    *parents, leaf = path
    node = service["spec"]["rayClusterConfig"]
    for step in parents:
        node = node[step]
    node[leaf] = value
    (error,) = crd.errors(service)
    assert complaint in error


@each_set
def test_every_pod_keeps_the_restricted_profile(name: str) -> None:
    for pod in every_pod(tools.objects(name)).values():
        assert breaches(pod) == []
        assert pod["spec"]["securityContext"]["runAsUser"] == 10_001  # shared files: one user on every node


def test_the_autoscaler_is_hardened_by_its_own_options() -> None:
    """The pod's template does not reach the container that the operator adds."""
    service = tools.ray_service("minimal")
    del service["spec"]["rayClusterConfig"]["autoscalerOptions"]["securityContext"]
    assert {breach.partition(":")[0] for breach in breaches(pods_of(service)["head"])} == {"autoscaler"}


@each_set
def test_only_the_head_may_talk_to_the_api_server(name: str) -> None:
    pods = pods_of(tools.ray_service(name))
    assert [key for key, pod in pods.items() if pod["spec"]["automountServiceAccountToken"]] == ["head"]
    (account,) = tools.of_kind(tools.objects(name), "ServiceAccount")
    assert {pod["spec"]["serviceAccountName"] for pod in pods.values()} == {account["metadata"]["name"]}


@each_set
def test_what_is_written_to_is_a_volume(name: str) -> None:
    for pod in pods_of(tools.ray_service(name)).values():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        ray = pod["spec"]["containers"][0]
        mounts = {mount["mountPath"]: mount["name"] for mount in ray["volumeMounts"]}
        assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
        assert "sizeLimit" in volumes[mounts["/tmp"]]["emptyDir"]
        folders = {e["value"] for e in ray["env"] if e["name"].endswith(("HOME", "_DIR", "_CACHE"))}
        assert all(folder.startswith(("/tmp", "/cache")) for folder in folders)
        for container in containers(pod):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


@each_set
def test_requests_are_limits_and_hold_what_lives_in_memory(name: str) -> None:
    """/dev/shm counts against the pod's memory and Ray's object store lies in it."""
    service = tools.ray_service(name)
    cluster = service["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        spec = group["template"]["spec"]
        resources = spec["containers"][0]["resources"]
        assert resources["requests"] == resources["limits"]
        assert resources["limits"]["cpu"].isdigit()
        (shm,) = (v["emptyDir"]["sizeLimit"] for v in spec["volumes"] if v["name"] == "shm")
        store = int(group["rayStartParams"]["object-store-memory"])
        assert store <= in_bytes(shm) < in_bytes(resources["limits"]["memory"])


def in_bytes(quantity: str) -> int:
    number, unit = int(quantity[:-2]), quantity[-2:]
    return number << 10 * (("Ki", "Mi", "Gi", "Ti").index(unit) + 1)


@each_set
def test_secrets_are_named_and_never_held(name: str) -> None:
    found = tools.objects(name)
    assert not tools.of_kind(found, "Secret")
    secret = re.compile(r"token|secret|password|api_?key", re.IGNORECASE)
    for pod in every_pod(found).values():
        for variable in pod["spec"]["containers"][0]["env"]:
            assert not secret.search(variable["name"]) or "value" not in variable


@each_set
def test_images_are_versions(name: str) -> None:
    for pod in every_pod(tools.objects(name)).values():
        assert all(re.search(r":(?!latest)[\w.-]+$", container["image"]) for container in containers(pod))


@each_set
def test_policies_select_the_pods_and_nothing_that_changes(name: str) -> None:
    found = tools.objects(name)
    pods = pods_of(tools.ray_service(name))
    for policy in tools.of_kind(found, "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]["matchLabels"].items()
        chosen = {key for key, pod in pods.items() if selector <= pod["metadata"]["labels"].items()}
        assert chosen == ({"head"} if policy["metadata"]["name"].endswith("-head") else set(pods))
    for budget in tools.of_kind(found, "PodDisruptionBudget"):
        selector = budget["spec"]["selector"]["matchLabels"].items()
        chosen = {key for key, pod in pods.items() if selector <= pod["metadata"]["labels"].items()}
        assert budget["metadata"]["name"].rsplit("-", 1)[-1] in chosen
    for pod in pods.values():  # the operator's own labels, which its services select by
        assert not {"app.kubernetes.io/name", "app.kubernetes.io/created-by"} & pod["metadata"]["labels"].keys()


@each_set
def test_policies_open_the_ports_that_serve(name: str) -> None:
    found = tools.objects(name)
    serve = tools.serve_config(tools.ray_service(name))
    faces = {serve["http_options"]["port"], serve["grpc_options"]["port"]}
    (everyone, head) = tools.of_kind(found, "NetworkPolicy")
    opened = [{port["port"] for port in rule.get("ports", ())} for rule in everyone["spec"]["ingress"]]
    assert faces in opened
    assert 8265 not in set().union(*opened)  # the dashboard is for the operator
    (operator,) = head["spec"]["ingress"]
    assert {port["port"] for port in operator["ports"]} == {8265, serve["http_options"]["port"]}
