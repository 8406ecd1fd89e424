"""Scaling in Prometheus' words."""

from prometheus_client import CollectorRegistry

from cluster.scaling.verdict import SizeVerdict, Verdict
from cluster.snapshot import ReplicaStats
from model.config import Size
from serving.scaling_metrics import ScalingMetrics
from tests.fakes.router import some_stats

NINE = SizeVerdict(Size.B9, 2, 3, 1, 1, 1, 2.0, "because", 12.5, 4.0)


def value(of: ScalingMetrics, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(of)
    return registry.get_sample_value(name, labels)


def test_every_number_of_a_verdict_is_shown() -> None:
    of = ScalingMetrics(Verdict(1, 8.0, (NINE,)), ())
    states = {"wanted": 3, "target": 2, "running": 1, "starting": 1, "draining": 1}
    for state, number in states.items():
        assert value(of, "gemmule_scaling_replicas", size="9b", state=state) == number
    assert value(of, "gemmule_scaling_devices", what="budget") == 8
    assert value(of, "gemmule_scaling_devices", what="taken") == 6
    assert value(of, "gemmule_cold_start_seconds", size="9b", part="all") == 12.5
    assert value(of, "gemmule_cold_start_seconds", size="9b", part="place") == 4.0


def test_parts_of_a_replicas_start_are_shown() -> None:
    of = ScalingMetrics(Verdict(), (ReplicaStats(Size.B2, "2b#0", some_stats(), {"weights": 1.5, "gate": 0.2}),))
    assert value(of, "gemmule_replica_start_seconds", size="2b", replica="2b#0", part="weights") == 1.5
    assert value(of, "gemmule_scaling_devices", what="budget") is None
