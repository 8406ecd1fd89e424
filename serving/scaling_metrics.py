"""What scaling decided, and what starts of replicas took, in Prometheus' words.

Reasons are words, so they are in the log and in `/v1/status`; here is what they come to in numbers.
"""

from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cluster.scaling.verdict import Verdict
from cluster.snapshot import ReplicaStats


class ScalingMetrics(Collector):
    """Of one look at all sizes and replicas."""

    def __init__(self, now: Verdict, replicas: Sequence[ReplicaStats]) -> None:
        self._now, self._starts = now, replicas

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        yield from (self._replicas(), self._devices(), self._cold_starts(), self._parts())

    def _replicas(self) -> Metric:
        metric = GaugeMetricFamily(
            "gemmule_scaling_replicas",
            "Replicas of a size: wanted (by its requests), target (in the budget), running, starting, draining.",
            labels=("size", "state"),
        )
        for each in self._now.sizes:
            for state in ("wanted", "target", "running", "starting", "draining"):
                metric.add_metric([each.size, state], getattr(each, state))
        return metric

    def _devices(self) -> Metric:
        metric = GaugeMetricFamily(
            "gemmule_scaling_devices", "Devices of all sizes together: the budget, and taken now.", labels=("what",)
        )
        if self._now.sizes:
            metric.add_metric(["budget"], self._now.budget_devices)
            metric.add_metric(["taken"], self._now.used_devices)
        return metric

    def _cold_starts(self) -> Metric:
        metric = GaugeMetricFamily(
            "gemmule_cold_start_seconds",
            "Of a size's last start: all (from the wish to serving), place (until the replica's own start began: node, "
            "image, process).",
            labels=("size", "part"),
        )
        for each in self._now.sizes:
            for part, seconds in (("all", each.cold_start_s), ("place", each.place_s)):
                if seconds is not None:
                    metric.add_metric([each.size, part], seconds)
        return metric

    def _parts(self) -> Metric:
        metric = GaugeMetricFamily(
            "gemmule_replica_start_seconds",
            "Parts of a replica's own start, such as fetch, import, weights, warm and gate; fixed once it serves.",
            labels=("size", "replica", "part"),
        )
        for each in self._starts:
            for part, seconds in each.start_s.items():
                metric.add_metric([each.size, each.replica, part], seconds)
        return metric
