"""An error inside the engine's loop, on a rank of a real replica."""

import asyncio

import pytest
from ray import serve

from cluster.replica import Replica
from model.errors import Code
from model.events import Failed, Finished
from tests.ray.test_replica import FOLDER, a_request, an_app, collect, drain, gone, pids_of

pytestmark = pytest.mark.ray

APP = "error"


class Fragile(Replica):
    """A replica that can be told to fail in its next forward pass."""

    async def explode(self) -> None:
        def kernel(*_: object) -> None:
            raise RuntimeError("a kernel broke")

        self._engine._parts.executor._runner.run = kernel


async def test_a_broken_loop_fails_its_requests_and_is_replaced(ray_cluster: None) -> None:
    replica = await asyncio.to_thread(serve.run, an_app(FOLDER, kind=Fragile), name=APP, route_prefix=None)
    pids = await pids_of(replica)
    streams = [
        replica.options(stream=True).generate.remote(a_request(f"e{i}", 400, i, temperature=1.5)) for i in range(4)
    ]
    for stream in streams:
        await anext(stream)  # Hello: it is in the replica
    await replica.explode.remote()
    async with asyncio.timeout(5):
        ends = await asyncio.gather(*(drain(stream) for stream in streams))
    assert all(isinstance(end, (Failed, Exception)) for end in ends)
    codes = {end.fault.code for end in ends if isinstance(end, Failed)}
    assert codes <= {Code.INTERNAL, Code.REPLICA_LOST}
    assert codes
    await gone(pids)
    async with asyncio.timeout(60):
        while True:
            end = (await collect(replica, a_request("after", 5)))[-1]
            if isinstance(end, Finished):
                break
    await asyncio.to_thread(serve.delete, APP)
