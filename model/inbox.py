"""Where one stream's outputs wait between the engine's thread and the loop: the newest only."""

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """Outputs are cumulative, so a newer one replaces an older; a reader that is slow costs no memory."""

    def __init__(self) -> None:
        self._newest: T | None = None
        self._arrived = asyncio.Event()
        self._closed = False

    def put(self, item: T, last: bool = False) -> None:
        """Called on the loop. After the last item nothing replaces it any more."""
        if not self._closed:
            self._newest = item
            self._closed = last
            self._arrived.set()

    async def take(self, until_s: float) -> T | None:
        """The newest item not taken yet; None when that instant of the loop's clock comes first."""
        try:
            async with asyncio.timeout_at(until_s):
                await self._arrived.wait()
        except TimeoutError:
            return None
        self._arrived.clear()
        return self._newest
