"""What every replica's engine says of itself, in Prometheus' words.

The engines count, so these are read off rather than counted here; a replica that is gone is no longer shown.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cluster.snapshot import ReplicaStats
from model.stats import EngineStats

Values = Callable[[EngineStats], Mapping[str, float]]  # value of the extra label -> number; "" where there is none

_GAUGES: Final[tuple[tuple[str, str, str, Values], ...]] = (
    ("gemmule_engine_running", "Sequences in the batch, now.", "", lambda now: {"": now.running}),
    ("gemmule_engine_waiting", "Sequences that wait for their turn, now.", "", lambda now: {"": now.waiting}),
    (
        "gemmule_engine_blocks",
        "Blocks of keys and values: empty, kept for a prefix, or in use, now.",
        "state",
        lambda now: {"free": now.free_blocks, "cached": now.cached_blocks, "used": now.used_blocks},
    ),
    (
        "gemmule_engine_memory_bytes",
        "Memory of rank 0 by what it holds; fixed at the start.",
        "what",
        lambda now: {"weights": now.weight_bytes, "kv": now.kv_bytes},
    ),
)
_COUNTERS: Final[tuple[tuple[str, str, str, Values], ...]] = (
    (
        "gemmule_engine_preemptions",
        "Moves when a running sequence gives its blocks back to be computed again later.",
        "",
        lambda now: {"": now.preemptions},
    ),
    (
        "gemmule_engine_prefix_tokens",
        "Prompt tokens looked up in the prefix cache, and found; moves when a sequence starts to run.",
        "result",
        lambda now: {"asked": now.prefix_asked_tokens, "hit": now.prefix_hit_tokens},
    ),
    (
        "gemmule_engine_draft_tokens",
        "Guessed tokens that a step verified.",
        "result",
        lambda now: {"accepted": now.accepted_draft_tokens, "rejected": now.rejected_draft_tokens},
    ),
    ("gemmule_engine_steps", "Turns of the loop that computed something.", "", lambda now: {"": now.steps}),
    (
        "gemmule_engine_step_seconds",
        "Time in steps by part; with gemmule_engine_steps_total the mean of each.",
        "part",
        lambda now: now.part_s,
    ),
    (
        "gemmule_engine_tokens",
        "Tokens computed (of prompts, answers, guesses), and tokens of answers; moves after each step.",
        "kind",
        lambda now: {"computed": now.computed_tokens, "output": now.output_tokens},
    ),
)


class EngineMetrics(Collector):
    """Shows what the replicas said just now."""

    def __init__(self, now: tuple[ReplicaStats, ...] = ()) -> None:
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Every family, with a line for each replica and label."""
        for family, rows in ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS)):
            for name, told, label, values in rows:
                metric = family(name, told, labels=("size", "replica", *([label] if label else [])))
                for each in self._now:
                    for value, number in values(each.stats).items():
                        metric.add_metric([each.size, each.replica, *([value] if label else [])], number)
                yield metric
