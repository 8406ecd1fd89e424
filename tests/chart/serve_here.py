"""Give a private Ray the Serve configuration on standard input, as KubeRay would, and say as JSON what became of it.

A process of its own: other tests hold a Ray of theirs. One node stands for a pod of each size.
"""

import json
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from typing import Any

import ray
from ray import serve
from ray.serve.config import gRPCOptions
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

_PODS = {"size_2b": 1, "size_27b": 1, "edge": 1}


def main() -> None:
    """Deploy, wait, ask, report."""
    config = json.load(sys.stdin)
    folder = tempfile.mkdtemp(prefix="gemmule-")
    try:
        ray.init(
            address="local",
            num_cpus=4,
            resources=_PODS,
            include_dashboard=False,
            object_store_memory=80 * 2**20,
            log_to_driver=False,
            _temp_dir=folder,
        )
        serve.start(http_options=config["http_options"], grpc_options=gRPCOptions(**config["grpc_options"]))
        _get_global_client().deploy_apps(ServeDeploySchema.model_validate(config), _blocking=False)
        print(json.dumps(_report(config)))
    finally:
        serve.shutdown()
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _report(config: dict[str, Any]) -> dict[str, Any]:
    (application,) = config["applications"]
    end_s = time.monotonic() + 180
    while time.monotonic() < end_s:
        state = serve.status().applications.get(application["name"])
        if state and state.status.value in ("RUNNING", "DEPLOY_FAILED", "UNHEALTHY"):
            break
        time.sleep(0.5)
    details = _get_global_client().get_serve_details()["applications"][application["name"]]
    if details["status"] != "RUNNING":
        return {"status": details["status"], "message": details["message"]}
    taken = ray.cluster_resources().keys() - ray.available_resources().keys()
    return {
        "status": details["status"],
        "taken": sorted(taken),
        "drain_s": {
            name: one["deployment_config"]["graceful_shutdown_timeout_s"]
            for name, one in details["deployments"].items()
        },
        "answered_by": _ask(config["http_options"]["port"], end_s)["gemmule"]["replica"],
    }


def _ask(port: int, end_s: float) -> Any:
    """One answer of 27b; a router that has not looked at its replicas yet says 503."""
    body = {"model": "27b", "max_tokens": 8, "messages": [{"role": "user", "content": "What is 12 + 30?"}]}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    while True:
        request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > end_s:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    main()
