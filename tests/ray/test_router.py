"""The router against scripted replicas on a real Ray: retry, fall back, deadline, disconnect."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest
from ray import serve
from ray.serve.handle import DeploymentHandle

from cluster.config import ClusterConfig, Tier
from cluster.forecast import profile_of
from cluster.router import Router
from cluster.snapshot import Hello, Placed, Reason, ReplicaLoad, ReplicaStatus, RouteFacts
from cluster.trail import Trail
from model.config import Size
from model.errors import Code, Fault, GemmuleError
from model.events import Event, Failed, Finished, FinishReason, Logprob, PromptScored, TokenEvent, Usage
from model.request import GenerationRequest, RequestId, SamplingParams
from tests.unit.cluster.facts import some_offers

pytestmark = pytest.mark.ray

ANSWER, DIE_FIRST, DIE_LATER, HANG, FULL, LONG, SCORE = range(7)


class Scripted:
    """Stands in for a replica; the first prompt token says what it shall do."""

    def __init__(self, name: str, obeys: bool) -> None:
        self._name = name
        self._obeys = obeys  # False: answers well whatever it is told
        self._running = 0

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Hello | Event, None]:
        act = request.prompt_token_ids[0] if self._obeys else ANSWER
        self._running += 1
        try:
            yield Hello(self._name, "scripted")
            if act == DIE_FIRST:
                os._exit(70)
            if act == HANG:
                await asyncio.sleep(60)
            if act == FULL:
                yield Failed(request.request_id, Fault(Code.OVERLOADED, "full", "overloaded", None, 2.0))
                return
            if act == SCORE:
                yield PromptScored(request.request_id, (Logprob(1, -0.5),))
            for index in range(1000 if act == LONG else 3):
                yield TokenEvent(request.request_id, f"{index} ", (index,))
                if act == DIE_LATER:
                    await asyncio.sleep(0.2)  # the token shall be out of the door
                    os._exit(70)
                if act == LONG:
                    await asyncio.sleep(0.02)
            yield Finished(request.request_id, FinishReason.STOP, Usage(1, 3))
        finally:
            self._running -= 1

    async def load(self) -> ReplicaLoad:
        return ReplicaLoad(self._name, self._running, 0)

    async def status(self) -> ReplicaStatus:
        return ReplicaStatus(self._name, "scripted", self._running, 0, 100, 100, {}, None, ())


@pytest.fixture(scope="module")
async def router(ray_cluster: None) -> AsyncIterator[Router]:
    handles: dict[Size, DeploymentHandle] = {}
    for size in (Size.B2, Size.B9, Size.B27):
        deployment = serve.deployment(
            Scripted, name=f"scripted-{size}", num_replicas=1, ray_actor_options={"num_cpus": 0},
            max_ongoing_requests=100, health_check_period_s=1,
        )  # fmt: skip
        handles[size] = await asyncio.to_thread(
            serve.run, deployment.bind(f"{size}#0", size is Size.B2), name=f"app-{size}", route_prefix=None
        )
    names = dict.fromkeys(handles, ("scripted", True, 1))
    made = Router(ClusterConfig(), handles, names, profile_of(ClusterConfig()))
    await made.start()
    while not all(made.snapshot()[size].num_replicas for size in handles):
        await asyncio.sleep(0.1)
    yield made
    await made.close()
    for size in handles:
        await asyncio.to_thread(serve.delete, f"app-{size}")


async def ready(router: Router, size: Size) -> None:
    async with asyncio.timeout(30):
        while not router.snapshot()[size].num_replicas:
            await asyncio.sleep(0.1)


def facts(target: Size | Tier) -> RouteFacts:
    size = target if isinstance(target, Size) else None
    tier = target if isinstance(target, Tier) else None
    return RouteFacts(size, tier, some_offers(), 1, 10)


def a_request(act: int, timeout_s: float = 30.0) -> GenerationRequest:
    return GenerationRequest(RequestId(f"r{act}"), (act,), SamplingParams(max_tokens=10), timeout_s)


async def collect(router: Router, target: Size | Tier, act: int, timeout_s: float = 30.0) -> list[Placed | Event]:
    async with aclosing(router.route(facts(target), a_request(act, timeout_s), Trail())) as stream:
        return [item async for item in stream]


async def test_a_stream_begins_with_who_answers_and_ends_once(router: Router) -> None:
    first, *events = await collect(router, Size.B2, ANSWER)
    assert isinstance(first, Placed)
    assert (first.replica, first.decision.size, first.decision.reason) == ("2b#0", Size.B2, Reason.EXPLICIT)
    assert [type(event) for event in events] == [TokenEvent] * 3 + [Finished]


async def test_a_scored_prompt_does_not_end_a_stream(router: Router) -> None:
    _, *events = await collect(router, Size.B2, SCORE)
    assert [type(event) for event in events] == [PromptScored] + [TokenEvent] * 3 + [Finished]


async def test_a_full_replica_of_a_tier_falls_back_before_the_first_token(router: Router) -> None:
    first, *events = await collect(router, Tier.ECONOMY, FULL)
    assert isinstance(first, Placed)
    assert (first.decision.size, first.decision.reason) == (Size.B9, Reason.FELL_BACK)
    assert isinstance(events[-1], Finished)


async def test_a_full_explicit_size_is_refused_not_changed(router: Router) -> None:
    with pytest.raises(GemmuleError) as caught:
        await collect(router, Size.B2, FULL)
    assert caught.value.fault.code is Code.OVERLOADED


async def test_a_replica_lost_before_the_first_token_is_covered_by_a_neighbour(router: Router) -> None:
    first, *events = await collect(router, Tier.ECONOMY, DIE_FIRST)
    assert isinstance(first, Placed)
    assert (first.decision.size, first.decision.reason) == (Size.B9, Reason.FELL_BACK)
    assert isinstance(events[-1], Finished)
    await ready(router, Size.B2)


async def test_a_replica_lost_in_mid_stream_is_the_last_event(router: Router) -> None:
    await ready(router, Size.B2)
    first, *events = await collect(router, Tier.ECONOMY, DIE_LATER)
    assert isinstance(first, Placed)
    assert isinstance(events[0], TokenEvent)
    last = events[-1]
    assert isinstance(last, Failed)
    assert last.fault.code is Code.REPLICA_LOST
    await asyncio.sleep(1.5)  # the watch notices
    await ready(router, Size.B2)


async def test_an_engine_that_hangs_ends_at_the_deadline(router: Router) -> None:
    with pytest.raises(GemmuleError) as caught:
        await collect(router, Size.B2, HANG, timeout_s=0.2)
    assert caught.value.fault.code is Code.DEADLINE_EXCEEDED


async def test_a_consumer_that_leaves_ends_the_replica_side(router: Router) -> None:
    async with aclosing(router.route(facts(Size.B2), a_request(LONG), Trail())) as stream:
        assert isinstance(await anext(stream), Placed)
        await anext(stream)
    async with asyncio.timeout(5):
        while True:
            (size,) = [s for s in (await router.status()).sizes if s.size is Size.B2]
            if size.replicas and size.replicas[0].running == 0 and size.ongoing == 0:
                break
            await asyncio.sleep(0.1)


async def test_answers_teach_the_pace(router: Router) -> None:
    assert router.snapshot()[Size.B27].pace is None
    for _ in range(12):
        await collect(router, Size.B27, ANSWER)
    pace = router.snapshot()[Size.B27].pace
    assert pace is not None
    assert pace.p90 is not None
    assert 0 < pace.answer_s(1, 3) < 30


async def test_a_decision_is_what_a_request_gets(router: Router) -> None:
    for target in (Tier.PREMIUM, Tier.ECONOMY, Size.B9):
        decision = router.decide(facts(target))
        first, *_ = await collect(router, target, ANSWER)
        assert isinstance(first, Placed)
        assert (first.decision.size, first.decision.reason) == (decision.size, decision.reason)


async def test_a_waived_promise_reaches_the_decision(router: Router) -> None:
    assert router.decide(facts(Tier.BALANCED)).reason is not Reason.BROWNED_OUT
    for second in range(10):
        router.brown_out.see(second, 9.0)
    assert router.decide(facts(Tier.BALANCED)).reason is Reason.BROWNED_OUT


async def test_what_still_waits_when_too_little_time_is_left_is_told_at_once(router: Router) -> None:
    await ready(router, Size.B2)
    for _ in range(12):
        await collect(router, Size.B2, ANSWER)
    others = [asyncio.create_task(collect(router, Size.B2, HANG)) for _ in range(40)]
    await asyncio.sleep(0.2)
    with pytest.raises(GemmuleError) as caught:
        await collect(router, Size.B2, HANG, timeout_s=1.0)
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    assert caught.value.fault.code is Code.OVERLOADED
    assert "too little time is left" in caught.value.fault.message
