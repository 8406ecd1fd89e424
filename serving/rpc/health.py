"""`grpc.health.v1.Health`: the whole service, and every size by itself (`gemmule.v1/27b`)."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import grpc
from grpc_health.v1 import health_pb2 as pb

from model.errors import ModelNotFoundError
from serving.rpc.servicer import Context
from serving.service import Service

SERVICE: Final = "gemmule.v1.GemmuleService"
SIZE_PREFIX: Final = "gemmule.v1/"
_POLL_S: Final = 0.5


class HealthFace:
    """Readiness, as load balancers ask for it. Method names are the calls' names, as Serve finds them."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def Check(self, request: pb.HealthCheckRequest, grpc_context: Context) -> pb.HealthCheckResponse:
        """NOT_FOUND for a name that nobody knows."""
        status = self._look(request.service)
        if status == pb.HealthCheckResponse.SERVICE_UNKNOWN:
            grpc_context.set_code(grpc.StatusCode.NOT_FOUND)
            grpc_context.set_details(f"no such service; ask for '', {SERVICE} or {SIZE_PREFIX}SIZE")
        return pb.HealthCheckResponse(status=status)

    async def Watch(
        self, request: pb.HealthCheckRequest, grpc_context: Context
    ) -> AsyncGenerator[pb.HealthCheckResponse, None]:
        """The state now, and every change, until the client leaves."""
        del grpc_context
        last: int | None = None
        while True:
            status = self._look(request.service)
            if status != last:
                last = status
                yield pb.HealthCheckResponse(status=status)
            await asyncio.sleep(_POLL_S)

    async def List(self, request: pb.HealthListRequest, grpc_context: Context) -> pb.HealthListResponse:
        """All of them."""
        del request, grpc_context
        _, sizes = self._service.ready()
        names = ["", SERVICE, *(SIZE_PREFIX + size for size in sizes)]
        return pb.HealthListResponse(statuses={name: pb.HealthCheckResponse(status=self._look(name)) for name in names})

    def _look(self, name: str) -> pb.HealthCheckResponse.ServingStatus:
        size = name.removeprefix(SIZE_PREFIX) if name.startswith(SIZE_PREFIX) else None
        if size is None and name not in ("", SERVICE):
            return pb.HealthCheckResponse.SERVICE_UNKNOWN
        try:
            ready, _ = self._service.ready(size)
        except ModelNotFoundError:
            return pb.HealthCheckResponse.SERVICE_UNKNOWN
        return pb.HealthCheckResponse.SERVING if ready else pb.HealthCheckResponse.NOT_SERVING
