"""What runs beside Ray: the Job that downloads checkpoints, and the pods of `helm test`."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chart import tools
from tests.chart.tools import Tree

SOURCES = [
    "hf://google/gemma-2-2b-it@0000000000000000000000000000000000000000",
    "kaggle://google/gemma-2/transformers/gemma-2-9b-it@2",
    "hf://google/gemma-2-27b-it@0000000000000000000000000000000000000000",
]


def job(**values: Any) -> Tree:
    (found,) = tools.of_kind(tools.objects("everything-on", values=values), "Job")
    return found


def container_of(pod: Tree) -> Tree:
    (found,) = pod["spec"]["containers"]
    return dict(found)


def test_the_job_downloads_every_checkpoint_by_revision_into_the_claim() -> None:
    pod = job()["spec"]["template"]
    container = container_of(pod)
    assert (container["command"], container["args"]) == (["gemmule", "models", "pull"], SOURCES)
    (cache,) = (volume for volume in pod["spec"]["volumes"] if volume["name"] == "cache")
    assert cache["persistentVolumeClaim"] == {"claimName": "gemmule-models"}
    env = {variable["name"]: variable for variable in container["env"]}
    assert env["HF_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "hf-token", "key": "token"}
    assert env["KAGGLE_API_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "kaggle", "key": "token"}
    service = tools.ray_service("everything-on")
    group = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][1]
    theirs = {v["name"]: v for v in container_of(group["template"])["env"]}
    for name in ("HF_HOME", "KAGGLEHUB_CACHE"):  # where the replicas will look
        assert env[name] == theirs[name]


def test_the_jobs_name_follows_from_what_it_does() -> None:
    """A Job cannot be changed, and one that did its work should not be started again."""
    name = job()["metadata"]["name"]
    price = tools.nested("config.cluster.sizes.2b.usd_per_mtoken", 0.2)
    revision = tools.nested("config.cluster.sizes.2b.revision", "1")
    assert job(**price)["metadata"]["name"] == name
    assert job(**revision)["metadata"]["name"] != name
    assert job(image={"tag": "0.1.1"})["metadata"]["name"] != name


def test_the_job_comes_before_the_release_when_told_to() -> None:
    assert "annotations" not in job()["metadata"]
    hook = job(modelCache={"existingClaim": "there", "prefetch": {"hook": True}})
    assert hook["metadata"]["annotations"] == {
        "helm.sh/hook": "pre-install,pre-upgrade",
        "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
    }


def test_no_job_without_a_switch() -> None:
    assert not tools.of_kind(tools.objects("8xh100"), "Job")


def test_helm_test_asks_both_faces_and_keeps_what_failed() -> None:
    rest, grpc = tools.of_kind(tools.objects("minimal"), "Pod")
    for pod in (rest, grpc):
        assert pod["metadata"]["annotations"] == {
            "helm.sh/hook": "test",
            "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
        }
        assert (pod["spec"]["restartPolicy"], pod["spec"]["automountServiceAccountToken"]) == ("Never", False)
    assert container_of(rest)["args"] == ["--url", "http://gemmule-serve-svc.models:8000"]
    assert container_of(grpc)["args"] == ["--grpc", "gemmule-serve-svc.models:9000"]


def test_the_policies_let_the_hooks_out() -> None:
    found = tools.objects("everything-on")
    everyone = tools.of_kind(found, "NetworkPolicy")[0]["spec"]
    pods = [*tools.of_kind(found, "Pod"), job()["spec"]["template"]]
    for pod in pods:
        assert everyone["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert {"ports": [{"port": 443}]} in everyone["egress"]


@pytest.mark.parametrize("kind", ["Pod", "Job"])
def test_what_they_run_is_a_command_of_gemmule(kind: str, tmp_path: Path) -> None:
    """With nobody at the other end: 1 is a failed check, 2 would be a command line that gemmule does not know."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    items = tools.of_kind(tools.objects("everything-on"), kind)
    for item in items:
        container = container_of(item["spec"]["template"] if kind == "Job" else item)
        args = [word.replace("gemmule-serve-svc.models", "127.0.0.1") for word in container["args"]]
        args = [word for word in args if not word.startswith("kaggle:")]
        command = [sys.executable, "-m", "serving.main", *container["command"][1:], *args]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 1, done.stderr
        assert done.stdout.count("✗") == 2
