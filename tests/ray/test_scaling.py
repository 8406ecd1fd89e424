"""Scaling on a real Ray: a tier is answered while its size sleeps, who asks by name waits, who goes drains."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from ray import serve
from ray.serve.handle import DeploymentHandle

from cluster.build import APP_NAME, router_of
from cluster.local import deploy
from cluster.router import Router
from cluster.scaling.board import Board
from cluster.scaling.reporter import Reporter
from cluster.scaling.verdict import SizeVerdict, Verdict
from cluster.snapshot import Placed, Reason, RouteFacts
from cluster.trail import Trail
from model.config import Size
from model.errors import Code, GemmuleError
from model.events import Finished, TokenEvent
from model.request import GenerationRequest, RequestId, SamplingParams
from serving.config import Settings, from_tree
from serving.ingress import serve_config_of
from tests.unit.cluster.facts import some_offers

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

STREAMS = 200
LONG = 300  # tokens of a stream


def settings_of(small: tuple[int, int], middle: tuple[int, int], budget: float) -> Settings:
    """Replicas of 2b and 9b, at least and at most."""

    def size(name: str, usd: float, bounds: tuple[int, int]) -> dict[str, Any]:
        pace = {"upscale_delay_s": 0, "downscale_delay_s": 2}
        return {
            "source": f"embedded:{name}", "usd_per_mtoken": usd, "cpus_per_rank": 0.01, "engine": {"max_running": 128},
            "replicas": {"min_replicas": bounds[0], "max_replicas": bounds[1], **pace},
        }  # fmt: skip

    scaling = {"budget_devices": budget, "window_s": 5, "sleep_after_s": 10, "wake_timeout_s": 120}
    sizes = {"2b": size("nano-2b", 0.10, small), "9b": size("nano-9b", 0.35, middle)}
    return from_tree({"cluster": {"sizes": sizes, "scaling": scaling, "tiers": {"premium": {"quality_share": 1.0}}}})


@pytest.fixture(scope="module", autouse=True)
def application(ray_cluster: None) -> Iterator[None]:
    yield
    serve.delete(APP_NAME)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Router]:
    """A router of this process over the application with these settings; 2b is up."""
    deploy(serve_config_of(settings))
    async with asyncio.timeout(240):
        while serve.status().applications[APP_NAME].status != "RUNNING":
            await asyncio.sleep(0.2)
        handles = {size: DeploymentHandle(str(size), APP_NAME) for size in settings.cluster.sizes}
        made = await asyncio.to_thread(router_of, settings.cluster, handles, reporter=Reporter(Board(APP_NAME)))
        await made.start()
        while not made.snapshot()[Size.B2].num_replicas:
            await asyncio.sleep(0.1)
    try:
        yield made
    finally:
        await made.close()


async def until(router: Router, size: Size, holds: Callable[[SizeVerdict], bool]) -> None:
    """The policy says so of a size."""
    async with asyncio.timeout(240):
        while (of := router.overview().scaling.get(size)) is None or not holds(of):
            await asyncio.sleep(0.1)


async def ask(router: Router, target: Size | None, number: int = 0, tokens: int = 4) -> tuple[Placed, int, bool]:
    """Who answered, tokens that came, and whether the last event was there; without a size the tier `premium`."""
    params = SamplingParams(tokens, 0.0, ignore_eos=True)
    request = GenerationRequest(RequestId(f"s{number}"), (2, 400 + number % 900), params, 300.0)
    tier = None if target else next(iter(router.rules.tiers))
    facts = RouteFacts(target, tier, some_offers()[:2], 2, tokens)
    placed: Placed | None = None
    count, whole = 0, False
    async with aclosing(router.route(facts, request, Trail())) as items:
        async for item in items:
            match item:
                case Placed():
                    placed = item
                case TokenEvent(token_ids=ids):
                    count += len(ids)
                case Finished():
                    whole = True
    assert placed is not None
    return placed, count, whole


async def test_a_sleeping_size_is_covered_woken_waited_for_and_refused_without_room() -> None:
    async with running(settings_of((1, 1), (0, 1), 2)) as router:
        await until(router, Size.B9, lambda of: of.target == 0)
        placed, _, whole = await ask(router, None)
        assert (placed.decision.size, placed.decision.reason, whole) == (Size.B2, Reason.FELL_BACK, True)
        await until(router, Size.B9, lambda of: of.running == 1)  # for having been wanted
        await until(router, Size.B9, lambda of: of.target == 0 and not of.running + of.draining)  # nobody asks any more
        placed, _, whole = await ask(router, Size.B9)
        assert (placed.decision.size, whole) == (Size.B9, True)
        verdict = router.overview().scaling.get(Size.B9)
        assert verdict is not None
        assert "requests/s" in verdict.reason
    async with running(settings_of((1, 1), (0, 1), 1)) as router:
        await until(router, Size.B9, lambda of: of.target == 0 and not of.running + of.draining)
        with pytest.raises(GemmuleError) as caught:
            await ask(router, Size.B9)
        assert caught.value.fault.code is Code.OVERLOADED
        assert "budget" in caught.value.fault.message


async def test_scaling_in_loses_none_of_200_streams() -> None:
    async with running(settings_of((3, 3), (0, 1), 3)) as router:
        await until(router, Size.B2, lambda of: of.running == 3)
        while router.snapshot()[Size.B2].num_replicas < 3:
            await asyncio.sleep(0.1)
        streams = [asyncio.create_task(ask(router, Size.B2, number, LONG)) for number in range(STREAMS)]
        deploy(serve_config_of(settings_of((1, 3), (0, 1), 3)))
        await until(router, Size.B2, lambda of: of.target == 1 and of.draining > 0)
        under_way = sum(not stream.done() for stream in streams)
        seen: list[Verdict] = [router.overview().scaling]
        answers = await asyncio.gather(*streams)
        assert Counter((tokens, whole) for _, tokens, whole in answers) == {(LONG, True): STREAMS}
        assert len({placed.replica for placed, _, _ in answers}) == 3
        assert under_way > STREAMS / 2
        assert seen[0].used_devices == 3  # who drains still holds its device
        await until(router, Size.B2, lambda of: (of.running, of.draining) == (1, 0))
