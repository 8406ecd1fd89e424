"""Two ranks as two processes, without Ray; a test asks rank 0 to run a function on its engine.

Rank 0 is no thread of the test's own process: a collective that its other rank died in never ends.
"""

import asyncio
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import EngineConfig
from model.engine import Engine
from model.errors import GemmuleError
from model.world import World
from tests.unit.model.engines import FOLDER

START_S = 100.0
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Group:
    """Both processes, and the wire to rank 0."""

    ranks: tuple[Any, Any]
    wire: Any

    @property
    def follower_pid(self) -> int:
        return int(self.ranks[1].pid)

    def do(self, function: Callable[..., Any], *arguments: Any, within_s: float = 120.0) -> Any:
        """The result of `await function(engine, *arguments)` in rank 0's process."""
        self.wire.send((function, arguments))
        assert self.wire.poll(within_s), "rank 0 does not answer"
        answer = self.wire.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextmanager
def a_group(config: EngineConfig, followers_folder: Path = FOLDER) -> Iterator[Group]:
    """Started but for the first `do`, which waits for it; ended hard."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ours, theirs = SPAWN.Pipe()
    ranks = (
        SPAWN.Process(target=_lead, args=(theirs, config, World(0, 2, "127.0.0.1", port))),
        SPAWN.Process(target=_follow, args=(followers_folder, config, World(1, 2, "127.0.0.1", port))),
    )
    for rank in ranks:
        rank.start()
    try:
        yield Group(ranks, ours)
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()


def _lead(wire: Any, config: EngineConfig, world: World) -> None:
    asyncio.run(_serve(wire, Engine(FOLDER, config, world)))


async def _serve(wire: Any, engine: Engine) -> None:
    while True:
        function, arguments = await asyncio.to_thread(wire.recv)
        try:
            answer = await function(engine, *arguments)
        except Exception as error:
            answer = error
        wire.send(answer)


def _follow(folder: Path, config: EngineConfig, world: World) -> None:
    engine = Engine(folder, config, world)
    engine.load_here()
    engine.follow()


async def start(engine: Engine) -> str | float | None:
    """How far the gate found it from the golden logits, or why it is kept out."""
    try:
        await engine.start()
    except GemmuleError as error:
        return error.fault.message
    return engine.logit_difference


async def close(engine: Engine) -> int:
    """Whose process it is; a follower ends by itself then."""
    await engine.close()
    return os.getpid()
