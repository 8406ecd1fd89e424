"""Give a private Ray the autoscaler configuration on standard input and let replicas of Serve come and go on it.

A process of its own. Each node is a raylet on this machine whose GPUs are numbers; all else is Ray's own: Serve, the
scheduler, autoscaler v2. Prints one line of JSON: nodes by group when all ran, nodes at the end, and what was never
possible. The input is {"cluster": …, "replicas": [{"name", "count", "options": of the deployment}], "impossible": …}.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

_HEAD_ID: Final = "f" * 51 + "00000"
_WAIT_S: Final = 120  # of each phase; seconds on a free machine
# One machine without tokens; the second keeps all of Ray on 127.0.0.1.
_ENV: Final = {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
_HEAD_ENV: Final = _ENV | {
    "RAY_FAKE_CLUSTER": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": _HEAD_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
}


def main() -> None:
    """Start, grow, shrink, ask for the impossible, report."""
    asked = json.load(sys.stdin)
    os.environ.update(_ENV)
    with _head(asked["cluster"]) as address:
        print(json.dumps(_play(asked, address)))


@contextmanager
def _head(cluster: dict[str, Any]) -> Iterator[str]:
    """A head with the autoscaler. Not `AutoscalingCluster`, which stops every Ray on the machine."""
    folder = Path(tempfile.mkdtemp(prefix="gm-"))
    port = _free_port()
    cluster["provider"]["gcs_address"] = f"127.0.0.1:{port}"
    cluster["provider"]["head_node_id"] = _HEAD_ID
    (folder / "cluster.json").write_text(json.dumps(cluster))  # JSON is YAML
    command = [
        Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1",
        f"--port={port}", f"--temp-dir={folder}", f"--autoscaling-config={folder / 'cluster.json'}", "--num-cpus=0",
        "--include-dashboard=false", "--object-store-memory=80000000", "--disable-usage-stats",
    ]  # fmt: skip
    with (folder / "head.log").open("w") as log:
        head = subprocess.Popen(
            command, env=os.environ | _HEAD_ENV, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        said = folder / "head.log"
        _until(lambda: "runtime started" in said.read_text() or head.poll() is not None)
        if head.poll() is not None:
            raise SystemExit(said.read_text()[-3000:])
        yield f"127.0.0.1:{port}"
    finally:
        _stop(folder, head)
        shutil.rmtree(folder, ignore_errors=True)


def _play(asked: dict[str, Any], address: str) -> dict[str, Any]:
    import ray
    from ray import serve

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    try:
        serve.start(proxy_location="Disabled")
        began_s = time.monotonic()
        for wanted in asked["replicas"]:
            one = serve.deployment(_Replica).options(num_replicas=wanted["count"], **wanted["options"])
            serve.run(one.bind(), name=wanted["name"], route_prefix=None, blocking=False)
            serve_up(serve, wanted["name"])
        grown, grown_s = dict(_nodes(address)), time.monotonic() - began_s
        for wanted in asked["replicas"]:
            serve.delete(wanted["name"])
        began_s = time.monotonic()
        _until(lambda: not _nodes(address))
        gone_s = time.monotonic() - began_s
        stuck = ray.remote(_Replica).options(**asked["impossible"]).remote()
        _until(lambda: bool(_waiting(address)))
        report = {"grown": grown, "grown_s": grown_s, "left": sum(_nodes(address).values()), "gone_s": gone_s}
        report["impossible"] = _waiting(address)
        del stuck
        serve.shutdown()
        return report
    finally:
        ray.shutdown()


class _Replica:
    """Holds its resources and nothing else."""


def serve_up(serve: Any, name: str) -> None:
    """Until an application runs; it waits for nodes as long as the autoscaler takes."""
    _until(lambda: serve.status().applications[name].status.value == "RUNNING")


def _nodes(address: str) -> Counter[str]:
    """Groups of the nodes that are up, the head aside."""
    status = _status(address)
    nodes = (*status.active_nodes, *status.idle_nodes)
    return Counter(node.ray_node_type_name for node in nodes if node.node_id != _HEAD_ID)


def _waiting(address: str) -> list[dict[str, float]]:
    """Demands that wait, as the autoscaler reports them."""
    demands = _status(address).resource_demands
    return [dict(item.bundle) for demand in demands.ray_task_actor_demand for item in demand.bundles_by_count]


def _status(address: str) -> Any:
    from ray.autoscaler.v2.sdk import get_cluster_status

    return get_cluster_status(address)


def _until(true: Callable[[], bool]) -> None:
    end_s = time.monotonic() + _WAIT_S
    while not true():
        if time.monotonic() > end_s:
            raise TimeoutError(f"not so after {_WAIT_S} s")
        time.sleep(0.25)


def _free_port() -> int:
    """Below the ports that Ray gives its workers."""
    for port in range(7000 + os.getpid() % 1000, 10_002):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise SystemExit("no port is free")


def _stop(folder: Path, head: subprocess.Popen[bytes]) -> None:
    """What belongs to this Ray by its folder. SIGTERM would drain for half a minute."""
    for _ in range(2):  # a raylet that is just being started
        for process in psutil.process_iter():
            try:
                if str(folder) in " ".join(process.cmdline()) and process.pid != os.getpid():
                    process.send_signal(signal.SIGKILL)
            except psutil.Error:
                continue
        time.sleep(0.2)
    head.kill()
    head.wait()


if __name__ == "__main__":
    main()
