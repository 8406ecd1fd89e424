"""What dashboards and alerts name of Ray's own metrics is what Ray's agent shows."""

import asyncio
from collections import defaultdict

import httpx
import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families
from ray import serve

from tests.chart import monitoring, tools

pytestmark = pytest.mark.ray
REPORTED_S = 60.0  # the agent is told every 10 s


@serve.deployment(
    ray_actor_options={"num_cpus": 0},
    autoscaling_config={"min_replicas": 1, "max_replicas": 1},
    health_check_period_s=1,
)
class Idle:
    """Something that is scaled."""


async def page(address: str) -> dict[str, set[str]]:
    """Name of every series, and its labels."""
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(address)).text
    found = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] |= sample.labels.keys()
    return found


async def test_every_metric_and_label_of_ray_that_is_named_is_shown(ray_cluster: None) -> None:
    try:
        tools.binary("helm")
    except tools.NoToolsError as why:
        pytest.skip(f"RAY'S METRICS WERE NOT LOOKED AT: {why}")
    named = [(where, expr) for where, expr in monitoring.queries() if "ray_" in expr.replace("ray_io", "")]
    used = {
        name: matchers for _, expr in named for name, matchers in monitoring.selectors(expr) if name.startswith("ray_")
    }
    app = Idle.bind()  # type: ignore[attr-defined]
    await asyncio.to_thread(serve.run, app, name="app-idle", route_prefix=None)
    (node,) = ray.nodes()
    address = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    async with asyncio.timeout(REPORTED_S):
        while used.keys() - (shown := await page(address)).keys():
            await asyncio.sleep(1)
    for where, expr in named:
        for name, matchers in monitoring.selectors(expr):
            if name.startswith("ray_"):
                assert {label for label, _ in matchers} <= shown[name] | monitoring.TARGET, where
        every = {label for name, _ in monitoring.selectors(expr) for label in shown.get(name, ())}
        assert monitoring.grouped(expr) <= every | monitoring.TARGET | {"size"}, where
