"""The gRPC methods, in the form that Ray Serve's gRPC front calls: message and `grpc_context` in, messages out.

Errors are never raised. The front hands a context's code, details and trailing metadata to the client only together
with a message; of an exception it keeps code and text, not the metadata, and logs a traceback for each bad request. So
a failing call sets its status and then sends one last message, which REST's clients know as the error event.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

import grpc

from model.errors import Fault, GemmuleError
from serving.ask import Ask
from serving.edge import fault_of, too_large, unhurried
from serving.parts import Ended, Started
from serving.rpc.codec import (
    DETAILS_KEY,
    Metadata,
    ask_of,
    details_of,
    failure_of,
    model_of,
    quote_response,
    response_of,
    trailing,
)
from serving.rpc.gen.gemmule.v1 import gemmule_pb2 as pb
from serving.service import Service
from serving.status import public, status_of


class Context(Protocol):
    """What is used of a gRPC context; grpc.aio's and Ray Serve's both have it."""

    def set_code(self, code: grpc.StatusCode) -> None:
        """Status of the call."""

    def set_details(self, details: str) -> None:
        """Text of the status."""

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Metadata sent with the status."""


class GemmuleFace:
    """`gemmule.v1.GemmuleService`. Method names are the calls' names, as Serve finds them."""

    def __init__(self, service: Service, max_message_bytes: int) -> None:
        self._service = service
        self._max_message_bytes = max_message_bytes

    async def Generate(
        self, request: pb.GenerateRequest, grpc_context: Context
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        """`started`, `chunk`s, `finished`; or a `failure` and the status that belongs to it."""
        request_id = self._service.new_request_id()
        started: Started | None = None
        grpc_context.set_trailing_metadata(trailing(request_id))
        try:
            ask = await self._ask(request)
            async with aclosing(self._service.generate(ask, request_id)) as parts:
                async for part in parts:
                    if isinstance(part, Started):
                        started = part
                        grpc_context.set_trailing_metadata(trailing(request_id, started))
                    elif isinstance(part, Ended):
                        grpc_context.set_trailing_metadata(trailing(request_id, started, part.usage))
                    yield response_of(part)
        except Exception as error:  # the outermost frame of a call: nothing unknown may reach the client
            fault = fault_of(error, request_id)
            set_status(grpc_context, fault, request_id, trailing(request_id, started))
            yield failure_of(fault, request_id)

    async def Quote(self, request: pb.GenerateRequest, grpc_context: Context) -> pb.QuoteResponse:
        """Price, time and quality on every size, and which would answer; runs nothing."""
        request_id = self._service.new_request_id()
        grpc_context.set_trailing_metadata(trailing(request_id))
        try:
            return quote_response(await self._service.quote(await self._ask(request)))
        except Exception as error:  # as above
            set_status(grpc_context, fault_of(error, request_id), request_id, trailing(request_id))
            return pb.QuoteResponse()

    async def ListModels(self, request: pb.ListModelsRequest, grpc_context: Context) -> pb.ListModelsResponse:
        """Sizes and tiers."""
        del request
        request_id = self._service.new_request_id()
        grpc_context.set_trailing_metadata(trailing(request_id))
        try:
            return pb.ListModelsResponse(models=[model_of(card) for card in await self._service.models()])
        except Exception as error:  # as above
            set_status(grpc_context, fault_of(error, request_id), request_id, trailing(request_id))
            return pb.ListModelsResponse()

    async def _ask(self, request: pb.GenerateRequest) -> Ask:
        try:
            if (size := request.ByteSize()) > self._max_message_bytes:
                raise too_large(self._max_message_bytes)
            return await unhurried(lambda: ask_of(request), size)
        except GemmuleError as error:
            self._service.metrics.refused(error.fault.code.value)
            raise


def set_status(context: Context, fault: Fault, request_id: str, metadata: Metadata) -> None:
    """Make a fault the call's status, with `google.rpc` details."""
    shown = public(fault, request_id)
    context.set_code(status_of(shown).grpc)
    context.set_details(shown.message)
    context.set_trailing_metadata([*metadata, (DETAILS_KEY, details_of(fault, request_id))])
