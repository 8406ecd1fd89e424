"""Both faces on real sockets of the loopback, over one service and a scripted router."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import httpx
import uvicorn
from grpc_health.v1 import health_pb2_grpc

from cluster.config import ClusterConfig
from model.prompt import Prompter
from model.request import RequestId
from serving.rest.answer import Limits
from serving.rest.app import PredictionRoutes, build_app
from serving.rpc.gen.gemmule.v1 import gemmule_pb2 as pb
from serving.rpc.gen.gemmule.v1 import gemmule_pb2_grpc as pb_grpc
from serving.rpc.health import HealthFace
from serving.rpc.servicer import GemmuleFace
from serving.service import Service
from tests.fakes.router import Script, ScriptedRouter

TOKENIZER = Path(__file__).parents[2] / "model/family/checkpoints/nano-2b/tokenizer.json"
MAX_BYTES = 4 * 2**20
ROUTES = PredictionRoutes("/predict", "/health")
CHAT = {"model": "2b", "messages": [{"role": "user", "content": "hi"}]}


class _Servicer(pb_grpc.GemmuleServiceServicer, health_pb2_grpc.HealthServicer):
    """Calls the faces as Serve's gRPC front does: by name, with `grpc_context`."""

    def __init__(self, service: Service) -> None:
        self._gemmule = GemmuleFace(service, MAX_BYTES)
        self._health = HealthFace(service)

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for response in self._gemmule.Generate(request, grpc_context=context):
            yield response

    async def Quote(self, request: Any, context: Any) -> Any:
        return await self._gemmule.Quote(request, grpc_context=context)

    async def ListModels(self, request: Any, context: Any) -> Any:
        return await self._gemmule.ListModels(request, grpc_context=context)

    async def Check(self, request: Any, context: Any) -> Any:
        return await self._health.Check(request, grpc_context=context)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for response in self._health.Watch(request, grpc_context=context):
            yield response

    async def List(self, request: Any, context: Any) -> Any:
        return await self._health.List(request, grpc_context=context)


@dataclass(slots=True)
class Faces:
    """Clients of both, and the router behind them."""

    http: httpx.AsyncClient
    url: str
    port: int
    rpc_address: str
    grpc: pb_grpc.GemmuleServiceStub
    health: health_pb2_grpc.HealthStub
    router: ScriptedRouter
    service: Service

    def script(self, script: Script | None = None) -> None:
        """What the next requests get; counters begin anew."""
        self.router.script = script or Script()
        self.router.num_replicas = {}
        self.router.rules = None
        self.router.now = None
        for log in (self.router.submitted, self.router.facts, self.router.closed):
            log.clear()

    async def settle(self, closed: int) -> None:
        """Wait until so many requests were closed early."""
        async with asyncio.timeout(5):
            while len(self.router.closed) < closed:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def running(limits: Limits | None = None, router: ScriptedRouter | None = None) -> AsyncIterator[Faces]:
    """Both servers, up; down again afterwards."""
    router, numbers = router or ScriptedRouter(), count(1)
    service = Service(ClusterConfig(), Prompter(TOKENIZER), router, time, lambda: RequestId(f"req-{next(numbers)}"))
    config = uvicorn.Config(build_app(lambda: service, limits, ROUTES), port=0, log_level="warning")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    rpc = grpc.aio.server(options=[("grpc.max_receive_message_length", 2 * MAX_BYTES)])
    servicer = _Servicer(service)
    pb_grpc.add_GemmuleServiceServicer_to_server(servicer, rpc)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, rpc)
    rpc_port = rpc.add_insecure_port("127.0.0.1:0")
    await rpc.start()
    url = f"http://127.0.0.1:{port}"
    async with (
        httpx.AsyncClient(base_url=url, trust_env=False) as http,
        grpc.aio.insecure_channel(f"127.0.0.1:{rpc_port}") as channel,
    ):
        stubs = pb_grpc.GemmuleServiceStub(channel), health_pb2_grpc.HealthStub(channel)
        yield Faces(http, url, port, f"127.0.0.1:{rpc_port}", *stubs, router, service)
    await rpc.stop(None)
    server.should_exit = True
    await serving


def a_message(**fields: object) -> pb.GenerateRequest:
    """A chat that is fine, with some fields set otherwise."""
    request = pb.GenerateRequest(
        model="2b", chat=pb.Chat(messages=[pb.Message(role=pb.ROLE_USER, content="hi")]), sampling=pb.Sampling()
    )
    request.MergeFrom(pb.GenerateRequest(**fields))
    return request
