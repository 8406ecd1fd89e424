"""Bytes of a request -> a JSON object, or the reason why not. Nothing here knows a field."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from model.errors import InvalidRequestError
from serving.echo import echo
from serving.edge import MAX_BODY_BYTES, too_large
from serving.strict_json import MAX_DIGITS, NotJsonError, parse_json


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How large a body may be, and how slow."""

    max_bytes: int = MAX_BODY_BYTES
    idle_s: float = 10.0  # without a byte
    whole_s: float = 30.0  # for all of them


async def read_body(request: Request, limits: BodyLimits) -> bytes:
    """The bytes of a JSON body, read no further than the limit; raises `InvalidRequestError`."""
    _check_headers(request.headers, limits.max_bytes)
    return await _read(request, limits)


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; raises `InvalidRequestError`."""
    try:
        value = parse_json(body)
    except NotJsonError as error:
        raise InvalidRequestError("invalid_json", None, f"body: {error}; send one JSON object") from None
    if not isinstance(value, dict):
        raise InvalidRequestError("invalid_type", None, f"body: got {echo(value)}, expected an object")
    return value


def _check_headers(headers: Mapping[str, str], max_bytes: int) -> None:
    kind = headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        what = f"content-type: got {echo(kind)}, only application/json is read; send that"
        raise InvalidRequestError("unsupported_media_type", None, what)
    coding = headers.get("content-encoding", "identity")
    if coding.strip().lower() != "identity":
        what = f"content-encoding: got {echo(coding)}, bodies are not decompressed; send plain JSON"
        raise InvalidRequestError("unsupported_media_type", None, what)
    length = headers.get("content-length", "")
    if length.isdecimal() and len(length) < MAX_DIGITS and int(length) > max_bytes:
        raise too_large(max_bytes)


async def _read(request: Request, limits: BodyLimits) -> bytes:
    body = bytearray()
    chunks = aiter(request.stream())
    try:
        async with asyncio.timeout(limits.whole_s):
            while True:
                async with asyncio.timeout(limits.idle_s):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return bytes(body)
                if len(body) + len(chunk) > limits.max_bytes:
                    raise too_large(limits.max_bytes)
                body += chunk
    except TimeoutError:
        what = f"body: {limits.idle_s:g} s of silence or {limits.whole_s:g} s in all were over; send it faster"
        raise InvalidRequestError("request_timeout", None, what) from None
