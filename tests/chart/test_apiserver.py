"""Does an API server take what the chart renders, and what does it hold after install, upgrade, rollback, uninstall?"""

import copy
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.kuberay import Verdict, verdict
from tests.chart import apiserver, tools
from tests.chart.apiserver import NAMESPACE, ApiServer
from tests.chart.tools import Tree

SERVICE = ("rayservices.ray.io", "gemmule")


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    try:
        with apiserver.running() as found:
            yield found
    except tools.NoToolsError as why:
        pytest.skip(f"THE CHART MET NO API SERVER: {why}")


def of(name: str, settings: Mapping[str, Any] | None = None) -> list[str]:
    """Arguments of helm for a value set and single values by path."""
    single = (word for key, value in (settings or {}).items() for word in ("--set-json", f"{key}={json.dumps(value)}"))
    return ["-f", str(tools.CHART / "ci" / f"{name}.yaml"), *single]


def release(server: ApiServer, command: str, *arguments: str, chart: Path = tools.CHART) -> None:
    done = server.helm(command, "gemmule", str(chart), "-n", NAMESPACE, *arguments)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def install(server: ApiServer) -> Iterator[Callable[..., Tree]]:
    """Installs a value set and gives the stored RayService; uninstalled at the end."""

    def installed(*arguments: str) -> Tree:
        release(server, "install", *arguments)
        return server.get(*SERVICE)

    yield installed
    server.helm("uninstall", "gemmule", "-n", NAMESPACE)


def lost(sent: Any, stored: Any, where: str = "$") -> Iterator[str]:
    """Paths of what was sent and is not stored as it was; quantities are compared by what they say."""
    if isinstance(sent, dict) and isinstance(stored, dict):
        for key, value in sent.items():
            if key not in stored and value not in (None, {}, []):
                yield f"{where}.{key}"
            elif key in stored:
                yield from lost(value, stored[key], f"{where}.{key}")
    elif isinstance(sent, list) and isinstance(stored, list) and len(sent) == len(stored):
        for index, (one, other) in enumerate(zip(sent, stored, strict=True)):
            yield from lost(one, other, f"{where}[{index}]")
    elif sent != stored:
        yield f"{where}: {sent!r} became {stored!r}"


@pytest.mark.parametrize("name", tools.VALUE_SETS)
def test_every_value_set_is_taken_whole(server: ApiServer, name: str) -> None:
    """`helm upgrade --dry-run=server` would not do: it does not send the objects."""
    sent = [item for item in tools.objects(name) if item["kind"] not in tools.FOREIGN]
    done = server.apply(*sent, more=("--dry-run=server", "-o", "json"))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    stored = {(item["kind"], item["metadata"]["name"]): item for item in answer.get("items", [answer])}
    assert stored.keys() == {(item["kind"], item["metadata"]["name"]) for item in sent}
    assert [gone for item in sent for gone in lost(item, stored[item["kind"], item["metadata"]["name"]])] == []


@pytest.mark.parametrize("name", ["cpu-demo", "8xh100"])
def test_install_upgrade_rollback_uninstall(server: ApiServer, name: str) -> None:
    release(server, "install", *of(name))
    first = server.get(*SERVICE)
    release(
        server,
        "upgrade",
        *of(name, {"podDisruptionBudget": {"enabled": True, "maxUnavailable": 0}, "image.tag": "0.1.1"}),
    )
    second = server.get(*SERVICE)
    assert image_of(second).endswith(":0.1.1")
    assert not image_of(first).endswith(":0.1.1")
    assert server.get("pdb", "gemmule-head")["spec"]["minAvailable"] == 1

    done = server.helm("rollback", "gemmule", "1", "-n", NAMESPACE)
    assert done.returncode == 0, done.stderr
    assert server.get(*SERVICE)["spec"] == first["spec"]
    history = json.loads(server.helm("history", "gemmule", "-n", NAMESPACE, "-o", "json").stdout)
    assert [entry["status"] for entry in history] == ["superseded", "superseded", "deployed"]
    budget = server.kubectl("get", "pdb", "gemmule-head", "-n", NAMESPACE)
    assert budget.returncode != 0  # added by the upgrade, gone with it

    done = server.helm("uninstall", "gemmule", "-n", NAMESPACE)
    assert done.returncode == 0, done.stderr
    assert left(server) == []


def image_of(service: Tree) -> str:
    head = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    return str(head["image"])


def left(server: ApiServer) -> list[str]:
    """What still carries the release's label, of every kind that the server knows."""
    kinds = server.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").stdout.split()
    assert "rayservices.ray.io" in kinds
    done = server.kubectl(
        "get", ",".join(kinds), "-n", NAMESPACE, "-o", "name", "-l", "app.kubernetes.io/instance=gemmule"
    )
    return done.stdout.split()


