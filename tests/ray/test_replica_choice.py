"""The choice between replicas in Serve's own router: real engines for the cache, scripted ones for the rest."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

import pytest
from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle

from cluster.build import engine_of, request_router
from cluster.config import EMBEDDED_SIZES, AutoscaleConfig, ClusterConfig, RoutingConfig
from cluster.snapshot import Hello
from model.config import EngineConfig, Size
from model.events import Event, Finished, FinishReason, Usage
from model.request import GenerationRequest, RequestId, SamplingParams

pytestmark = pytest.mark.ray

PREFIX = tuple(range(400, 1000))
ROUTER = "cluster.replica_router:ReplicaRouter"


def a_request(name: str, *ids: int, session: str = "") -> GenerationRequest:
    return GenerationRequest(RequestId(name), (2, *ids), SamplingParams(4, 0.0, ignore_eos=True), 60.0, session=session)


async def ask(handle: DeploymentHandle, request: GenerationRequest) -> tuple[str, int]:
    """Who answered, and how much of the prompt it had."""
    async with asyncio.timeout(60):
        items = [item async for item in handle.options(stream=True).generate.remote(request)]
    first, last = items[0], items[-1]
    assert isinstance(first, Hello)
    assert isinstance(last, Finished)
    return first.replica, last.usage.cached_tokens


@pytest.fixture(scope="module")
async def engines(ray_cluster: None) -> AsyncIterator[DeploymentHandle]:
    bounds = AutoscaleConfig(min_replicas=2, max_replicas=2)
    engine = EngineConfig(kv_tokens=4096, max_running=8)
    size = EMBEDDED_SIZES[Size.B2].model_copy(update={"engine": engine, "replicas": bounds})
    config = ClusterConfig(sizes={Size.B2: size})
    app = engine_of(Size.B2, size, config)
    yield await asyncio.to_thread(serve.run, app, name="engines", route_prefix=None)
    await asyncio.to_thread(serve.delete, "engines")


class Scripted:
    """Takes its time and says its name."""

    def __init__(self) -> None:
        self._name = serve.get_replica_context().replica_id.unique_id

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Hello | Event, None]:
        yield Hello(self._name, "scripted")
        await asyncio.sleep(0.5)
        yield Finished(request.request_id, FinishReason.STOP, Usage(1, 1))


@pytest.fixture
def scripted(ray_cluster: None, request: Any) -> Iterator[DeploymentHandle]:
    deployment = serve.deployment(
        Scripted, num_replicas=2, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0},
        request_router_config=request.param,
    )  # fmt: skip
    serve.run(deployment.bind(), name="scripted", route_prefix=None)
    yield DeploymentHandle("Scripted", "scripted")  # Serve's own would be that of the test before, router and all
    serve.delete("scripted")


async def test_a_prompt_goes_where_its_prefix_is_cached(engines: DeploymentHandle) -> None:
    holder, cached = await ask(engines, a_request("first", *PREFIX, 1001))
    assert cached == 0
    for number in range(3):
        again, cached = await ask(engines, a_request(f"again{number}", *PREFIX, 1002 + number))
        assert again == holder
        assert cached >= 592


async def test_another_router_learns_from_the_replica_where_a_prefix_is(engines: DeploymentHandle) -> None:
    prefix = PREFIX[::-1]
    holder, _ = await ask(engines, a_request("first", *prefix))
    await asyncio.sleep(3.0)  # a report is at most 1.4 s old when the machine is idle
    stranger = DeploymentHandle("2b", "engines")  # Serve keeps the handles that it gives out, and with them the router
    for number in range(4):
        assert await ask(stranger, a_request(f"later{number}", *prefix, 1001 + number)) == (holder, 592)


@pytest.mark.parametrize("scripted", [request_router(RoutingConfig(), slots=32)], indirect=True)
async def test_a_burst_of_equal_requests_does_not_herd(scripted: DeploymentHandle) -> None:
    await ask(scripted, a_request("first", *PREFIX[:100]))  # Serve knows the queues after it
    answers = await asyncio.gather(*(ask(scripted, a_request(f"b{n}", *PREFIX[:100])) for n in range(8)))
    used = Counter(replica for replica, _ in answers)
    assert min(used.values()) >= 2
    assert len(used) == 2


FALLBACK = "no choice by prefix; the shortest queue is taken"
BROKEN = RequestRouterConfig(request_router_class=ROUTER, request_router_kwargs={"slots": "many", "queue_tokens": 1})


@pytest.mark.parametrize("scripted", [BROKEN], indirect=True)
async def test_a_choice_that_fails_falls_back_to_the_shortest_queue(
    scripted: DeploymentHandle, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2):
        replica, _ = await ask(scripted, a_request(f"b{number}", *PREFIX))
        assert replica
    assert [record.message for record in caplog.records if record.name == "gemmule.replica_router"] == [FALLBACK] * 2
