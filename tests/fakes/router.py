"""A router that follows a script: deterministic, typed, and countable."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from cluster.config import ClusterConfig, Tier
from cluster.policy import choose
from cluster.promise_watch import Kept
from cluster.routing.choice import Offer
from cluster.routing.features import Text
from cluster.rules import Rules
from cluster.scaling.verdict import SizeVerdict, Verdict
from cluster.snapshot import (
    ClusterStatus,
    Decision,
    Page,
    Placed,
    Reason,
    ReplicaStats,
    RouteFacts,
    Shed,
    SizeState,
    SizeStatus,
    Snapshot,
    Unaffordable,
)
from cluster.trail import Role, Segment, Trail, Work
from model.config import CONTEXT_TOKENS, Size
from model.errors import Code, Fault, GemmuleError, InvalidRequestError, NotReadyError, OverloadedError
from model.events import Event, Failed, Finished, FinishReason, Logprob, PromptScored, TokenEvent, Usage
from model.instruments import StepRecord
from model.profile import Profile
from model.request import GenerationRequest, RequestId
from model.stats import EngineStats


@dataclass(frozen=True, slots=True)
class Script:
    """What the next requests get: pieces of text, and what happens before, between and instead of them."""

    pieces: Sequence[str] = ("Hel", "lo", " there")
    ids: Sequence[Sequence[int]] | None = None  # tokens behind each piece; default: one, counted from 200
    cached_tokens: int = 0
    scores: bool = True  # False: an engine that cannot score
    reason: FinishReason = FinishReason.STOP
    refuse: Exception | None = None  # raised before any item
    fail: Fault | None = None  # last event instead of Finished
    break_with: Exception | None = None  # raised after the pieces
    wait_first_s: float = 0.0
    wait_s: float = 0.0  # before every piece
    forever: bool = False  # after the pieces, never end

    def answer(self, request: GenerationRequest) -> list[tuple[str, tuple[int, ...]]]:
        """Pieces with the tokens behind them; one that draws by a seed says it at its end."""
        ids = self.ids or [(200 + index,) for index in range(len(self.pieces))]
        answer = [(piece, tuple(behind)) for piece, behind in zip(self.pieces, ids, strict=True)]
        seed = request.sampling.seed
        return answer if seed is None else [*answer, (f" #{seed}", (300,))]


@dataclass(slots=True)
class ScriptedRouter:
    """Implements `serving.service.Router`."""

    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    script: Script = Script()
    num_replicas: dict[Size, int] = field(default_factory=dict)  # default: one each
    submitted: list[GenerationRequest] = field(default_factory=list)
    facts: list[RouteFacts] = field(default_factory=list)
    closed: list[RequestId] = field(default_factory=list)  # ended by the caller before the last event
    shadow_usd: float = 0.0
    profiled: set[str] = field(default_factory=set)  # replicas, now
    rules: Rules | None = None  # given: the policy decides by them, and not the script
    now: Snapshot | None = None  # what it sees
    ingress: str = ""  # named: one of several processes
    peers: tuple[Page, ...] = ()  # what they count

    def offers(self, text: Text, max_tokens: int) -> tuple[Offer, ...]:
        """As if every size were right more often the larger it is."""
        quality = {Size.B2: 0.5, Size.B9: 0.7, Size.B27: 0.9}
        costs = {Size.B2: 0.1, Size.B9: 0.34, Size.B27: 1.0}
        return tuple(Offer(size, quality[size], costs[size], min(20.0, max_tokens)) for size in self.cluster.sizes)

    def decide(self, facts: RouteFacts) -> Decision:
        if self.rules is not None:
            return self._chosen(choose(facts, self.snapshot(), self.rules))
        if self.script.refuse is not None:
            raise self.script.refuse
        reason = Reason.EXPLICIT if facts.size else Reason.CHEAPEST
        return Decision(facts.size or Size.B9, facts.tier, reason, "as scripted", facts.offers)

    @staticmethod
    def _chosen(found: Decision | Shed | Unaffordable) -> Decision:
        match found:
            case Unaffordable(message=message):
                raise InvalidRequestError("invalid_value", "max_cost", message)
            case Shed(message=message, starting=True):
                raise NotReadyError(message)
            case Shed(message=message, retry_after_s=wait_s):
                raise OverloadedError(message, wait_s)
            case decision:
                return decision

    async def route(
        self, facts: RouteFacts, request: GenerationRequest, trail: Trail
    ) -> AsyncGenerator[Placed | Event, None]:
        script = self.script
        self.submitted.append(request)
        self.facts.append(facts)
        complete = False
        try:
            await asyncio.sleep(script.wait_first_s)
            try:
                decision = self.decide(facts)
            except Exception:
                complete = True
                raise
            size = decision.size
            yield Placed(decision, f"{size}#0", f"nano-{size}")
            if script.scores and (num_top := request.sampling.prompt_logprobs) is not None:
                ids = request.prompt_token_ids[1:]
                yield PromptScored(request.request_id, tuple(scored(token_id, num_top) for token_id in ids))
            answer = script.answer(request)
            for piece, ids in answer:
                await asyncio.sleep(script.wait_s)
                num_top = request.sampling.logprobs if script.scores else None
                scores = () if num_top is None else tuple(scored(token_id, num_top) for token_id in ids)
                yield TokenEvent(request.request_id, piece, ids, scores)
            while script.forever:
                await asyncio.sleep(0.01)
            complete = True
            if script.break_with is not None:
                raise script.break_with
            if script.fail is not None:
                yield Failed(request.request_id, script.fail)
                return
            num_tokens = sum(len(ids) for _, ids in answer)
            right = min(num_tokens, len(request.draft_token_ids))
            wrong = len(request.draft_token_ids) - right
            usage = Usage(len(request.prompt_token_ids), num_tokens, script.cached_tokens, right, wrong)
            trail.works.append(Work(size, f"{size}#0", Role.ANSWER, usage, 1e-6))
            trail.wrote = (Segment(Size.B2, 1), Segment(size, num_tokens - 1))
            yield Finished(request.request_id, script.reason, usage)
        finally:
            if not complete:
                self.closed.append(request.request_id)

    def snapshot(self) -> Snapshot:
        return self.now or Snapshot(
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

    def promises(self) -> dict[Tier, Kept]:
        return {Tier.AUTO: Kept(0.95, 0.96, 0.9, 0.99, 50.0, 0.01)}

    def replicas(self) -> dict[Size, tuple[str, ...]]:
        return {
            size: tuple(f"{size}#{index}" for index in range(self.num_replicas.get(size, 1)))
            for size in self.cluster.sizes
        }

    async def stats(self) -> tuple[ReplicaStats, ...]:
        return tuple(
            ReplicaStats(size, name, some_stats(), {"weights": 1.5, "all": 2.0})
            for size, names in self.replicas().items()
            for name in names
        )

    async def pages(self) -> tuple[Page, ...]:
        return self.peers

    async def profile(self, size: Size, replica: str, seconds: float, stacks: bool) -> Profile:
        if replica in self.profiled:
            raise GemmuleError(Fault(Code.OVERLOADED, "one at a time", "profile_running", None, seconds))
        self.profiled.add(replica)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.profiled.discard(replica)
        step = StepRecord(10.0, (0.001, 0.006, 0.002, 0.001), 40, 3, 2)
        return Profile(replica, 7, 9.5, 9.5 + seconds, (step,), 0, {"engine;step": 3} if stacks else None)

    async def status(self) -> ClusterStatus:
        return self.overview()

    def overview(self) -> ClusterStatus:
        return ClusterStatus(
            scaling=Verdict(
                number=1,
                budget_devices=8.0,
                sizes=tuple(
                    SizeVerdict(size, 1, 1, 1, 0, 0, 1.0, "as scripted", 3.5, 1.5) for size in self.cluster.sizes
                ),
            ),
            sizes=tuple(
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
            ),
        )


def some_stats() -> EngineStats:
    """An engine that has seen some work."""
    part_s = {"schedule": 0.5, "forward": 8.0, "sample": 1.0, "publish": 0.5}
    return EngineStats(
        running=3, waiting=2, free_blocks=700, cached_blocks=200, used_blocks=100, total_blocks=1000, preemptions=4,
        prefix_hit_tokens=30, prefix_asked_tokens=120, accepted_draft_tokens=5, rejected_draft_tokens=6, steps=1000,
        computed_tokens=9000, output_tokens=1200, part_s=part_s, weight_bytes=2**20, kv_bytes=2**21,
    )  # fmt: skip


def scored(token_id: int, num_top: int) -> Logprob:
    """A score that only depends on the token; itself comes first, then the ids after it."""
    value = -(token_id % 7 + 1) / 8
    return Logprob(token_id, value, tuple((token_id + step, value - step) for step in range(num_top)))


def refusal(fault: Fault) -> GemmuleError:
    """A scripted refusal."""
    return GemmuleError(fault)