def test_an_upgrade_to_the_same_moves_nothing(server: ApiServer, install: Callable[..., Tree]) -> None:
    before = install(*of("cpu-demo"))
    release(server, "upgrade", *of("cpu-demo"))
    after = server.get(*SERVICE)
    assert after["metadata"]["generation"] == before["metadata"]["generation"] == 1
    assert after["spec"] == before["spec"]


@pytest.mark.parametrize("version", ["9.9.9"])
def test_another_version_of_the_chart_moves_labels_only(
    server: ApiServer, install: Callable[..., Tree], tmp_path: Path, version: str
) -> None:
    before = install(*of("cpu-demo"))
    chart = shutil.copytree(tools.CHART, tmp_path / "gemmule")
    about = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about | {"version": version, "appVersion": version}))
    release(server, "upgrade", *of("cpu-demo"), chart=chart)
    after = server.get(*SERVICE)
    assert after["metadata"]["labels"]["helm.sh/chart"] == f"gemmule-{version}"
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


@pytest.mark.parametrize(
    ("setting", "value", "moved"),
    [
        ("config.cluster.sizes.2b.usd_per_mtoken", 0.2, Verdict.IN_PLACE),
        ("config.cluster.sizes.2b.replicas.max_replicas", 2, Verdict.IN_PLACE),
        ("config.cluster.sizes.27b.replicas.min_replicas", 0, Verdict.IN_PLACE),
        ("image.tag", "0.1.1-cpu", Verdict.NEW_CLUSTER),
        ("sizes.9b.memory", "3Gi", Verdict.NEW_CLUSTER),
        ("sizes.9b.groupMax", 9, Verdict.LATER),
    ],
)
def test_what_is_stored_moves_as_the_rule_says(
    server: ApiServer, install: Callable[..., Tree], setting: str, value: Any, moved: Verdict
) -> None:
    """The upgrade rule on what the server holds: defaults filled in, quantities as sent. KubeRay reads this."""
    before = install(*of("cpu-demo"))
    release(server, "upgrade", *of("cpu-demo", {setting: value}))
    after = server.get(*SERVICE)
    assert verdict(before, after) == moved
    same = stored_cluster(before) == stored_cluster(after)
    assert same == (moved is Verdict.IN_PLACE)
    assert after["metadata"]["generation"] == 2


def stored_cluster(service: Tree) -> str:
    """Byte by byte, as the server gives it."""
    return json.dumps(service["spec"]["rayClusterConfig"])


def test_the_specification_is_helms_and_the_status_is_not(server: ApiServer, install: Callable[..., Tree]) -> None:
    """Helm owns what it rendered and nothing else, so an operator's status and a person's label outlive an upgrade."""
    install(*of("cpu-demo"))
    status = ("--subresource=status", "--field-manager=kuberay-operator", "--type=merge", "-p")
    done = server.kubectl("patch", *SERVICE, "-n", NAMESPACE, *status, '{"status": {"observedGeneration": 1}}')
    assert done.returncode == 0, done.stderr
    server.kubectl("label", *SERVICE, "-n", NAMESPACE, "team=search", "--field-manager=person")
    release(server, "upgrade", *of("cpu-demo", {"image.tag": "0.1.1"}))

    after = server.get(*SERVICE)
    assert after["status"]["observedGeneration"] == 1
    assert after["metadata"]["labels"]["team"] == "search"
    owners = {entry["manager"]: entry for entry in after["metadata"]["managedFields"]}
    assert owners.keys() == {"helm", "kuberay-operator", "person"}
    assert owners["helm"]["operation"] == "Apply"
    assert owners["helm"]["fieldsV1"].keys() == {"f:metadata", "f:spec"}
    assert owners["kuberay-operator"]["fieldsV1"].keys() == {"f:status"}
    assert "f:team" not in json.dumps(owners["helm"]["fieldsV1"])


def test_what_somebody_else_took_is_not_overwritten_in_silence(server: ApiServer, install: Callable[..., Tree]) -> None:
    install(*of("cpu-demo"))
    mine = {"spec": {"upgradeStrategy": {"type": "None"}}}
    server.kubectl("patch", *SERVICE, "-n", NAMESPACE, "--field-manager=person", "--type=merge", "-p", json.dumps(mine))
    done = server.helm("upgrade", "gemmule", str(tools.CHART), "-n", NAMESPACE, *of("cpu-demo"))
    assert done.returncode != 0
    assert '"person"' in done.stderr
    assert ".spec.upgradeStrategy.type" in done.stderr
    release(server, "upgrade", *of("cpu-demo"), "--force-conflicts")
    assert server.get(*SERVICE)["spec"]["upgradeStrategy"]["type"] == "NewCluster"


