"""Does every value set render, and as what YAML?"""

import functools
from pathlib import Path
from typing import Any

import pytest
from yamllint import linter
from yamllint.config import YamlLintConfig

from tests.chart import tools

WRITTEN = YamlLintConfig(
    "{extends: default, rules: {line-length: {max: 120}, document-start: disable, braces: disable, "
    "comments: {min-spaces-from-content: 1}}}"
)
RENDERED = YamlLintConfig("{rules: {key-duplicates: enable, anchors: enable, octal-values: enable}}")
HAND_WRITTEN = [tools.CHART / "Chart.yaml", tools.CHART / "values.yaml", *sorted((tools.CHART / "ci").glob("*.yaml"))]
KINDS = {
    "ConfigMap", "Gateway", "GRPCRoute", "HTTPRoute", "Ingress", "Job", "NetworkPolicy", "PersistentVolumeClaim",
    "Pod", "PodDisruptionBudget", "PodMonitor", "PrometheusRule", "RayService", "ServiceAccount",
}  # fmt: skip


@pytest.mark.parametrize("path", HAND_WRITTEN, ids=lambda path: path.name)
def test_what_is_written_by_hand_is_tidy_yaml(path: Path) -> None:
    assert [str(problem) for problem in linter.run(path.read_text(encoding="utf-8"), WRITTEN)] == []


@pytest.mark.parametrize("name", tools.VALUE_SETS)
def test_lint_is_strict_and_content(name: str) -> None:
    done = tools.helm("lint", "--strict", str(tools.CHART), "-f", str(tools.CHART / "ci" / f"{name}.yaml"))
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


@pytest.mark.parametrize("kube", tools.KUBE_VERSIONS)
@pytest.mark.parametrize("name", tools.VALUE_SETS)
def test_every_value_set_renders_for_every_version(name: str, kube: str) -> None:
    done = tools.template(name, kube=kube)
    assert done.returncode == 0, done.stderr
    assert problems(done.stdout) == []
    assert {item["kind"] for item in tools.objects(name, kube=kube)} - KINDS - {*tools.FOREIGN} == set()


@functools.cache  # versions rarely differ, and yamllint takes longer than helm
def problems(rendered: str) -> list[str]:
    return [str(problem) for problem in linter.run(rendered, RENDERED)]


def test_an_older_kubernetes_is_refused() -> None:
    assert "1.34" in tools.refusal("minimal", kube="1.33")


def test_what_is_compared_as_text_renders_the_same_every_time() -> None:
    """KubeRay compares `serveConfigV2` as text; Helm 4.3's toYaml gave six orders in twelve renderings."""
    once = [
        tools.objects("8xh100", kube=kube, more=more)
        for kube in tools.KUBE_VERSIONS
        for more in (tools.INSTALLED, (*tools.INSTALLED, "--is-upgrade"))
    ]
    assert len({tools.of_kind(found, "RayService")[0]["spec"]["serveConfigV2"] for found in once}) == 1
    maps = [item["data"] for found in once for item in tools.of_kind(found, "ConfigMap")]
    assert len({data["gemmule.yaml"] for data in maps if "gemmule.yaml" in data}) == 1


def test_the_ray_that_is_named_is_the_ray_that_is_pinned() -> None:
    (line,) = (x for x in (tools.ROOT / "pyproject.toml").read_text().splitlines() if '"ray[serve]==' in x)
    assert tools.ray_service("minimal")["spec"]["rayClusterConfig"]["rayVersion"] in line


def notes(*value_sets: str, **values: Any) -> str:
    """NOTES.txt as `helm install` shows it, without a cluster."""
    files = [word for name in value_sets for word in ("-f", str(tools.CHART / "ci" / f"{name}.yaml"))]
    chosen = [word for key, value in values.items() for word in ("--set", f"{key.replace('__', '.')}={value}")]
    done = tools.helm(
        "install", "r", str(tools.CHART), "-n", "models", "--dry-run=client",
        "--set", "validation.skipCapabilities=true", *files, *chosen,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("NOTES:")[2]


def test_notes_say_where_it_is_and_what_an_upgrade_does() -> None:
    said = notes("minimal")
    assert "http://r-gemmule-serve-svc.models:8000" in said
    assert "r-gemmule-serve-svc.models:9000" in said
    assert "a second cluster beside this one" in said
    assert "2b is served by a small stand-in (embedded:nano-2b), which is not Gemma" in said
    assert "gated" not in said


def test_notes_warn_where_changes_are_dropped() -> None:
    said = notes("8xh100")
    assert "Nothing leads in from outside" in said
    assert "NOTHING, silently" in said
    assert "stand-in" not in said
    assert "gated" not in said


def test_notes_warn_of_gated_weights_without_a_token() -> None:
    assert "gated" in notes("8xh100", hfToken__existingSecret="")


def test_notes_say_how_to_come_in_from_outside() -> None:
    said = notes("everything-on")
    for line in (
        "REST  https://gemmule.example.com",
        "gRPC  grpc.gemmule.example.com:443",
        "REST  https://old.gemmule.example.com",
        "gRPC  grpc.old.gemmule.example.com:443",
        "helm -n models test r",
    ):
        assert line in said
    assert "Nothing leads in" not in said
    assert "downloads its own" not in said
    assert "REST  http://gemmule.example.com" in notes("eks", ingress__tls__existingSecret="")


def test_notes_warn_where_every_pod_downloads() -> None:
    assert "Every pod downloads its own checkpoint" in notes("small-gpu", modelCache__kind="emptyDir")
