"""A replica of two ranks on a real Ray: it computes what one process computes, and lives and dies as one."""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import torch
from ray import serve
from ray.serve.handle import DeploymentHandle

from cluster.config import SizeConfig
from cluster.placement import bundles
from cluster.replica import Replica
from cluster.snapshot import Hello, ReplicaStatus
from model.config import EngineConfig
from model.engine import Engine
from model.errors import Code
from model.events import Event, Failed, Finished, TokenEvent
from model.request import GenerationRequest, RequestId, SamplingParams
from model.source import EMBEDDED_FOLDER

pytestmark = pytest.mark.ray

APP = "replica"
FOLDER = EMBEDDED_FOLDER / "nano-27b"
ENGINE = EngineConfig(max_running=16, max_waiting=16, kv_tokens=8192, max_step_tokens=128)
CONFIG = SizeConfig(
    source="embedded:nano-27b",
    tensor_parallel=2,
    engine=ENGINE,
    usd_per_mtoken=1.0,
)


def a_request(name: str, length: int, seed: int = 0, **sampling: object) -> GenerationRequest:
    rng = random.Random(seed)
    ids = (2, *(rng.randrange(364, 1400) for _ in range(length)))
    params = SamplingParams(**{"max_tokens": 16, "temperature": 0.0, **sampling})  # type: ignore[arg-type]
    return GenerationRequest(RequestId(name), ids, params, timeout_s=60.0)


def tokens(events: list[Event]) -> list[int]:
    return [token for event in events if isinstance(event, TokenEvent) for token in event.token_ids]


@pytest.fixture(scope="module")
async def replica(ray_cluster: None) -> AsyncIterator[DeploymentHandle]:
    yield await asyncio.to_thread(serve.run, an_app(FOLDER), name=APP, route_prefix=None)
    pids = await pids_of(serve.get_app_handle(APP))
    await asyncio.to_thread(serve.delete, APP)
    await gone(pids)


def an_app(folder: Path, attempts: int = 3, kind: type[Replica] = Replica) -> serve.Application:
    """Health checks come sooner than a start is over: they must not end it."""
    deployment = serve.deployment(
        kind,
        name="27b",
        ray_actor_options={"num_cpus": CONFIG.cpus_per_rank},
        placement_group_bundles=bundles(CONFIG),
        placement_group_strategy="STRICT_PACK",
        max_ongoing_requests=64,
        health_check_period_s=1.0,
        health_check_timeout_s=2.0,
        graceful_shutdown_timeout_s=1.0,
        max_constructor_retry_count=attempts,
    )
    return deployment.bind("27b", str(folder), CONFIG.replica().model_dump_json())


async def collect(replica: DeploymentHandle, request: GenerationRequest) -> list[Event]:
    stream = replica.options(stream=True).generate.remote(request)
    items = [item async for item in stream]
    assert isinstance(items[0], Hello)
    assert items[0].replica.startswith("27b#")
    return items[1:]


async def status_of(replica: DeploymentHandle) -> ReplicaStatus:
    status: ReplicaStatus = await replica.status.remote()
    return status


async def pids_of(replica: DeploymentHandle) -> list[int]:
    return [rank.pid for rank in (await status_of(replica)).ranks]


