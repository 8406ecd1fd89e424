"""Bytes of a request -> a JSON object, or the reason why not. Nothing here knows a field."""

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request

from model.errors import InvalidRequestError
from serving.echo import echo, safe_name
from serving.edge import MAX_BODY_BYTES, too_large

MAX_DEPTH: Final = 64
MAX_DIGITS: Final = 32


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
    value = parse_json(body)
    if not isinstance(value, dict):
        raise InvalidRequestError("invalid_type", None, f"body: got {echo(value)}, expected an object")
    return value


def parse_json(body: bytes) -> Any:
    """Strict JSON: UTF-8, no key twice, no NaN, bounded depth and digits; raises `InvalidRequestError`."""
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_decimal,
        )
    except UnicodeDecodeError as error:
        raise _invalid(f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _invalid(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value)
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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _invalid(f"key '{safe_name(twice)}' comes twice in one object")
    return result


def _refuse_constant(word: str) -> float:
    raise _invalid(f"{word} is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _invalid(f"a number has {len(digits)} digits, at most {MAX_DIGITS} are read")
    return int(digits)


def _decimal(text: str) -> float:
    value = float(text) if len(text) <= MAX_DIGITS else math.inf
    if math.isinf(value):
        raise _invalid(f"number {echo(text)} is too long or too large")
    return value


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [node for node in level if isinstance(node, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]


def _too_deep() -> InvalidRequestError:
    return _invalid(f"nested deeper than {MAX_DEPTH}")


def _invalid(why: str) -> InvalidRequestError:
    return InvalidRequestError("invalid_json", None, f"body: {why}; send one JSON object")
