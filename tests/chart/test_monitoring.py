"""Monitors, rules and dashboards: valid, current, and naming only what leaves the processes."""

import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from model.errors import Code
from tests.chart import crd, monitoring, tools
from tests.chart.pods import pods_of
from tests.contract.faces import CHAT, running
from tests.fakes.router import ScriptedRouter

GUIDE = (tools.ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
QUERIES = dict(monitoring.queries())
needs_promtool = pytest.mark.skipif(
    monitoring.program("promtool") is None,
    reason="PROMQL WAS NOT PARSED, ALERTS WERE NOT PLAYED: run sh scripts/prometheus.sh",
)
Page = dict[str, list[dict[str, str]]]  # name -> labels of each series


@pytest.fixture(scope="module")
async def page() -> Page:
    """What one ingress process of several shows after an answer; every metric that it declares is on it."""
    async with running(router=ScriptedRouter(ingress="a")) as faces:
        await faces.http.post("/v1/chat/completions", json={**CHAT, "model": "auto"})
        text = (await faces.http.get("/metrics")).text
    found: Page = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name].append(dict(sample.labels))
    return found


def ours() -> Iterator[tuple[str, str]]:
    return ((where, expr) for where, expr in QUERIES.items() if "gemmule_" in expr)


@pytest.mark.parametrize("name", tools.VALUE_SETS)
def test_monitors_and_rules_fit_the_operators_definitions(name: str) -> None:
    found = monitoring.objects(name)
    of_operator = [item for item in found if item["kind"] in ("PodMonitor", "PrometheusRule")]
    assert len(of_operator) == 3
    assert [crd.errors(item) for item in of_operator] == [[], [], []]


def test_the_operators_definitions_refuse_unknown_names() -> None:
    (monitor, _), (rules,) = (
        tools.of_kind(monitoring.objects("minimal"), kind) for kind in ("PodMonitor", "PrometheusRule")
    )
    monitor["spec"]["podMetricsEndpoints"][0]["scrapeInterval"] = "5s"
    rules["spec"]["groups"][0]["rules"][0]["fro"] = "5m"
    assert [len(crd.errors(item)) for item in (monitor, rules)] == [1, 1]


@pytest.mark.parametrize("name", tools.VALUE_SETS)
def test_monitors_ask_pods_and_ports_that_exist_and_that_the_policy_opens(name: str) -> None:
    found = monitoring.objects(name)
    (service,) = tools.of_kind(found, "RayService")
    pods = pods_of(service)
    own, ray = tools.of_kind(found, "PodMonitor")
    (policy, *_) = tools.of_kind(found, "NetworkPolicy")
    rules = [rule for rule in policy["spec"]["ingress"] if "'monitoring'" in str(rule["from"])]
    opened = {port["port"] for rule in rules for port in rule["ports"]}
    for monitor in (own, ray):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        chosen = [pod for pod in pods.values() if wanted <= pod["metadata"]["labels"].items()]
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert chosen
        for pod in chosen:
            ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
            assert ports[endpoint["port"]] in opened
        if monitor is ray:
            assert len(chosen) == len(pods)


def test_each_part_is_off_until_it_is_asked_for() -> None:
    kinds = {item["kind"] for item in monitoring.objects("minimal", values={})}
    assert not kinds & {"PodMonitor", "PrometheusRule"}
    for part, kind in (("podMonitor", "PodMonitor"), ("dashboards", "ConfigMap")):
        values = {"monitoring": {part: {"enabled": True, "labels": {"team": "a"}}}}
        found = tools.of_kind(monitoring.objects("minimal", values=values), kind)
        assert any(item["metadata"]["labels"].get("team") == "a" for item in found)
    folder = {"monitoring": {"dashboards": {"enabled": True, "annotations": {"grafana_folder": "models"}}}}
    marked = [
        item
        for item in tools.of_kind(monitoring.objects("minimal", values=folder), "ConfigMap")
        if "annotations" in item["metadata"]
    ]
    assert len(marked) == 3


@pytest.mark.parametrize(("interval", "timeout"), [("5s", "5s"), ("15s", "10s"), ("1m", "10s")])
def test_a_scrape_may_not_take_longer_than_its_interval(interval: str, timeout: str) -> None:
    values = {"monitoring": {"podMonitor": {"enabled": True, "interval": interval}}}
    for monitor in tools.of_kind(monitoring.objects("minimal", values=values), "PodMonitor"):
        assert monitor["spec"]["podMetricsEndpoints"][0]["scrapeTimeout"] == timeout


