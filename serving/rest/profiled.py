"""A request for a profile: body in, trace out, however large it is."""

import asyncio
import json

from fastapi import Request
from fastapi.responses import Response

from model.profile import Profile
from model.request import RequestId
from serving.profiling import profile_ask, profile_object
from serving.rest.body import BodyLimits, parse_object, read_body
from serving.rest.hangup import until_hangup
from serving.service import Service


async def profiled(service: Service, request: Request, request_id: RequestId, limits: BodyLimits) -> Response:
    """The response; raises `GemmuleError` for what is refused, `HungUp` when the client leaves before it."""
    ask = profile_ask(parse_object(await read_body(request, limits)))
    profile = await until_hangup(request.receive, service.profile(ask))
    content = await asyncio.to_thread(_written, profile)  # megabytes: the loop goes on serving others
    return Response(content, headers={"x-request-id": request_id}, media_type="application/json")


def _written(profile: Profile) -> bytes:
    return json.dumps(profile_object(profile), separators=(",", ":")).encode()
