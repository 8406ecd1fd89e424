"""A request for text: body in, plain answer or stream out."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from model.errors import GemmuleError
from model.request import RequestId
from serving.ask import Ask
from serving.edge import unhurried
from serving.parts import Part, Started
from serving.rest.body import BodyLimits, parse_object, read_body
from serving.rest.choices import collect
from serving.rest.hangup import beats, until_hangup
from serving.rest.schemas import Shape, route_headers
from serving.rest.sse import EventStream, sse
from serving.service import Service

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the REST face bounds."""

    body: BodyLimits = field(default_factory=BodyLimits)
    waiting_s: float = 10.0  # headers wait this long for the first token; then they go, and a comment every so often


async def answer(
    service: Service,
    request: Request,
    request_id: RequestId,
    read: Callable[[Mapping[str, Any]], Ask],
    shape_of: Callable[[bool], Shape],
    limits: Limits,
) -> Response:
    """The response; raises `GemmuleError` for what is refused, `HungUp` when the client leaves before it.

    `shape_of` makes the endpoint's words, with token ids or without.
    """
    ask = await read_ask(service, request, read, limits)
    shape = shape_of(ask.return_token_ids)
    parts = service.generate(ask, request_id)
    if ask.stream:
        return await _stream(request, request_id, ask, beats(parts, limits.waiting_s), shape)
    whole = await until_hangup(request.receive, collect(parts))
    headers = {"x-request-id": request_id, **route_headers(whole.started)}
    return JSONResponse(shape.whole(whole, ask.num_logprobs is not None), headers=headers)


async def read_ask(service: Service, request: Request, read: Callable[[Mapping[str, Any]], T], limits: Limits) -> T:
    """What the body asks for; raises `GemmuleError`."""
    try:
        body = await read_body(request, limits.body)
        return await unhurried(lambda: read(parse_object(body)), len(body))
    except GemmuleError as error:
        service.metrics.refused(error.fault.code.value)
        raise


async def _stream(
    request: Request, request_id: RequestId, ask: Ask, parts: AsyncGenerator[Part | None, None], shape: Shape
) -> Response:
    """Headers go with the first token, so that a refusal has a status of its own; or after a while of waiting."""
    try:
        first = await until_hangup(request.receive, _first(parts))
    except BaseException:
        await parts.aclose()
        raise
    headers = {"x-request-id": request_id} | (route_headers(first) if isinstance(first, Started) else {})
    return EventStream(sse(_resumed(first, parts), shape, request_id, ask.include_usage), headers, parts)


async def _first(parts: AsyncGenerator[Part | None, None]) -> Part | None:
    return await anext(parts)


async def _resumed(first: Part | None, rest: AsyncGenerator[Part | None, None]) -> AsyncGenerator[Part | None, None]:
    async with aclosing(rest):
        yield first
        async for part in rest:
            yield part
