"""A router that follows a script: deterministic, typed, and countable."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from cluster.config import ClusterConfig
from cluster.snapshot import (
    ClusterStatus,
    Decision,
    Placed,
    Reason,
    RouteFacts,
    SizeState,
    SizeStatus,
    Snapshot,
)
from model.config import CONTEXT_TOKENS, Size
from model.errors import Fault, GemmuleError
from model.events import Event, Failed, Finished, FinishReason, TokenEvent, Usage
from model.request import GenerationRequest, RequestId


@dataclass(frozen=True, slots=True)
class Script:
    """What the next requests get: pieces of text, and what happens before, between and instead of them."""

    pieces: Sequence[str] = ("Hel", "lo", " there")
    reason: FinishReason = FinishReason.STOP
    refuse: Exception | None = None  # raised before any item
    fail: Fault | None = None  # last event instead of Finished
    break_with: Exception | None = None  # raised after the pieces
    wait_first_s: float = 0.0
    wait_s: float = 0.0  # before every piece
    forever: bool = False  # after the pieces, never end


@dataclass(slots=True)
class ScriptedRouter:
    """Implements `serving.service.Router`."""

    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    script: Script = Script()
    num_replicas: dict[Size, int] = field(default_factory=dict)  # default: one each
    submitted: list[GenerationRequest] = field(default_factory=list)
    facts: list[RouteFacts] = field(default_factory=list)
    closed: list[RequestId] = field(default_factory=list)  # ended by the caller before the last event

    async def route(self, facts: RouteFacts, request: GenerationRequest) -> AsyncGenerator[Placed | Event, None]:
        script = self.script
        self.submitted.append(request)
        self.facts.append(facts)
        complete = False
        try:
            await asyncio.sleep(script.wait_first_s)
            if script.refuse is not None:
                complete = True
                raise script.refuse
            size = facts.size or Size.B9
            decision = Decision(size, facts.tier, Reason.EXPLICIT if facts.size else Reason.CHEAPEST, "as scripted", {})
            yield Placed(decision, f"{size}#0", f"nano-{size}")
            for index, piece in enumerate(script.pieces):
                await asyncio.sleep(script.wait_s)
                yield TokenEvent(request.request_id, piece, (200 + index,))
            while script.forever:
                await asyncio.sleep(0.01)
            complete = True
            if script.break_with is not None:
                raise script.break_with
            if script.fail is not None:
                yield Failed(request.request_id, script.fail)
                return
            usage = Usage(len(request.prompt_token_ids), len(script.pieces))
            yield Finished(request.request_id, script.reason, usage)
        finally:
            if not complete:
                self.closed.append(request.request_id)

    def snapshot(self) -> Snapshot:
        return Snapshot(
            tuple(
                SizeState(
                    size=size,
                    num_replicas=self.num_replicas.get(size, 1),
                    ongoing=0,
                    slots=config.engine.max_running * self.num_replicas.get(size, 1),
                    max_context_tokens=CONTEXT_TOKENS,
                    usd_per_mtoken=config.usd_per_mtoken,
                )
                for size, config in self.cluster.sizes.items()
            )
        )

    async def status(self) -> ClusterStatus:
        return ClusterStatus(
            tuple(
                SizeStatus(
                    size=size,
                    checkpoint=f"nano-{size}",
                    stand_in=True,
                    parameters=1_000_000,
                    tensor_parallel=config.tensor_parallel,
                    usd_per_mtoken=config.usd_per_mtoken,
                    ready=self.num_replicas.get(size, 1) > 0,
                    ongoing=0,
                    replicas=(),
                )
                for size, config in self.cluster.sizes.items()
            )
        )


def refusal(fault: Fault) -> GemmuleError:
    """A scripted refusal."""
    return GemmuleError(fault)
