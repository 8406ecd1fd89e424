"""One page of numbers for the whole service, whichever ingress process is asked.

A scrape reaches any one of the processes. Were it told only what that one counts, counters would jump to and fro; so
each process shows all of them, and where there are several every series names its own: `ingress`.
"""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry

from cluster.scaling.verdict import Verdict
from cluster.snapshot import Page, ReplicaStats
from serving.engine_metrics import EngineMetrics
from serving.scaling_metrics import ScalingMetrics


def rendered(pages: Mapping[str, Page], engines: tuple[ReplicaStats, ...], scaling: Verdict) -> bytes:
    """Prometheus' text format of these processes, of every replica's engine and of scaling."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(EngineMetrics(engines))
    registry.register(ScalingMetrics(scaling, engines))
    if "" in pages and len(pages) == 1:  # the only one
        return pages[""].text + generate_latest(registry)
    registry.register(_Merged(pages.values()))
    return generate_latest(registry)


class _Merged(Collector):
    def __init__(self, pages: Iterable[Page]) -> None:
        self._pages = pages

    def collect(self) -> Iterator[Metric]:
        """Every family once, with the series of every process."""
        families: dict[str, Metric] = {}
        for page in self._pages:
            for family in text_string_to_metric_families(page.text.decode()):
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    merged.add_sample(sample.name, {**sample.labels, "ingress": page.ingress}, sample.value)
        yield from families.values()
