"""Numbers of one ingress process, declared once; `serving.metrics_page` puts those of all of them on a page."""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cluster.config import ClusterConfig, Tier
from cluster.promise_watch import Kept
from cluster.snapshot import Page, Snapshot
from cluster.trail import Work
from model.events import Usage

NONE: Final = "none"
"""Label of a request that ended before a size or tier was known."""
_LABELS: Final = ("size", "tier", "code")
# Edges around the objectives: a first token within half a second, an answer within a few.
_TTFT_EDGES_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ITL_EDGES_S: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 5)
_TOTAL_EDGES_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """All of them, in a registry of their own. Labels come from closed sets only; replicas come and go, but are few."""

    def __init__(self) -> None:
        self._ingress = ""
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "gemmule_requests", "Requests that ended, refused ones too.", _LABELS, registry=self.registry
        )
        self._in_flight = Gauge(
            "gemmule_in_flight_requests", "Requests accepted and not ended, now.", registry=self.registry
        )
        self._ttft = Histogram(
            "gemmule_ttft_seconds",
            "Arrival to first event; moves when the first event goes out.",
            ("size", "tier"),
            buckets=_TTFT_EDGES_S,
            registry=self.registry,
        )
        self._itl = Histogram(
            "gemmule_itl_seconds",
            "Time between two events with tokens of one answer; moves with every event but its first.",
            ("size", "tier"),
            buckets=_ITL_EDGES_S,
            registry=self.registry,
        )
        self._routed = Counter(
            "gemmule_routed",
            "Requests that were placed, by why their size was chosen; moves when the first event goes out.",
            ("size", "tier", "reason"),
            registry=self.registry,
        )
        self._total = Histogram(
            "gemmule_request_duration_seconds",
            "Arrival to last event; moves when a request that was placed ends.",
            ("size", "tier"),
            buckets=_TOTAL_EDGES_S,
            registry=self.registry,
        )
        self._prompt_tokens = Counter(
            "gemmule_prompt_tokens", "Tokens of prompts of finished requests.", ("size", "tier"), registry=self.registry
        )
        self._output_tokens = Counter(
            "gemmule_output_tokens", "Tokens of answers of finished requests.", ("size", "tier"), registry=self.registry
        )
        works = ("size", "tier", "role")
        self._works = Counter(
            "gemmule_works", "Parts that a size had in requests; role says what became of it.", works,
            registry=self.registry,
        )  # fmt: skip
        self._usd = Counter("gemmule_cost_usd", "Price of all work, drafts and lost work too.", works,
            registry=self.registry)  # fmt: skip
        self._drafted = Counter(
            "gemmule_draft_tokens", "Draft tokens verified, by whether they were right.", ("size", "tier", "right"),
            registry=self.registry,
        )  # fmt: skip
        self._promise = Gauge(
            "gemmule_promise_share",
            "Share of the largest size's quality that a tier is seen to keep; bound: promised, kept, low, high, asked.",
            ("tier", "bound"),
            registry=self.registry,
        )
        self._waived = Gauge(
            "gemmule_promise_waived",
            "1 while a tier's promise is waived under load.",
            ("tier",),
            registry=self.registry,
        )
        self._shadow_usd = Gauge(
            "gemmule_shadow_usd", "Price of looking at answers again, since this process began.", registry=self.registry
        )
        self._replicas = Gauge(
            "gemmule_replicas", "Replicas that can serve, as this process sees it.", ("size",), registry=self.registry
        )
        self._bounds = Gauge(
            "gemmule_replica_bounds",
            "Replicas that a size may have; bound: min, max. Moves with the settings.",
            ("size", "bound"),
            registry=self.registry,
        )
        self._ongoing = Gauge(
            "gemmule_ongoing_requests", "Requests accepted by a size and not ended.", ("size",), registry=self.registry
        )
        self._slots = Gauge("gemmule_slots", "Requests that a size decodes at once.", ("size",), registry=self.registry)
        self._traffic = Counter(
            "gemmule_traffic_prompts",
            "Prompts drawn for the traffic store, kept or dropped; moves only when `traffic.share` is set.",
            ("result",),
            registry=self.registry,
        )

    def settled(self, cluster: ClusterConfig, ingress: str) -> None:
        """How many replicas the sizes may have; `ingress` names this process where there are several."""
        self._ingress = ingress
        self._bounds.clear()
        for size, config in cluster.sizes.items():
            self._bounds.labels(size, "min").set(config.replicas.min_replicas)
            self._bounds.labels(size, "max").set(config.replicas.max_replicas)

    def accepted(self) -> None:
        """A request passed validation."""
        self._in_flight.inc()

    def first_event(self, size: str, tier: str, reason: str, ttft_s: float) -> None:
        """The first event of a request went out."""
        self._ttft.labels(size, tier).observe(ttft_s)
        self._routed.labels(size, tier, reason).inc()

    def gaps(self, size: str, tier: str) -> Callable[[float], None]:
        """What is told the seconds between two events of one answer; found once, called for each."""
        return self._itl.labels(size, tier).observe

    def ended(self, size: str, tier: str, code: str, total_s: float, usage: Usage | None) -> None:
        """An accepted request ended, however it did."""
        self._in_flight.dec()
        self._requests.labels(size, tier, code).inc()
        if size != NONE:
            self._total.labels(size, tier).observe(total_s)
        if usage is not None:
            self._prompt_tokens.labels(size, tier).inc(usage.prompt_tokens)
            self._output_tokens.labels(size, tier).inc(usage.output_tokens)

    def worked(self, tier: str, works: Sequence[Work]) -> None:
        """Every size's part in a request."""
        for work in works:
            self._works.labels(work.size, tier, work.role).inc()
            self._usd.labels(work.size, tier, work.role).inc(work.usd)
            self._drafted.labels(work.size, tier, "yes").inc(work.usage.accepted_draft_tokens)
            self._drafted.labels(work.size, tier, "no").inc(work.usage.rejected_draft_tokens)

    def refused(self, code: str) -> None:
        """A request did not pass validation."""
        self._requests.labels(NONE, NONE, code).inc()

    def traffic(self, result: str, prompts: int) -> None:
        """Prompts that were drawn were `kept` or `dropped`."""
        self._traffic.labels(result).inc(prompts)

    def watched(self, kept: Mapping[Tier, Kept], waived: Set[Tier], shadow_usd: float) -> None:
        """What is known of the promises now."""
        for tier, each in kept.items():
            self._waived.labels(tier).set(tier in waived)
            bounds = {"promised": each.promised, "asked": each.promised + each.shift}
            if each.answers:
                bounds |= {"kept": each.share, "low": each.low, "high": each.high}
            for bound, share in bounds.items():
                self._promise.labels(tier, bound).set(share)
        self._shadow_usd.set(shadow_usd)

    def seen(self, now: Snapshot) -> None:
        """Every size as this process sees it."""
        for state in now.sizes:
            self._replicas.labels(state.size).set(state.num_replicas)
            self._ongoing.labels(state.size).set(state.ongoing)
            self._slots.labels(state.size).set(state.slots)

    def page(self) -> Page:
        """All of it as text."""
        return Page(self._ingress, generate_latest(self.registry))
