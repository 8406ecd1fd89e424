"""What is simulated: sizes with their replicas, what they run on, and what goes wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from cluster.speed import Speed
from model.config import CONTEXT_TOKENS, SLIDING_WINDOW_TOKENS, Size


@dataclass(frozen=True, slots=True)
class SizeFleet:
    """One size. Bounds matter where something scales."""

    speed: Speed
    usd_per_mtoken: float
    replicas: int  # that run at the beginning
    min_replicas: int = 1
    max_replicas: int = 1
    usd_per_device_hour: float = 0.0
    processors: float | None = None  # that a replica keeps busy while it works; None: one for each rank
    crowded: float | None = None  # times longer a step was measured to take while all other sizes were at work
    max_ongoing: int = 168  # requests of a replica, waiting ones included; as `max_running + max_waiting + 8`

    @property
    def busy_processors(self) -> float:
        """While it works on a step."""
        return self.speed.degree if self.processors is None else self.processors

    @property
    def devices(self) -> float:
        """That a replica takes from the budget."""
        return self.speed.degree


@dataclass(frozen=True, slots=True)
class Failure:
    """A replica of a size is lost at that instant, if there is one."""

    at_s: float
    size: Size


@dataclass(frozen=True, slots=True)
class Fleet:
    """All sizes under one budget."""

    sizes: Mapping[Size, SizeFleet]
    budget_devices: float = inf
    hop_s: float = 0.0  # from the client to an engine and back
    processors: float = inf  # that all ranks share; on devices of their own nobody waits for anybody
    failures: tuple[Failure, ...] = ()
    failures_per_replica_hour: float = 0.0
    max_context_tokens: int = CONTEXT_TOKENS
    window_tokens: int = SLIDING_WINDOW_TOKENS