def test_an_unknown_key_is_refused_by_name_and_nothing_stays(server: ApiServer, tmp_path: Path) -> None:
    """A slip in a template: Helm 4 sends by server-side apply, and that refuses what other ways would drop."""
    chart = shutil.copytree(tools.CHART, tmp_path / "gemmule")
    template = chart / "templates" / "rayservice.yaml"
    text = template.read_text(encoding="utf-8")
    assert "minReplicas: 0" in text
    template.write_text(text.replace("minReplicas: 0", "minReplicas: 0\n        idleTimeoutSecs: 60"))
    done = server.helm("install", "gemmule", str(chart), "-n", NAMESPACE, *of("cpu-demo"))
    assert done.returncode != 0
    assert ".spec.rayClusterConfig.workerGroupSpecs[0].idleTimeoutSecs" in done.stderr
    assert server.kubectl("get", *SERVICE, "-n", NAMESPACE).returncode != 0
    server.helm("uninstall", "gemmule", "-n", NAMESPACE)
    assert left(server) == []


def put(tree: Tree, path: str, value: Any) -> Tree:
    """A copy with one value set; a number in the path is a place in a list."""
    out = node = copy.deepcopy(tree)
    *parents, last = path.split(".")
    for name in parents:
        node = node[int(name)] if isinstance(node, list) else node.setdefault(name, {})
    node[last] = value
    return out


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("spec.managedBy", "us", "the managedBy field value must be either 'ray.io/kuberay-operator'"),
        ("spec.rayClusterConfig.managedBy", "us", "the managedBy field value must be either"),
        ("spec.rayClusterConfig.autoscalerOptions.version", "v3", "spec.rayClusterConfig.autoscalerOptions.version"),
        ("spec.rayClusterConfig.workerGroupSpecs.0.maxReplicas", "many", "maxReplicas"),
        ("spec.rayClusterConfig.workerGroupSpecs.0.groupName", None, "workerGroupSpecs[0].groupName"),
        ("spec.serveConfig", "x", ".spec.serveConfig: field not declared in schema"),
    ],
)
def test_the_server_refuses(server: ApiServer, path: str, value: Any, said: str) -> None:
    service = put(tools.ray_service("minimal"), path, value)
    done = server.apply(service, more=("--dry-run=server",))
    assert done.returncode != 0
    assert said in done.stderr


def test_what_may_never_change_is_refused_later(server: ApiServer) -> None:
    """CEL rules that compare with what is stored; no schema holds them."""
    path = "spec.rayClusterConfig.gcsFaultToleranceOptions"
    service = tools.ray_service("minimal", release="once-gemmule")
    redis = put(service, path, {"backend": "redis", "redisAddress": "redis:6379"})
    try:
        assert server.apply(redis).returncode == 0
        done = server.apply(put(redis, f"{path}.backend", "rocksdb"))
        assert done.returncode != 0
        assert "gcsFaultToleranceOptions.backend is immutable" in done.stderr
    finally:
        server.kubectl("delete", SERVICE[0], "once-gemmule", "-n", NAMESPACE)


def hooks(*value_sets: str) -> list[Tree]:
    found = tools.objects(*value_sets)
    return [item for item in found if item["metadata"].get("annotations", {}).get("helm.sh/hook") == "test"]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_helm_test_tells_what_its_pods_came_to(server: ApiServer, install: Callable[..., Tree], phase: str) -> None:
    """There is no kubelet here: the pods' end is written by hand, and helm must believe it."""
    names = [item["metadata"]["name"] for item in hooks("cpu-demo") if item["kind"] == "Pod"]
    if not names:
        pytest.skip("THE CHART HAS NO `helm test` YET")
    install(*of("cpu-demo"))
    done = threading.Event()
    patching = threading.Thread(target=end_pods, args=(server, names, phase, done))
    patching.start()
    try:
        result = server.helm("test", "gemmule", "-n", NAMESPACE, "--timeout", "120s")
    finally:
        done.set()
        patching.join()
    assert (result.returncode == 0) == (phase == "Succeeded"), result.stderr
    assert f"Phase:          {phase}" in result.stdout


def end_pods(server: ApiServer, names: list[str], phase: str, done: threading.Event) -> None:
    """Tests run one after another, so each is patched as it comes."""
    status = json.dumps({"status": {"phase": phase}})
    waiting = set(names)
    while waiting and not done.is_set():
        for name in sorted(waiting):
            patched = server.kubectl("patch", "pod", name, "-n", NAMESPACE, "--subresource=status", "-p", status)
            if patched.returncode == 0:
                waiting.discard(name)
        time.sleep(0.2)
