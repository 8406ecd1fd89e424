"""A request for a quote: the body of a chat or of a completion in, prices and times out."""

from dataclasses import asdict
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from model.request import RequestId
from serving.asking import ask_of_either
from serving.quote import Quote
from serving.rest.answer import Limits, read_ask
from serving.service import Service


async def quoted(service: Service, request: Request, request_id: RequestId, limits: Limits) -> Response:
    """The response; raises `GemmuleError` for what is refused."""
    ask = await read_ask(service, request, ask_of_either, limits)
    return JSONResponse(quote_object(await service.quote(ask)), headers={"x-request-id": request_id})


def quote_object(quote: Quote) -> dict[str, Any]:
    """The answer of `/v1/quote`."""
    return {"object": "quote", **asdict(quote)}
