"""Vertex AI's contract for prediction containers: `instances` in, `predictions` out, in the same order.

An instance is the body of a chat or of a completion, and its prediction is what that endpoint would answer. What is the
same for all may stand in `parameters`; without a model `auto` answers. Source of the contract: Vertex AI, "Custom
container requirements for inference".
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from cluster.config import Tier
from model.errors import GemmuleError, InvalidRequestError
from model.request import RequestId
from serving.ask import Ask, ChatAsk
from serving.asking import ask_of_either
from serving.echo import echo
from serving.fields import settle_names
from serving.rest.answer import Limits, read_ask
from serving.rest.choices import collect
from serving.rest.hangup import until_hangup
from serving.rest.schemas import ChatShape, TextShape
from serving.service import Service

MAX_INSTANCES: Final = 64
_FIELDS: Final = ("instances", "parameters")


async def predicted(service: Service, request: Request, request_id: RequestId, limits: Limits) -> Response:
    """The response; raises `GemmuleError` for the first instance that is refused, `HungUp` when the client leaves."""
    asks = await read_ask(service, request, asks_of, limits)
    predictions = await until_hangup(request.receive, _all(service, asks))
    return JSONResponse({"predictions": predictions}, headers={"x-request-id": request_id})


def asks_of(raw: Mapping[str, Any]) -> list[Ask]:
    """What each instance asks for; raises `InvalidRequestError` with the instance's place in the field's path."""
    fields = settle_names(raw, _FIELDS, {})
    instances, shared = fields.get("instances"), fields.get("parameters", {})
    if not isinstance(instances, list) or not 1 <= len(instances) <= MAX_INSTANCES:
        what = f"instances: send a list of 1 to {MAX_INSTANCES} objects"
        raise InvalidRequestError("invalid_type", "instances", what)
    if not isinstance(shared, dict):
        raise InvalidRequestError("invalid_type", "parameters", "parameters: has to be an object")
    return [_ask(f"instances[{at}]", instance, shared) for at, instance in enumerate(instances)]


def _ask(where: str, instance: Any, shared: Mapping[str, Any]) -> Ask:
    if not isinstance(instance, dict):
        what = f"{where}: got {echo(instance)}, expected the body of a chat or of a completion"
        raise InvalidRequestError("invalid_type", where, what)
    try:
        ask = ask_of_either({"model": Tier.AUTO.value, **shared, **instance})
    except InvalidRequestError as error:
        fault = error.fault
        field = f"{where}.{fault.field}" if fault.field else where
        raise InvalidRequestError(fault.reason, field, f"{where}.{fault.message}") from None
    if ask.stream:
        what = f"{where}.stream: a prediction is sent whole; leave it out, or ask the streaming endpoints"
        raise InvalidRequestError("unsupported_value", f"{where}.stream", what)
    return ask


async def _all(service: Service, asks: list[Ask]) -> list[dict[str, Any]]:
    """Side by side; the first that fails ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_one(service, ask)) for ask in asks]
    except* GemmuleError as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def _one(service: Service, ask: Ask) -> dict[str, Any]:
    whole = await collect(service.generate(ask, service.new_request_id()))
    shape = (ChatShape if isinstance(ask, ChatAsk) else TextShape)(ask.return_token_ids)
    return shape.whole(whole, ask.num_logprobs is not None)
