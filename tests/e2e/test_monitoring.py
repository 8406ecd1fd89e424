"""A real Prometheus reads a real service, and every panel has something to show."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from tests.chart import monitoring, tools
from tests.e2e.conftest import Served, free_port

pytestmark = pytest.mark.e2e
WAIT_S = 60.0
JOB = "models/gemmule"
# What is only there when something is wrong or once a size was scaled, and Ray's own (tests/ray/test_ray_metrics.py).
QUIET = {"Broken, by code", "Refused, by tier", "Late, by tier", "A size's last start"}


@pytest.fixture(scope="module")
def prometheus(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Reads the page through two names, as it would through two pods, and has the rules; its address."""
    program = monitoring.program("prometheus")
    if program is None:
        pytest.skip("NO PANEL WAS SHOWN: run sh scripts/prometheus.sh")
    try:
        tools.binary("helm")
    except tools.NoToolsError as why:
        pytest.skip(f"NO PANEL WAS SHOWN: {why}")
    folder = tmp_path_factory.mktemp("prometheus")
    (rules,) = tools.of_kind(monitoring.objects("minimal"), "PrometheusRule")
    pods = [{"targets": [f"{name}:{served.http_port}"], "labels": {"pod": name}} for name in ("127.0.0.1", "localhost")]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": JOB, "static_configs": pods}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules["spec"]))
    with started(program, folder) as address:
        yield address


@contextmanager
def started(program: Path, folder: Path) -> Iterator[str]:
    """The server in a folder, gone at the end."""
    address = f"127.0.0.1:{free_port()}"
    words = [program, "--config.file=prometheus.yaml", "--storage.tsdb.path=data", f"--web.listen-address={address}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield f"http://{address}/api/v1"
    finally:
        process.terminate()
        process.wait(timeout=30)


def found(address: str, expr: str) -> list[object]:
    """The series that a query brings now; fails when Prometheus does not take it."""
    expr = expr.replace("$__rate_interval", "1m").replace("$job", JOB)
    answer = httpx.get(f"{address}/query", params={"query": expr}, timeout=10)
    assert answer.status_code == 200, f"{expr}: {answer.text}"
    series: list[object] = answer.json()["data"]["result"]
    return series


def test_every_panel_of_our_own_shows_something(served: Served, prometheus: str) -> None:
    panels = {
        where: expr
        for where, expr in monitoring.queries()
        if ".json" in where and "ray_" not in expr.replace("ray_io", "")
    }
    waiting = {where: expr for where, expr in panels.items() if where.partition(": ")[2] not in QUIET}
    deadline = time.monotonic() + WAIT_S
    number = 0
    while waiting and time.monotonic() < deadline:
        for model in ("auto", "economy", "2b"):
            number += 1
            ask = {"model": model, "messages": [{"role": "user", "content": f"What is {number} + 3?"}], "max_tokens": 8}
            httpx.post(f"{served.url}/v1/chat/completions", json=ask, timeout=60).raise_for_status()
        time.sleep(1)
        waiting = {where: expr for where, expr in waiting.items() if not found(prometheus, expr)}
    assert list(waiting) == []
    assert len(panels) > 40


def test_what_is_read_through_two_pods_is_counted_once(served: Served, prometheus: str) -> None:
    once = 'sum(max without (pod, instance) (gemmule_requests_total{job="$job"}))'
    page = httpx.get(f"{served.url}/metrics", timeout=10).text
    ended = sum(
        float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith("gemmule_requests_total{")
    )
    deadline = time.monotonic() + WAIT_S
    while (seen := json.dumps(found(prometheus, once))) and f'"{ended:.0f}"' not in seen:
        assert time.monotonic() < deadline, f"{ended} ended, Prometheus has {seen}"
        time.sleep(0.5)


def test_a_healthy_service_sets_no_alert_off(prometheus: str) -> None:
    rules = httpx.get(f"{prometheus}/rules", timeout=10).json()["data"]["groups"][0]["rules"]
    assert {rule["name"]: rule["health"] for rule in rules} == dict.fromkeys(monitoring.alerts("minimal"), "ok")
    firing = [
        name
        for name, rule in monitoring.alerts("minimal").items()
        if "ray_" not in rule["expr"] and found(prometheus, rule["expr"])
    ]
    assert firing == []
