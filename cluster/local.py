"""A private Ray on this machine: started, watched, and gone without a trace."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import gRPCOptions
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

from cluster.build import APP_NAME
from cluster.config import ClusterConfig
from cluster.snapshot import ReplicaLoad
from model.config import Size

_STORE_BYTES: Final = 80 * 2**20  # tokens are small; Ray would take 30 % of memory
_POLL_S: Final = 0.25
_LEAVE_S: Final = 2.0
_ANSWER_S: Final = 10.0
_TAKEN_S: Final = 1.0  # until what Serve says of itself is about the new configuration; it looks ten times a second


class StartError(Exception):
    """The application did not come up; the message says why."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a start stands."""

    elapsed_s: float
    step: str
    deployments: dict[str, str]  # deployment -> what it is doing


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the two faces listen, and the gRPC services that Serve shall know."""

    host: str
    http_port: int
    grpc_port: int
    grpc_servicer_functions: Sequence[str]


@contextlib.contextmanager
def ray_here(config: ClusterConfig) -> Iterator[Path]:
    """A Ray of our own in a temporary folder, gone afterwards whatever happened; `environment.prepare` comes before."""
    folder = Path(tempfile.mkdtemp(prefix="gemmule-"))  # short: socket paths may have 107 bytes
    try:
        ray.init(
            address="local",
            num_cpus=_promised_cpus(config),
            include_dashboard=False,
            object_store_memory=_STORE_BYTES,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=str(folder),
        )
        yield folder
    finally:
        started = psutil.Process().children(recursive=True)
        with contextlib.suppress(Exception):
            serve.shutdown()
        ray.shutdown()
        _end(started)
        shutil.rmtree(folder, ignore_errors=True)


def run(
    config: Mapping[str, Any], endpoint: Endpoint, report: Callable[[Progress], None], timeout_s: float = 600.0
) -> None:
    """Deploy what `deploying.serve_config` makes on the Ray at hand, and return when every size has what it keeps.

    Raises `StartError`.
    """
    began_s = time.monotonic()
    report(Progress(0.0, "starting Ray Serve", {}))
    serve.start(
        http_options={"host": endpoint.host, "port": endpoint.http_port},
        grpc_options=gRPCOptions(
            port=endpoint.grpc_port,
            grpc_servicer_functions=list(endpoint.grpc_servicer_functions),
            enable_reflection=True,
        ),
    )
    deploy(config)
    while True:
        elapsed_s = time.monotonic() - began_s
        state = serve.status().applications.get(APP_NAME)
        if state is not None:
            doing = {
                name: _words(overview.status.value, overview.message) for name, overview in state.deployments.items()
            }
            report(Progress(elapsed_s, "loading the sizes", doing))
            if state.status is ApplicationStatus.RUNNING:
                return
            if state.status in (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY):
                failed = [o.message for o in state.deployments.values() if o.message] or [state.message]
                raise StartError("\n".join(_cause(message) for message in failed))
        if elapsed_s > timeout_s:
            raise StartError(f"not ready after {timeout_s:.0f} s")
        time.sleep(_POLL_S)


def deploy(config: Mapping[str, Any]) -> None:
    """Hand Serve its configuration; returns at once. A private function: Ray is pinned."""
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(config), _blocking=False)


def change(config: Mapping[str, Any], report: Callable[[Progress], None], timeout_s: float = 3600.0) -> float:
    """Give the running application another configuration; the seconds until all of it follows. Raises `StartError`.

    Only what the settings ask for moves: see `cluster.change`.
    """
    began_s = time.monotonic()
    deploy(config)
    time.sleep(_TAKEN_S)
    while (elapsed_s := time.monotonic() - began_s) < timeout_s:
        state = serve.status().applications[APP_NAME]
        failed = [each.message for each in state.deployments.values() if each.status.value == "DEPLOY_FAILED"]
        if failed:
            raise StartError("\n".join(map(_cause, failed)))
        doing = {name: _words(each.status.value, each.message) for name, each in state.deployments.items()}
        report(Progress(elapsed_s, "changing", doing))
        if state.status is ApplicationStatus.RUNNING and not _outdated(list(doing)):
            return elapsed_s
        time.sleep(_POLL_S)
    raise StartError(f"not changed after {timeout_s:.0f} s")


def _outdated(deployments: Sequence[str]) -> bool:
    """Whether a replica is still another than the settings ask for, or does not answer."""
    for name in deployments:
        if name in set(Size):
            response = serve.get_deployment_handle(name, APP_NAME).broadcast("load")
            try:
                loads = response.results(timeout_s=_ANSWER_S, return_exceptions=True)
            except (TimeoutError, RayError, RayServeException):
                return True
            if any(not isinstance(load, ReplicaLoad) or load.outdated for load in loads):
                return True
    return False


def _end(processes: list[psutil.Process]) -> None:
    """Ray's agents notice late that their raylet is gone, above all those that were still starting."""
    _, alive = psutil.wait_procs(processes, timeout=_LEAVE_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=_LEAVE_S)


def _promised_cpus(config: ClusterConfig) -> int:
    """CPUs that Ray may hand out: enough for every replica at its upper bound; a laptop shares what it has."""
    wanted = sum(c.replicas.max_replicas * c.tensor_parallel * c.cpus_per_rank for c in config.sizes.values())
    return max(os.cpu_count() or 1, int(wanted) + 4)


def room_for(config: ClusterConfig) -> bool:
    """Whether the Ray at hand was started for as many replicas as this may have."""
    return _promised_cpus(config) <= ray.cluster_resources()["CPU"]


def _words(status: str, message: str) -> str:
    """A deployment's state in a few words."""
    if status in ("HEALTHY", "RUNNING"):
        return "ready"
    return "failed" if "FAILED" in status or (message and "Traceback" in message) else "starting"


def _cause(message: str) -> str:
    """The last line of a traceback: the message of our own error."""
    lines = [line for line in message.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
