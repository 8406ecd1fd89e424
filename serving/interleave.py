"""Several streams become one, as their items come."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def interleave(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """Items with the index of their stream. The first error ends all; closing this closes every stream.

    A stream runs on only as far as its items are taken: each may have one waiting.
    """
    if len(streams) == 1:  # no detour through a queue for what is most common
        async with aclosing(streams[0]) as only:
            async for item in only:
                yield 0, item
        return
    inbox: asyncio.Queue[tuple[int, T] | Exception | None] = asyncio.Queue(len(streams))

    async def pump(index: int, stream: AsyncGenerator[T, None]) -> None:
        try:
            async with aclosing(stream):
                async for item in stream:
                    await inbox.put((index, item))
        except Exception as error:  # travels to whoever reads
            await inbox.put(error)
        else:
            await inbox.put(None)

    tasks = [asyncio.create_task(pump(index, stream)) for index, stream in enumerate(streams)]
    try:
        left = len(tasks)
        while left:
            match await inbox.get():
                case None:
                    left -= 1
                case Exception() as error:
                    raise error
                case index, item:
                    yield index, item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
