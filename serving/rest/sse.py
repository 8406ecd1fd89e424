"""Parts of an answer -> bytes of a server-sent event stream."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from serving.edge import fault_of
from serving.parts import ChoiceEnded, Ended, Part, Piece, Started
from serving.rest.hangup import HungUp, until_hangup
from serving.rest.schemas import Shape
from serving.status import error_body

DONE: Final = b"data: [DONE]\n\n"
WAITING: Final = b": waiting\n\n"


class EventStream(StreamingResponse):
    """Sends what a generator yields; a client that leaves, or a cancelled call, closes the generator."""

    def __init__(
        self, source: AsyncGenerator[bytes, None], headers: dict[str, str], below: AsyncGenerator[Any, None]
    ) -> None:
        """`below` is the running generator under `source`, which would not close it if it never began."""
        fixed = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(source, headers={**fixed, **headers}, media_type="text/event-stream")
        self._source = source
        self._below = below

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Plain asyncio instead of Starlette's task group, which would cancel the clean-up as well."""
        del scope
        async with aclosing(self._below), aclosing(self._source):
            try:
                await until_hangup(receive, self.stream_response(send))
            except (HungUp, OSError):
                return


async def sse(
    parts: AsyncGenerator[Part | None, None],
    shape: Shape,
    request_id: str,
    include_usage: bool,
) -> AsyncGenerator[bytes, None]:
    """Chunks as they come; None becomes a comment that keeps proxies awake.

    Ends with `[DONE]`, or with an error event and no `[DONE]`.
    """
    extra = {"usage": None} if include_usage else {}
    try:
        async with aclosing(parts):
            started: Started | None = None
            async for part in parts:
                match part:
                    case None:
                        yield WAITING
                    case Started():
                        started = part
                        for index in range(part.num_choices):
                            yield _data({**shape.first(started, index), **extra})
                    case Piece() if started and (part.text or part.scores or (shape.token_ids and part.token_ids)):
                        yield _data({**shape.piece(started, part), **extra})
                    case ChoiceEnded(index=index, reason=reason) if started:
                        yield _data({**shape.last(started, index, reason), **extra})
                    case Ended(sizes=sizes) if started:
                        if include_usage or sizes is not None:
                            yield _data(shape.end(started, part))
                        yield DONE
    except Exception as error:  # the outermost frame of a stream; the status is sent, so the error is an event
        yield _data(error_body(fault_of(error, request_id), request_id))


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
