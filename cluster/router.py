"""Opens the stream of a request on the size that the policy chooses; lives in every ingress process.

Size and tier are decided here, since a Serve request router sees one deployment only; which replica of the size answers
is decided in `cluster.replica_router`.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from ray.serve.handle import DeploymentHandle

from cluster.attempt import Attempts
from cluster.brownout import BrownOut
from cluster.cascade import answered
from cluster.config import ClusterConfig, Tier
from cluster.fleet import Fleet
from cluster.forecast import Forecast
from cluster.peers import Peers
from cluster.policy import choose, first_choice
from cluster.promise_watch import Kept, PromiseWatch
from cluster.routing.choice import Offer
from cluster.routing.features import Text
from cluster.routing.profile import Profile as RoutingProfile
from cluster.rules import rules_of
from cluster.scaling.reporter import Reporter
from cluster.shadow import Shadow
from cluster.snapshot import (
    ClusterStatus,
    Decision,
    Page,
    Placed,
    Reason,
    ReplicaStats,
    RouteFacts,
    Shed,
    Snapshot,
    Unaffordable,
)
from cluster.trail import Trail
from model.config import Size
from model.errors import (
    REPLICA_LEAVING,
    Code,
    GemmuleError,
    InvalidRequestError,
    NotReadyError,
    OverloadedError,
)
from model.events import Event
from model.profile import Profile
from model.request import GenerationRequest

log = logging.getLogger("gemmule.router")

_TICK_S: Final = 0.5
_GRACE_S: Final = 2.0  # the engine ends a late request itself; this is for an engine that cannot
_LEAVING_S: Final = 0.2
_AS_WANTED: Final = frozenset({Reason.CHEAPEST, Reason.EXPLICIT, Reason.LIMITED})
_RETRYABLE: Final = frozenset({Code.REPLICA_LOST, Code.NOT_READY, Code.OVERLOADED})


def _capped(request: GenerationRequest, decision: Decision) -> GenerationRequest:
    """No longer than a cost limit leaves room for."""
    most = decision.max_output_tokens
    if most is None or most >= request.sampling.max_tokens:
        return request
    return replace(request, sampling=replace(request.sampling, max_tokens=most))


class Router:
    """Snapshot, decide, open the stream; retry or fall back before the first token, never after it."""

    def __init__(
        self,
        config: ClusterConfig,
        handles: Mapping[Size, DeploymentHandle],
        names: Mapping[Size, tuple[str, bool, int]],
        profile: RoutingProfile,
        peers: Peers | None = None,
        before: "Router | None" = None,
        reporter: Reporter | None = None,
    ) -> None:
        """`names` gives checkpoint, stand-in flag and parameters of each size, known before a replica is up.

        `peers` are the ingress processes, where there are several; the `reporter` tells the scaling policy what this
        one sees.
        `before` had other settings: it ends what it began, and all that was seen of the replicas is taken over.
        """
        self._config = config
        prices = {size: sized.usd_per_mtoken for size, sized in config.sizes.items()}
        self._forecast = Forecast(profile, prices)
        self.shadow_usd: float = before.shadow_usd if before else 0.0
        promised = {tier: each.quality_share for tier, each in config.tiers.items()}
        self._watch: PromiseWatch = PromiseWatch(promised, before._watch if before else None)
        self.rules = rules_of(config, profile, self._forecast, self._watch)
        self.brown_out = BrownOut(config.tiers, config.routing.brown_out)
        self._ticking: asyncio.Task[None] | None = None
        largest = max(config.sizes, key=lambda size: config.sizes[size].usd_per_mtoken)
        self._shadow = Shadow(config.routing.shadow, self._watch, largest, lambda asked: self._shadowed(largest, asked))
        self._fleet: Fleet = Fleet(config, handles, names, before._fleet if before else None, reporter)
        self._peers = peers
        self._attempts = Attempts(self._fleet, handles, prices)

    async def start(self) -> None:
        """Begin to watch the sizes; needs a running event loop."""
        await self._fleet.start()
        self._ticking = asyncio.create_task(self._tick(), name="brown-out")

    def retire(self) -> None:
        """Another router with newer settings has taken over; what is under way goes on."""
        if self._ticking is not None:
            self._ticking.cancel()

    async def close(self) -> None:
        """Stop watching."""
        self.retire()
        await self._shadow.close()
        await self._fleet.close()

    @property
    def fleet(self) -> Fleet:
        """What is known of the replicas."""
        return self._fleet

    def promises(self) -> Mapping[Tier, Kept]:
        """What is seen to be kept of each tier's promise; empty intervals where nothing is watched."""
        return self._watch.kept()

    def offers(self, text: Text, max_tokens: int) -> tuple[Offer, ...]:
        """What every size is expected to make of a request, cheapest first; no waiting."""
        return self._forecast.offers(text, max_tokens)

    def snapshot(self) -> Snapshot:
        """All served sizes, cheapest first."""
        return Snapshot(self._fleet.states(), self.brown_out.waived)

    def overview(self) -> ClusterStatus:
        """Sizes as last seen (at most a second old), without their replicas; no waiting."""
        return self._fleet.overview()

    async def status(self) -> ClusterStatus:
        """Sizes, replicas and ranks; asks every replica."""
        return await self._fleet.status()

    async def stats(self) -> tuple[ReplicaStats, ...]:
        """Every replica in numbers; asks each, and leaves out who does not answer."""
        return await self._fleet.stats()

    @property
    def ingress(self) -> str:
        """Name of this ingress process among several; empty where it is the only one."""
        return self._peers.name if self._peers else ""

    async def pages(self) -> tuple[Page, ...]:
        """What every ingress process counts; none where there is only this one."""
        return await self._peers.pages() if self._peers else ()

    def replicas(self) -> Mapping[Size, tuple[str, ...]]:
        """Names of the replicas of every size as last seen."""
        return self._fleet.replicas()

    async def profile(self, size: Size, replica: str, seconds: float, stacks: bool) -> Profile:
        """That replica's next seconds; raises a `GemmuleError` when it is busy with another profile, or gone."""
        return await self._fleet.profile(size, replica, seconds, stacks)

    async def route(
        self, facts: RouteFacts, request: GenerationRequest, trail: Trail
    ) -> AsyncGenerator[Placed | Event, None]:
        """`Placed`, then the events of one request; the trail learns of every size that worked on it.

        Raises a `GemmuleError` as long as nothing was sent: shed, no replica, lost before the first token. After that
        a loss is the last event. Before the first token a lost or full replica is tried once more: an explicit size on
        the same size, a tier where the policy says, without the size that failed. One that makes room for its successor
        has not begun, which is no try: the request goes on asking until its deadline.
        """
        decision = self._wanted(facts)
        clock = asyncio.get_running_loop().time
        deadline_s = clock() + request.timeout_s + _GRACE_S
        request = replace(request, priority=self.rules.priority(facts.tier, request.priority))

        def open_(to: Decision, asked: GenerationRequest) -> AsyncGenerator[Placed | Event, None]:
            if to.reason is Reason.ESCALATED:
                self._fleet.wanted(to.size, facts.tier)
            return self._attempts.open(to, asked, deadline_s, trail)

        tries = 0
        while True:
            started = False
            try:
                told = answered(open_, decision, facts, _capped(request, decision), self.rules, trail)
                if facts.tier is not None and self._shadow.drawn(request.request_id):
                    told = self._shadow.listening(facts.tier, request, told)
                async with aclosing(told) as stream:
                    async for item in stream:
                        started = True
                        yield item
                return
            except GemmuleError as error:
                leaving = error.fault.reason == REPLICA_LEAVING
                if started or (tries and not leaving) or error.fault.code not in _RETRYABLE:
                    raise
                left_s = max(0.0, deadline_s - _GRACE_S - clock())
                request, facts = replace(request, timeout_s=left_s), replace(facts, timeout_s=left_s)
                tries += not leaving
                decision = self._again(facts, decision, error)
                log.info("retried", extra={"request_id": request.request_id, "size": decision.size})
                if leaving:
                    await asyncio.sleep(_LEAVING_S)

    def decide(self, facts: RouteFacts) -> Decision:
        """What a request would get now; raises the `GemmuleError` that it would be refused with."""
        return self._decide(facts, without=())

    def _wanted(self, facts: RouteFacts) -> Decision:
        """As `decide`, and scaling learns which size was wanted, also of a request that is refused."""
        decision = None
        try:
            decision = self.decide(facts)
        finally:
            if decision is not None and decision.reason in _AS_WANTED:
                self._fleet.wanted(decision.size, facts.tier)
            else:
                self._fleet.wanted(first_choice(facts, self.snapshot(), self.rules), facts.tier)
        return decision

    async def _shadowed(self, largest: Size, request: GenerationRequest) -> AsyncGenerator[Placed | Event, None]:
        """On the largest size, for nobody; its price is in no request's account."""
        offers = (Offer(largest, 1.0, 1.0, 1.0),)
        decision, trail = Decision(largest, None, Reason.EXPLICIT, "an answer is looked at", offers), Trail()
        deadline_s = asyncio.get_running_loop().time() + request.timeout_s
        try:
            async with aclosing(self._attempts.open(decision, request, deadline_s, trail)) as stream:
                async for item in stream:
                    yield item
        finally:
            self.shadow_usd += trail.usd

    async def _tick(self) -> None:
        """Promises are waived and kept again with time, whether or not somebody asks."""
        while True:
            loads = [state.load for state in self.snapshot().sizes if state.num_replicas]
            before = self.brown_out.waived
            waived = self.brown_out.see(asyncio.get_running_loop().time(), max(loads, default=0.0))
            if waived != before:
                log.warning("promises waived", extra={"tiers": sorted(waived), "load": round(max(loads), 2)})
            await asyncio.sleep(_TICK_S)

    def _decide(self, facts: RouteFacts, without: Iterable[Size]) -> Decision:
        excluded = frozenset(without)
        now = self.snapshot()
        now = replace(now, sizes=tuple(state for state in now.sizes if state.size not in excluded))
        match choose(facts, now, self.rules):
            case Unaffordable(message=message):
                raise InvalidRequestError("invalid_value", "max_cost", message)
            case Shed(message=message, retry_after_s=wait_s, starting=True):
                raise NotReadyError(message, wait_s)
            case Shed(message=message, retry_after_s=wait_s):
                raise OverloadedError(message, wait_s)
            case decision:
                return decision

    def _again(self, facts: RouteFacts, failed: Decision, error: GemmuleError) -> Decision:
        """Where a request goes whose first attempt ended before a token; raises `error` when there is nowhere."""
        if facts.tier is None:
            if error.fault.code is Code.OVERLOADED:
                raise error
            return failed
        others = set(self._config.tiers[facts.tier].sizes) & set(self._config.sizes) - {failed.size}
        try:
            if not others:
                raise error
            decision = self._decide(facts, without=(failed.size,))
        except GemmuleError:
            if error.fault.reason == REPLICA_LEAVING:  # nobody else can, but its successor will
                return failed
            raise
        detail = f"{failed.size} {error.fault.reason.replace('_', ' ')}; {decision.size} answers instead"
        return replace(decision, reason=Reason.FELL_BACK, detail=detail)
