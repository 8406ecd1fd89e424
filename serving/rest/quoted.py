"""A request for a quote: the body of a chat or of a completion in, prices and times out."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from model.request import RequestId
from serving.ask import Ask
from serving.asking import chat_ask, text_ask
from serving.quote import Quote
from serving.rest.answer import Limits, read_ask
from serving.service import Service


async def quoted(service: Service, request: Request, request_id: RequestId, limits: Limits) -> Response:
    """The response; raises `GemmuleError` for what is refused."""
    ask = await read_ask(service, request, _ask, limits)
    return JSONResponse(quote_object(await service.quote(ask)), headers={"x-request-id": request_id})


def quote_object(quote: Quote) -> dict[str, Any]:
    """The answer of `/v1/quote`."""
    return {"object": "quote", **asdict(quote)}


def _ask(raw: Mapping[str, Any]) -> Ask:
    """A completion if it has what only completions have; all else is read as a chat, and says what that lacks."""
    return text_ask(raw) if ("prompt" in raw or "prompt_token_ids" in raw) and "messages" not in raw else chat_ask(raw)
