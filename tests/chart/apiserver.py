"""A real API server without a cluster: `labapi` (k8s.io/apiserver with the built-in kinds and CRDs) over etcd.

What it checks of custom kinds is what every API server checks: unknown keys, types, defaults, CEL rules, field
ownership. There is no controller, no admission and no kubelet: nothing becomes a pod.
"""

import gzip
import hashlib
import json
import lzma
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.chart import tools
from tests.chart.tools import NoToolsError, Tree

NAMESPACE: Final = "models"
_DEFINITIONS: Final = sorted((Path(__file__).parent / "crds").glob("*.yaml.gz"))
_SHARED: Final = tools.ROOT.parent / "shared" / "tools" / "labapi-linux-amd64.xz"
_START_S: Final = 120  # a busy machine; two seconds on a free one


@dataclass(frozen=True, slots=True)
class ApiServer:
    """How to talk to it; `home` holds the kubeconfig and what the server writes."""

    home: Path

    def helm(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Real helm against this server."""
        return self._run("helm", *arguments, stdin=stdin)

    def kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Real kubectl against this server."""
        return self._run("kubectl", *arguments, stdin=stdin)

    def get(self, *arguments: str) -> Tree:
        """Something as it is stored, field owners included; it must exist."""
        done = self.kubectl("get", *arguments, "-n", NAMESPACE, "-o", "json", "--show-managed-fields")
        assert done.returncode == 0, done.stderr
        found: Tree = json.loads(done.stdout)
        return found

    def apply(self, *objects: Tree, more: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Server-side apply as helm does it, and by the same owner's name."""
        return self.kubectl(
            "apply", "--server-side", "--field-manager=helm", "-n", NAMESPACE, "-f", "-", *more,
            stdin=yaml.safe_dump_all(objects),
        )  # fmt: skip

    def _run(self, name: str, *arguments: str, stdin: str) -> subprocess.CompletedProcess[str]:
        own = {"KUBECONFIG": str(self.home / "kubeconfig"), "HOME": str(self.home), "HELM_NO_PLUGINS": "1"}
        command = [str(tools.binary(name)), *arguments]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=240, env=os.environ | own, check=False
        )


@contextmanager
def running() -> Iterator[ApiServer]:
    """Start both, install the definitions, stop both. Raises `NoToolsError` where one is missing."""
    etcd, labapi = _etcd(), _labapi()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gemmule-api-")))
        store, port = f"http://127.0.0.1:{_free_port()}", _free_port()
        etcd_options = ("--listen-client-urls", store, "--advertise-client-urls", store)
        peers = ("--listen-peer-urls", f"http://127.0.0.1:{_free_port()}")
        stack.enter_context(_process(home, "etcd", str(etcd), "--data-dir", str(home / "etcd"), *etcd_options, *peers))
        labapi_options = ("--etcd", store, "--port", str(port), "--cert-dir", str(home / "certs"))
        server = ApiServer(home)
        _until_answering(server, home, store, None)
        stack.enter_context(_process(home, "labapi", str(labapi), *labapi_options))
        (home / "kubeconfig").write_text(_kubeconfig(port))
        _until_answering(server, home, store, port)
        _define(server)
        yield server


def _etcd() -> Path:
    found = shutil.which("etcd")
    if not found:
        raise NoToolsError("etcd is not installed: apt-get install etcd-server")
    return Path(found)


def _labapi() -> Path:
    """Unpacked once into the user's cache; too big to be carried by the repository."""
    packed = Path(os.environ.get("GEMMULE_LABAPI") or _SHARED)
    if not packed.exists():
        raise NoToolsError(f"labapi is neither named by GEMMULE_LABAPI nor at {_SHARED.relative_to(tools.ROOT.parent)}")
    if packed.suffix != ".xz":
        return packed
    data = packed.read_bytes()
    path = tools.cache_folder() / f"labapi-{hashlib.sha256(data).hexdigest()[:16]}"
    if not path.exists():
        tools.install(lzma.decompress(data), path)
    return path


@contextmanager
def _process(home: Path, name: str, *command: str) -> Iterator[None]:
    with (home / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=home)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until_answering(server: ApiServer, home: Path, store: str, port: int | None) -> None:
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s:
        try:
            socket.create_connection(("127.0.0.1", port or int(store.rpartition(":")[2])), timeout=1).close()
        except OSError:
            time.sleep(0.05)
            continue
        if port is None or server.kubectl("get", "--raw", "/readyz").returncode == 0:
            return
    logs = "\n".join((home / log).read_text()[-1500:] for log in ("etcd.log", "labapi.log") if (home / log).exists())
    raise AssertionError(f"no answer after {_START_S} s\n{logs}")


def _define(server: ApiServer) -> None:
    """Definitions are served a moment after they are accepted, and found a moment after that."""
    text = "\n---\n".join(gzip.decompress(file.read_bytes()).decode() for file in _DEFINITIONS)
    done = server.kubectl("apply", "--server-side", "-f", "-", stdin=text)
    assert done.returncode == 0, done.stderr
    names = {definition["metadata"]["name"] for definition in yaml.load_all(text, yaml.CSafeLoader) if definition}
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s:
        served = set(server.kubectl("api-resources", "--no-headers", "-o", "name").stdout.split())
        if names <= served:
            break
        time.sleep(0.2)
    else:
        raise AssertionError(f"never served: {sorted(names - served)}")
    done = server.kubectl("create", "namespace", NAMESPACE)
    assert done.returncode == 0, done.stderr


def _kubeconfig(port: int) -> str:
    cluster = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    tree: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "lab", "user": {"token": "any"}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    }
    return yaml.safe_dump(tree)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
