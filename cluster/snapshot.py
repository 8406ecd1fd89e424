"""Frozen facts that a policy may read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cluster.config import Tier
from cluster.routing.choice import Offer
from cluster.scaling.verdict import Verdict
from model.capacity import Capacity
from model.config import Size
from model.contract import RankReport
from model.stats import EngineStats


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one size answers now, from what it answered lately.

    `p50` and `p90` are what half and nine tenths of its answers took at most, as a multiple of what was expected when
    they began: they know how uncertain lengths are. None while there were too few.
    """

    wait_s: float  # before a request's first step
    prompt_s_per_token: float
    output_s_per_token: float
    p50: float | None = None
    p90: float | None = None

    def answer_s(self, prompt_tokens: float, output_tokens: float) -> float:
        """Expected seconds to the last token."""
        return self.wait_s + prompt_tokens * self.prompt_s_per_token + output_tokens * self.output_s_per_token


@dataclass(frozen=True, slots=True)
class SizeState:
    """One size as the router sees it now."""

    size: Size
    num_replicas: int  # replicas that can serve
    ongoing: int  # requests accepted and not ended, over all replicas
    slots: int  # requests that the running replicas decode at once
    max_context_tokens: int
    usd_per_mtoken: float
    wakes: bool = False  # it may sleep, and a replica starts once it is asked for
    pace: Pace | None = None  # None: nothing was measured yet
    by_tier: Mapping[Tier | None, int] = field(default_factory=dict)  # of those ongoing, the ones that are known
    returns: bool = False  # no replica at this moment, but its successor is on its way
    no_room: str = ""  # it sleeps, is asked for, and gets no replica: why

    @property
    def load(self) -> float:
        """Ongoing requests per decoding slot; infinite without a replica."""
        return self.ongoing / self.slots if self.slots else float("inf")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All sizes at one instant, cheapest first, and the tiers whose promise is waived while there is too much to do."""

    sizes: tuple[SizeState, ...]
    waived: frozenset[Tier] = frozenset()

    def __getitem__(self, size: Size) -> SizeState:
        """State of one size; KeyError when it is not served."""
        for state in self.sizes:
            if state.size is size:
                return state
        raise KeyError(size)

    def get(self, size: Size) -> SizeState | None:
        """State of one size, or None when it is not served."""
        return next((state for state in self.sizes if state.size is size), None)


class Reason(StrEnum):
    """Why a size was chosen."""

    EXPLICIT = "explicit"
    CHEAPEST = "cheapest"  # cheapest size that is worth its price under the tier's promise
    LIMITED = "limited"  # a limit of the request kept it from another size
    BROWNED_OUT = "browned_out"  # the tier's promise is waived for now: the cheapest size
    ESCALATED = "escalated"  # a smaller size's answer looked weak
    SPILLED = "spilled"  # the chosen size is under pressure, a neighbour has room
    FELL_BACK = "fell_back"  # the chosen size has no replica


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request allows. `min_quality` is a share of the largest size's quality, in place of the tier's promise."""

    max_cost_usd: float | None = None
    deadline_s: float | None = None  # seconds from now
    min_quality: float | None = None


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """What the policy knows of a request. Exactly one of `size` and `tier` is set. Offers from cheap to dear."""

    size: Size | None
    tier: Tier | None
    offers: tuple[Offer, ...]
    prompt_tokens: int
    max_tokens: int
    limits: Limits = Limits()
    cascade: bool = True  # one answer, without its prompt scored: another size may take over
    stream: bool = False
    timeout_s: float | None = None  # when the answer is of no use any more
    allow_fallback: bool = False  # an explicit size that cannot serve may be replaced

    def offer(self, size: Size) -> Offer:
        """Of one size."""
        return next(offer for offer in self.offers if offer.size is size)


@dataclass(frozen=True, slots=True)
class Decision:
    """Which size works on a request, and why in words a person can read.

    `then` takes over when the answer of `size` looks weak; `exchange_rate` is what that is weighed with.
    """

    size: Size
    tier: Tier | None
    reason: Reason
    detail: str
    offers: tuple[Offer, ...]
    then: Size | None = None
    exchange_rate: float = 0.0
    max_output_tokens: int | None = None  # what a cost limit leaves room for

    def offer(self, size: Size) -> Offer:
        """Of one size."""
        return next(offer for offer in self.offers if offer.size is size)


@dataclass(frozen=True, slots=True)
class Shed:
    """Refused: no allowed size has room or a replica."""

    message: str
    retry_after_s: float
    starting: bool  # True: nothing is up yet; False: everything is full


@dataclass(frozen=True, slots=True)
class Unaffordable:
    """Refused: no allowed size is within the request's cost limit."""

    message: str


@dataclass(frozen=True, slots=True)
class Hello:
    """First item of a replica's stream: who answers."""

    replica: str
    checkpoint: str


@dataclass(frozen=True, slots=True)
class Placed:
    """First item of every routed stream: who works on the request."""

    decision: Decision
    replica: str
    checkpoint: str


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """How busy one replica is; this crosses the cluster all the time, so it holds no more than routing needs."""

    replica: str
    running: int
    waiting: int
    outdated: bool = False  # the settings ask for another replica than this one is
    leaving: bool = False  # it takes nothing new, and ends once it is idle
    kv_used_share: float = 0.0
    start_s: float = 0.0  # that its start took


@dataclass(frozen=True, slots=True)
class ReplicaStats:
    """One replica in numbers."""

    size: Size
    replica: str
    stats: EngineStats
    start_s: Mapping[str, float] = field(default_factory=dict)  # part of the start -> seconds


@dataclass(frozen=True, slots=True)
class Page:
    """What one ingress process counts, in Prometheus' text format."""

    ingress: str
    text: bytes


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One engine and the ranks under it, whole; sent when somebody looks."""

    replica: str
    checkpoint: str
    running: int
    waiting: int
    free_kv_tokens: int
    total_kv_tokens: int
    start_s: Mapping[str, float]  # part of the start -> seconds
    logit_difference: float | None  # to the checkpoint's golden logits; None when it has none
    ranks: tuple[RankReport, ...]
    capacity: Capacity | None = None
    stats: EngineStats | None = None
    outdated: bool = False  # as in `ReplicaLoad`
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class SizeStatus:
    """One size: what is in its slot and who serves it."""

    size: Size
    checkpoint: str
    stand_in: bool
    parameters: int
    tensor_parallel: int
    usd_per_mtoken: float
    ready: bool
    ongoing: int
    replicas: tuple[ReplicaStatus, ...]


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """The whole cluster at one instant."""

    sizes: tuple[SizeStatus, ...]
    scaling: Verdict = field(default_factory=Verdict)
