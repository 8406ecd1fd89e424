"""Frozen facts that a policy may read."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cluster.config import Tier
from model.capacity import Capacity
from model.config import Size
from model.contract import RankReport
from model.stats import EngineStats


@dataclass(frozen=True, slots=True)
class SizeState:
    """One size as the router sees it now."""

    size: Size
    num_replicas: int  # replicas that can serve
    ongoing: int  # requests accepted and not ended, over all replicas
    slots: int  # requests that the running replicas decode at once
    max_context_tokens: int
    usd_per_mtoken: float
    wakes: bool = False  # no replica yet, but the first request starts one

    @property
    def load(self) -> float:
        """Ongoing requests per decoding slot; infinite without a replica."""
        return self.ongoing / self.slots if self.slots else float("inf")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All sizes at one instant, cheapest first."""

    sizes: tuple[SizeState, ...]

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
    CHEAPEST = "cheapest"  # cheapest size whose expected quality keeps the tier's promise
    BEST = "best"  # no size keeps the promise: the best one allowed
    SPILLED = "spilled"  # the chosen size is under pressure, a neighbour has room
    FELL_BACK = "fell_back"  # the chosen size has no replica


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """What the policy knows of a request. Exactly one of `size` and `tier` is set."""

    size: Size | None
    tier: Tier | None
    difficulty: float  # [0, 1]
    prompt_tokens: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Which size works on a request, and why in words a person can read."""

    size: Size
    tier: Tier | None
    reason: Reason
    detail: str
    expected_quality: Mapping[Size, float]


@dataclass(frozen=True, slots=True)
class Shed:
    """Refused: no allowed size has room or a replica."""

    message: str
    retry_after_s: float
    starting: bool  # True: nothing is up yet; False: everything is full


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


@dataclass(frozen=True, slots=True)
class ReplicaStats:
    """One replica in numbers."""

    size: Size
    replica: str
    stats: EngineStats


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
