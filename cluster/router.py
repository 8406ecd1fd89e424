"""Opens the stream of a request on the size that the policy chooses; lives in every ingress process.

Size and tier are decided here, since a Serve request router sees one deployment only; which replica of the size answers
is Serve's choice.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from cluster.brownout import BrownOut
from cluster.cascade import answered
from cluster.config import ClusterConfig, Tier
from cluster.forecast import Forecast
from cluster.lookout import Lookout
from cluster.pacing import Pacing
from cluster.policy import choose
from cluster.promise_watch import Kept, PromiseWatch
from cluster.routing.choice import Offer
from cluster.routing.features import Text
from cluster.routing.profile import Profile as RoutingProfile
from cluster.rules import rules_of
from cluster.shadow import Shadow
from cluster.snapshot import (
    ClusterStatus,
    Decision,
    Hello,
    Placed,
    Reason,
    ReplicaStats,
    ReplicaStatus,
    RouteFacts,
    Shed,
    SizeState,
    SizeStatus,
    Snapshot,
    Unaffordable,
)
from cluster.trail import Role, Trail, Work, price
from model.config import CONTEXT_TOKENS, Size
from model.errors import (
    Code,
    DeadlineExceededError,
    Fault,
    GemmuleError,
    InvalidRequestError,
    NotReadyError,
    OverloadedError,
    ReplicaLostError,
)
from model.events import Event, Failed, Finished, TokenEvent, Usage
from model.profile import Profile
from model.request import GenerationRequest

log = logging.getLogger("gemmule.router")

_TICK_S: Final = 0.5
_GRACE_S: Final = 2.0  # the engine ends a late request itself; this is for an engine that cannot
_RETRYABLE: Final = frozenset({Code.REPLICA_LOST, Code.NOT_READY, Code.OVERLOADED})


class _Working:
    """What one size has done so far."""

    def __init__(self, prompt_tokens: int) -> None:
        self.usage = Usage(prompt_tokens, 0)
        self.finished = False

    def see(self, item: Event) -> None:
        """The next event."""
        match item:
            case TokenEvent(token_ids=ids):
                self.usage = replace(self.usage, output_tokens=self.usage.output_tokens + len(ids))
            case Finished(usage=usage):
                self.usage, self.finished = usage, True
            case _:
                pass


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
    ) -> None:
        """`names` gives checkpoint, stand-in flag and parameters of each size, known before a replica is up."""
        self._config = config
        self._forecast = Forecast(profile, {size: sized.usd_per_mtoken for size, sized in config.sizes.items()})
        self.shadow_usd = 0.0
        self._watch = PromiseWatch({tier: each.quality_share for tier, each in config.tiers.items()})
        self.rules = rules_of(config, profile, self._forecast, self._watch)
        self.brown_out = BrownOut(config.tiers, config.routing.brown_out)
        self._ticking: asyncio.Task[None] | None = None
        largest = max(config.sizes, key=lambda size: config.sizes[size].usd_per_mtoken)
        self._shadow = Shadow(config.routing.shadow, self._watch, largest, lambda asked: self._shadowed(largest, asked))
        self._handles = handles
        self._names = names
        self._ongoing: Counter[Size] = Counter()
        self._lookout = Lookout(handles)
        self._pacing = Pacing()

    async def start(self) -> None:
        """Begin to watch the sizes; needs a running event loop."""
        await self._lookout.start()
        self._ticking = asyncio.create_task(self._tick(), name="brown-out")

    async def close(self) -> None:
        """Stop watching."""
        if self._ticking is not None:
            self._ticking.cancel()
        await self._shadow.close()
        await self._lookout.close()

    def promises(self) -> Mapping[Tier, Kept]:
        """What is seen to be kept of each tier's promise; empty intervals where nothing is watched."""
        return self._watch.kept()

    def offers(self, text: Text, max_tokens: int) -> tuple[Offer, ...]:
        """What every size is expected to make of a request, cheapest first; no waiting."""
        return self._forecast.offers(text, max_tokens)

    def snapshot(self) -> Snapshot:
        """All served sizes, cheapest first."""
        states = [self._state(size) for size in self._config.sizes]
        return Snapshot(tuple(sorted(states, key=lambda state: state.usd_per_mtoken)), self.brown_out.waived)

    def overview(self) -> ClusterStatus:
        """Sizes as last seen (at most a second old), without their replicas; no waiting."""
        return ClusterStatus(tuple(self._size_status(size, ()) for size in self._config.sizes))

    async def status(self) -> ClusterStatus:
        """Sizes, replicas and ranks; asks every replica."""
        sizes = tuple(self._config.sizes)
        replicas = await asyncio.gather(*(self._lookout.statuses(size) for size in sizes))
        return ClusterStatus(tuple(map(self._size_status, sizes, replicas)))

    async def stats(self) -> tuple[ReplicaStats, ...]:
        """Every replica in numbers; asks each, and leaves out who does not answer."""
        found = await asyncio.gather(*(self._lookout.stats(size) for size in self._config.sizes))
        return tuple(each for size in found for each in size)

    def replicas(self) -> Mapping[Size, tuple[str, ...]]:
        """Names of the replicas of every size as last seen."""
        return {size: tuple(load.replica for load in self._lookout.loads(size)) for size in self._config.sizes}

    async def profile(self, size: Size, replica: str, seconds: float, stacks: bool) -> Profile:
        """That replica's next seconds; raises a `GemmuleError` when it is busy with another profile, or gone."""
        return await self._lookout.profile(size, replica, seconds, stacks)

    async def route(
        self, facts: RouteFacts, request: GenerationRequest, trail: Trail
    ) -> AsyncGenerator[Placed | Event, None]:
        """`Placed`, then the events of one request; the trail learns of every size that worked on it.

        Raises a `GemmuleError` as long as nothing was sent: shed, no replica, lost before the first token. After that
        a loss is the last event. Before the first token a lost or full replica is tried once more: an explicit size on
        the same size, a tier where the policy says, without the size that failed.
        """
        decision = self.decide(facts)
        deadline_s = asyncio.get_running_loop().time() + request.timeout_s + _GRACE_S
        request = replace(request, priority=self.rules.priority(facts.tier, request.priority))

        def open_(to: Decision, asked: GenerationRequest) -> AsyncGenerator[Placed | Event, None]:
            return self._open(to, asked, deadline_s, trail)

        for attempt in range(2):
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
                if started or attempt or error.fault.code not in _RETRYABLE:
                    raise
                decision = self._again(facts, decision, error)
                log.info("retried", extra={"request_id": request.request_id, "size": decision.size})

    def decide(self, facts: RouteFacts) -> Decision:
        """What a request would get now; raises the `GemmuleError` that it would be refused with."""
        return self._decide(facts, without=())

    async def _shadowed(self, largest: Size, request: GenerationRequest) -> AsyncGenerator[Placed | Event, None]:
        """On the largest size, for nobody; its price is in no request's account."""
        decision, trail = Decision(largest, None, Reason.EXPLICIT, "an answer is looked at", ()), Trail()
        deadline_s = asyncio.get_running_loop().time() + request.timeout_s
        try:
            async with aclosing(self._open(decision, request, deadline_s, trail)) as stream:
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
        now = Snapshot(tuple(state for state in self.snapshot().sizes if state.size not in excluded))
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
        if not others:
            raise error
        decision = self._decide(facts, without=(failed.size,))
        detail = f"{failed.size} {error.fault.reason.replace('_', ' ')}; {decision.size} answers instead"
        return replace(decision, reason=Reason.FELL_BACK, detail=detail)

    async def _open(
        self, decision: Decision, request: GenerationRequest, deadline_s: float, trail: Trail
    ) -> AsyncGenerator[Placed | Event, None]:
        """One attempt on one size. `Placed` is held back until the first event, so that a retry stays possible."""
        size = decision.size
        work = _Working(len(request.prompt_token_ids))
        clock = asyncio.get_running_loop().time
        length = min(decision.offer(size).output_tokens, request.sampling.max_tokens)
        run = self._pacing.begin(self._state(size), len(request.prompt_token_ids), length, clock())
        self._ongoing[size] += 1
        stream: Any = None
        hello: Hello | None = None
        placed = False
        try:
            stream = self._handles[size].options(stream=True).generate.remote(request)
            while True:
                try:
                    async with asyncio.timeout_at(deadline_s):
                        item = await anext(stream)
                except StopAsyncIteration:
                    raise ReplicaLostError(f"{size}: the replica's stream ended without a last event") from None
                if isinstance(item, Hello):
                    hello = item
                    continue
                work.see(item)
                run.seen(clock())
                if not placed:
                    if isinstance(item, Failed):
                        raise GemmuleError(item.fault)
                    yield Placed(decision, hello.replica if hello else str(size), hello.checkpoint if hello else "")
                    placed = True
                yield item
                if isinstance(item, Finished | Failed):  # the last
                    return
        except TimeoutError:
            error: GemmuleError = DeadlineExceededError("the deadline passed and the replica did not answer")
            for event in self._end(error, request, placed):
                yield event
        except (RayActorError, DeploymentUnavailableError) as cause:
            lost = ReplicaLostError(f"a replica of {size} was lost")
            log.warning(
                "replica lost", extra={"request_id": request.request_id, "size": size, "cause": repr(cause)[:200]}
            )
            for event in self._end(lost, request, placed):
                yield event
        except BackPressureError:
            for event in self._end(OverloadedError(f"{size} is full", 2.0), request, placed):
                yield event
        except (RayError, RayServeException) as cause:
            log.exception("replica failed", extra={"request_id": request.request_id, "size": size})
            fault = Fault(Code.INTERNAL, "the replica failed on this request", "internal_error")
            for event in self._end(GemmuleError(fault), request, placed, cause):
                yield event
        finally:
            if work.finished:
                self._pacing.end(run, work.usage)
            if placed:
                role = Role.ANSWER if work.finished else Role.LOST
                usd = price(work.usage, self._config.sizes[size].usd_per_mtoken)
                trail.works.append(Work(size, hello.replica if hello else str(size), role, work.usage, usd))
            self._ongoing[size] -= 1
            if stream is not None:
                stream.cancel()  # a stream left half-read goes on to its last token otherwise

    @staticmethod
    def _end(
        error: GemmuleError, request: GenerationRequest, placed: bool, cause: BaseException | None = None
    ) -> tuple[Failed, ...]:
        """An error as exception while nothing was sent, as the last event after that."""
        if not placed:
            raise error from cause
        return (Failed(request.request_id, error.fault),)

    def _state(self, size: Size) -> SizeState:
        config = self._config.sizes[size]
        replicas = self._lookout.loads(size)
        polled = sum(replica.running + replica.waiting for replica in replicas)
        ongoing, slots = max(self._ongoing[size], polled), config.engine.max_running * len(replicas)
        return SizeState(
            size=size,
            num_replicas=len(replicas),
            ongoing=ongoing,
            slots=slots,
            max_context_tokens=CONTEXT_TOKENS,
            usd_per_mtoken=config.usd_per_mtoken,
            wakes=config.replicas.min_replicas == 0,
            pace=self._pacing.pace(size, ongoing, slots),
        )

    def _size_status(self, size: Size, replicas: tuple[ReplicaStatus, ...]) -> SizeStatus:
        config = self._config.sizes[size]
        checkpoint, stand_in, parameters = self._names[size]
        state = self._state(size)
        return SizeStatus(
            size=size,
            checkpoint=checkpoint,
            stand_in=stand_in,
            parameters=parameters,
            tensor_parallel=config.tensor_parallel,
            usd_per_mtoken=config.usd_per_mtoken,
            ready=state.num_replicas > 0,
            ongoing=state.ongoing,
            replicas=replicas,
        )
