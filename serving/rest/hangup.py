"""A client that leaves ends its work."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.types import Receive

T = TypeVar("T")


class HungUp(Exception):
    """The client left before the answer was complete; nobody reads what is sent now."""


async def until_hangup(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; cancels it and raises `HungUp` when the client leaves first.

    The body must have been read: the next message is then the disconnect. Returns only when the work has ended, also
    if this call itself is cancelled, so that generators it iterates can be closed safely.
    """
    task = asyncio.create_task(work)
    watch = asyncio.create_task(_disconnect(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise HungUp
    finally:
        watch.cancel()
        task.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def beats(stream: AsyncGenerator[T, None], every_s: float) -> AsyncGenerator[T | None, None]:
    """The stream's items, and None whenever nothing came for `every_s` seconds. Closes the stream."""
    pending: asyncio.Task[T] | None = None
    async with aclosing(stream):
        try:
            while True:
                pending = pending or asyncio.create_task(_next(stream))
                done, _ = await asyncio.wait({pending}, timeout=every_s)
                if not done:
                    yield None
                    continue
                task, pending = pending, None
                try:
                    item = task.result()
                except StopAsyncIteration:
                    return
                yield item
        finally:
            if pending is not None:
                pending.cancel()
                await asyncio.gather(pending, return_exceptions=True)


async def _next(stream: AsyncGenerator[T, None]) -> T:
    return await anext(stream)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
