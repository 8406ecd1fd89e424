"""Does a real Ray serve from what the chart renders? In a process of its own, about 25 s when the machine is free."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.chart import tools


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def settings_of_pods(service: tools.Tree) -> dict[str, str]:
    head = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    return {e["name"]: e["value"] for e in head["env"] if e["name"].startswith("RAY_SERVE")}


@pytest.mark.ray
def test_the_stand_ins_are_served_from_the_rendered_configuration() -> None:
    ports = {"http_port": 0, "grpc_port": 0}
    while any(10_002 <= port <= 19_999 or port < 1024 for port in ports.values()):  # the chart keeps off Ray's own
        ports = {name: free_port() for name in ports}
    leaner = {"cluster": {"sizes": {"9b": None}}}  # one size alone, one over two ranks
    service = tools.ray_service("cpu-demo", values={"config": {"server": ports, **leaner}})
    private = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(tools.ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.chart.serve_here"],
        input=service["spec"]["serveConfigV2"],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=tools.ROOT,
        env=os.environ | settings_of_pods(service) | private,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))  # Ray prints as well
    assert report["status"] == "RUNNING", report
    assert {"size_2b", "size_27b"} <= set(report["taken"])  # the replicas hold their own pods' resource, all of it
    assert set(report["drain_s"].values()) == {120}
    assert report["answered_by"].startswith("27b#")