async def gone(pids: list[int], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while any(psutil.pid_exists(pid) for pid in pids):
            await asyncio.sleep(0.05)


async def test_two_processes_hold_half_of_each_linear(replica: DeploymentHandle) -> None:
    status = await status_of(replica)
    assert [rank.rank for rank in status.ranks] == [0, 1]
    assert len({rank.pid for rank in status.ranks}) == 2
    whole = Engine(FOLDER, ENGINE)
    whole.load_here()
    shapes = whole.ranks()[0].shard_shapes
    for rank in status.ranks:
        halves = {name: shape for name, shape in rank.shard_shapes.items() if shape != shapes[name]}
        assert {name.rsplit(".", 2)[-2] for name in halves} == {
            "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"
        }  # fmt: skip
        for name, (rows, columns) in halves.items():
            by_input = any(part in name for part in ("o_proj", "down_proj", "lm_head"))
            assert shapes[name] == ((rows, 2 * columns) if by_input else (2 * rows, columns))
        # The embedding is whole on every rank, and the tied head is a copy of its own.
        assert rank.weight_bytes < 0.6 * whole.ranks()[0].weight_bytes


async def test_no_shared_memory_outlives_the_ranks(replica: DeploymentHandle) -> None:
    """Nothing has a name that a killed rank could leave behind."""
    for pid in await pids_of(replica):
        mapped = {Path(area.path) for area in psutil.Process(pid).memory_maps() if "deepspeed_allreduce" in area.path}
        assert mapped  # the buffers are in use
        assert not any(path.exists() for path in mapped)


async def test_logits_and_greedy_tokens_are_those_of_one_process(replica: DeploymentHandle) -> None:
    asks = [a_request(f"r{seed}", length, seed) for seed, length in enumerate((3, 40, 300, 12, 150, 33))]
    one = Engine(FOLDER, ENGINE)
    await one.start()
    for ask in asks[1:3]:
        got = torch.tensor(await replica.logits.remote(ask.prompt_token_ids))
        expected = torch.tensor(await one.logits(ask.prompt_token_ids))
        assert (got - expected).abs().max() < 1e-4
    alone = [tokens([event async for event in one.submit(ask)]) for ask in asks]
    together = await asyncio.gather(*(collect(replica, ask) for ask in asks))
    assert [tokens(events) for events in together] == alone
    assert (await status_of(replica)).logit_difference < 1e-3  # type: ignore[operator]
    await one.close()


async def test_a_profile_of_a_busy_replica_has_its_steps_and_costs_no_answer(replica: DeploymentHandle) -> None:
    name, before = (await replica.load.remote()).replica, (await replica.stats.remote()).stats
    asks = [a_request(f"p{seed}", 40, seed, max_tokens=100, ignore_eos=True) for seed in range(4)]
    answering = asyncio.gather(*(collect(replica, ask) for ask in asks))
    profile, other = await asyncio.gather(
        replica.profile.remote(name, 1.0, True), replica.profile.remote("27b#other", 1.0, True)
    )
    assert other is None
    assert all(isinstance(events[-1], Finished) for events in await answering)
    assert any(step.sequences == 4 for step in profile.steps)
    assert any(line.startswith("engine;") and "Stepper.step (model/stepper.py)" in line for line in profile.stacks)
    after = (await replica.stats.remote()).stats
    assert after.output_tokens - before.output_tokens == 400
    assert after.steps > before.steps
    assert after.part_s["forward"] > before.part_s["forward"]
    assert after.free_blocks + after.cached_blocks == after.total_blocks


async def test_hot_requests_end_well_on_two_ranks(replica: DeploymentHandle) -> None:
    asks = [a_request(f"h{seed}", 20, 1, temperature=1.5, max_tokens=60) for seed in range(8)]
    answers = await asyncio.gather(*(collect(replica, ask) for ask in asks))
    assert all(isinstance(events[-1], Finished) for events in answers)
    assert len({tuple(tokens(events)) for events in answers}) > 1


async def test_a_request_after_idling_is_not_held_up_by_a_sleeping_rank(replica: DeploymentHandle) -> None:
    waits_s = []
    for index in range(5):
        await asyncio.sleep(0.25)
        began_s = time.monotonic()
        await collect(replica, a_request(f"idle{index}", 5, max_tokens=1))
        waits_s.append(time.monotonic() - began_s)
    assert min(waits_s) < 0.08  # the loop's nap is 0.1 s


async def test_a_consumer_that_leaves_frees_the_blocks(replica: DeploymentHandle) -> None:
    before = (await status_of(replica)).free_kv_tokens
    streams = [
        replica.options(stream=True).generate.remote(a_request(f"l{i}", 400, i, temperature=1.5, max_tokens=4000))
        for i in range(8)
    ]
    for stream in streams:
        await anext(stream)
    await anext(streams[0])  # its first token: the others run or wait
    assert (await status_of(replica)).free_kv_tokens < before
    for stream in streams:
        stream.cancel()
    async with asyncio.timeout(10):
        while (now := await status_of(replica)).running or now.waiting or now.free_kv_tokens != before:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("victim", [1, 0])
async def test_one_dies_all_die_and_a_new_replica_comes(replica: DeploymentHandle, victim: int) -> None:
    pids = await pids_of(replica)
    streams = [
        replica.options(stream=True).generate.remote(a_request(f"v{i}", 400, i, temperature=1.5, max_tokens=4000))
        for i in range(16)
    ]
    for stream in streams:
        await anext(stream)  # Hello: it is in the replica
    os.kill(pids[victim], signal.SIGKILL)
    killed_s = time.monotonic()
    ends = await asyncio.gather(*(drain(stream) for stream in streams))
    assert time.monotonic() - killed_s < 5
    # The process ended first, or its engine noticed and said so: both are a lost replica to the router.
    assert all(isinstance(end, Exception) or _lost(end) for end in ends)
    await gone(pids)
    async with asyncio.timeout(60):
        assert isinstance((await collect(replica, a_request("after", 5)))[-1], Finished)
    assert not set(pids) & set(await pids_of(replica))


def _lost(end: object) -> bool:
    return isinstance(end, Failed) and end.fault.code is Code.REPLICA_LOST


async def drain(stream: object) -> object:
    """The last item of a stream, or what ended it."""
    last: object = None
    try:
        async for item in stream:  # type: ignore[attr-defined]
            last = item
    except Exception as error:
        return error
    return last
