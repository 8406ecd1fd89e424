"""What a replica expects of its engine: requests in, events out."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from model.events import Event
from model.request import GenerationRequest, RequestId


@dataclass(frozen=True, slots=True)
class RankReport:
    """What one rank of a replica holds; shown by `gemmule status`."""

    rank: int
    pid: int
    weight_bytes: int
    shard_shapes: dict[str, tuple[int, ...]]  # parameter name -> shape on this rank, first layer and head only


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How busy an engine is, now."""

    running: int
    waiting: int
    free_kv_tokens: int
    total_kv_tokens: int


class EngineContract(Protocol):
    """One replica's engine. All methods are called from one event loop."""

    async def start(self) -> None:
        """Load weights, verify, warm up; raises `CheckpointError`. Nothing else may be called before it returned."""

    def submit(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Events of one request, the last a `Finished` or `Failed`. Closing the generator aborts the request."""

    def abort(self, request_id: RequestId) -> None:
        """End a request now; unknown and finished ids are ignored."""

    def load(self) -> EngineLoad:
        """Counts for routing and scaling; cheap enough to call every step."""

    def ranks(self) -> tuple[RankReport, ...]:
        """One report per rank, rank 0 first."""

    async def close(self) -> None:
        """Stop the loop and give everything back; running requests end with `Failed`."""
