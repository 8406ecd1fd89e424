"""Waiting for a size that sleeps to have a replica."""

import asyncio
from collections.abc import Callable
from typing import Final

from cluster.snapshot import SizeState
from model.errors import NotReadyError, OverloadedError

_LOOK_S: Final = 0.1
_RETRY_S: Final = 10.0
_NO_ROOM_RETRY_S: Final = 30.0


async def until_awake(look: Callable[[], SizeState], within_s: float) -> None:
    """Return when the size has a replica; nobody but the scaling policy, which sees who waits, starts one.

    Raises `OverloadedError` when it was decided that there is no room, `NotReadyError` when it takes longer.
    """
    loop = asyncio.get_running_loop()
    end_s = loop.time() + within_s
    while not (state := look()).num_replicas:
        if state.no_room:
            raise OverloadedError(f"{state.size} sleeps and gets no replica now: {state.no_room}", _NO_ROOM_RETRY_S)
        if loop.time() > end_s:
            raise NotReadyError(f"{state.size} sleeps and did not wake within {within_s:g} s", _RETRY_S)
        await asyncio.sleep(_LOOK_S)