def test_the_committed_dashboards_are_current() -> None:
    script = str(tools.ROOT / "helm" / "generate_dashboards.py")
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_dashboards_reach_grafana_as_they_were_written() -> None:
    boards = monitoring.boards()
    assert boards.keys() == {path.name for path in (tools.CHART / "dashboards").glob("*.json")}
    for name, board in boards.items():
        assert name == f"{board['uid']}.json"
        numbers = [panel["id"] for panel in board["panels"]]
        assert len(set(numbers)) == len(numbers)
        places = [panel["gridPos"] for panel in board["panels"]]
        cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
        assert len(set(cells)) == len(cells)  # none lies on another
        assert max(x for x, _ in cells) < 24


async def test_every_metric_and_label_that_is_named_leaves_the_process(page: Page) -> None:
    for where, expr in ours():
        labels = {label for name, _ in monitoring.selectors(expr) for series in page[name] for label in series}
        for name, matchers in monitoring.selectors(expr):
            if name.startswith("ray_"):
                continue  # tests/ray/test_ray_metrics.py
            assert page[name], f"{where} names {name}, which nothing exports"
            known = {label for series in page[name] for label in series}
            assert {label for label, _ in matchers} <= known | monitoring.TARGET, where
        if "ray_" not in expr:
            assert monitoring.grouped(expr) <= labels | monitoring.TARGET, where


async def test_every_value_that_is_asked_for_can_come(page: Page) -> None:
    codes = {*Code, "ok"}
    for where, expr in ours():
        for name, matchers in monitoring.selectors(expr):
            for label, value in matchers:
                if name.startswith("ray_") or label in monitoring.TARGET:
                    continue
                values = codes if label == "code" else {series.get(label) for series in page[name]}
                assert value in values, f"{where}: {name} never has {label}={value}"


def test_every_metric_is_on_a_dashboard_or_said_to_be_left_out(page: Page) -> None:
    """Panels are of what a person looks at; what has none is named here, so that a new metric is thought about."""
    shown = {name for expr in QUERIES.values() for name, _ in monitoring.selectors(expr)}
    without = {name for name in page.keys() - shown if not name.endswith(("_created", "_sum", "_count"))}
    assert without == {"gemmule_works_total"}


def test_rays_agents_are_asked_for_all_that_is_shown_and_for_no_more() -> None:
    (_, ray) = tools.of_kind(monitoring.objects("minimal"), "PodMonitor")
    (keep, *_) = ray["spec"]["podMetricsEndpoints"][0]["metricRelabelings"]
    names = {name for expr in QUERIES.values() for name, _ in monitoring.selectors(expr) if name.startswith("ray_")}
    assert names
    assert [name for name in names if not re.fullmatch(keep["regex"], name)] == []
    assert not re.fullmatch(keep["regex"], "ray_operation_run_time_ms_bucket")


def test_services_are_told_apart_by_the_names_of_their_monitors() -> None:
    found = monitoring.objects("minimal", release="prod")
    jobs = {f"models/{item['metadata']['name']}" for item in tools.of_kind(found, "PodMonitor")}
    (rules,) = tools.of_kind(found, "PrometheusRule")
    said = {
        value
        for group in rules["spec"]["groups"]
        for rule in group["rules"]
        for value in re.findall(r'job="([^"]*)"', rule["expr"])
    }
    assert said == {"models/prod-gemmule"} < jobs == {"models/prod-gemmule", "models/prod-gemmule-ray"}


def test_each_alert_has_its_heading_in_the_guide_and_the_other_way_round() -> None:
    rules = monitoring.alerts("minimal")
    assert re.findall(r"^### (Gemmule\w+)$", GUIDE, re.MULTILINE) == list(rules)
    for name, rule in rules.items():
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["for"]
    url = {
        "monitoring": {**monitoring.ON["monitoring"], "rules": {"enabled": True, "runbook": "https://x.example/ops"}}
    }
    assert (
        monitoring.alerts("minimal", values=url)["GemmuleGone"]["annotations"]["runbook_url"]
        == "https://x.example/ops#gemmulegone"
    )


@needs_promtool
@pytest.mark.parametrize("name", tools.VALUE_SETS)
def test_promtool_takes_the_rules(name: str, tmp_path: Path) -> None:
    (rules,) = tools.of_kind(monitoring.objects(name), "PrometheusRule")
    said = monitoring.checked(tmp_path, "check rules", {"rules.yaml": rules["spec"]})
    assert f"{len(monitoring.alerts(name))} rules found" in said


@needs_promtool
def test_promtool_takes_every_query_of_the_dashboards(tmp_path: Path) -> None:
    exprs = [
        expr.replace("$__rate_interval", "1m").replace("$", "") for where, expr in QUERIES.items() if ".json" in where
    ]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(exprs)]
    said = monitoring.checked(tmp_path, "check rules", {"rules.yaml": {"groups": [{"name": "panels", "rules": rules}]}})
    assert f"{len(exprs)} rules found" in said
