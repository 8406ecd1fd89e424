"""The engine: one replica's loop. Requests come from an event loop, steps run in a thread, events go back.

The thread does nothing but turn `Stepper.step`: take what was asked for since, step, repeat; with nothing to do it
sleeps. See `model.contract.EngineContract` for what callers may rely on, `model.stepper` for a step.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import torch

from model.capacity import Capacity
from model.config import EngineConfig
from model.contract import EngineLoad, RankReport
from model.door import Door
from model.events import Event
from model.instruments import Instruments
from model.reader import Reader
from model.request import GenerationRequest, RequestId
from model.starting import Parts, start_rank
from model.stats import EngineStats, stats_of
from model.stepper import Stepper
from model.watch import Watch
from model.world import World

log = logging.getLogger("gemmule.engine")


class Engine:
    """One replica's engine, or one rank of it."""

    def __init__(
        self,
        folder: Path,
        config: EngineConfig,
        world: World | None = None,
        threads: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._config, self._world, self._threads = folder, config, world or World(), threads
        self._clock = clock
        self._parts: Parts | None = None
        self._commands: deque[Callable[[], None]] = deque()
        self._awake = threading.Event()
        self._closing = False
        self.instruments = Instruments()
        self.start_s: dict[str, float] = {}  # part of the start -> seconds
        self.logit_difference: float | None = None

    async def start(self) -> None:
        """Load, join, verify and warm up; raises `CheckpointError`."""
        await asyncio.to_thread(self.load_here)
        began_s = self._clock()
        self.logit_difference = await self._door.gate(self._folder, self._config, self.logits)
        self.start_s["gate"] = self._clock() - began_s

    def load_here(self) -> None:
        """Everything but the gate; blocks. A follower then steps in a thread of its own, and this is all it does."""
        self._parts = start_rank(self._folder, self._config, self._world, self._threads, self.start_s, self._clock)
        if self._world.rank == 0:
            self._watch = Watch(self._world.sharded, self._parts.executor.healthy, self._clock)
            self._door = Door(self._parts, self._config, self._clock)
            self._stepper = Stepper(
                self._parts.scheduler, self._parts.executor, self._door.live, self.instruments, self._clock
            )
            self._reader = Reader(self._door, self._command, self._stepper.drop, self._watch.why_down)
            threading.Thread(target=self._loop, daemon=True, name="engine").start()

    def follow(self) -> None:
        """Block until the group ends; for ranks above 0."""
        self._here().follower.wait()

    def _loop(self) -> None:
        """Turn the stepper until the end."""
        torch.set_num_threads(self._threads)  # OpenMP's number belongs to a thread
        try:
            while not self._closing:
                self._awake.clear()
                while self._commands:
                    self._commands.popleft()()
                self._watch.step_begins()
                stepped = self._stepper.step()
                self._watch.step_ends()
                if not stepped:
                    self._awake.wait()
        except Exception:
            log.exception("the engine's loop has ended")
        fault = self._watch.end(failed=not self._closing)
        for live in list(self._door.live.values()):
            live.fail(fault)

    def submit(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Events of one request; closing the generator aborts it."""
        return self._reader.stream(request)

    def abort(self, request_id: RequestId) -> None:
        """End a request; unknown and finished ids are ignored."""
        self._command(lambda: self._door.abort(request_id))

    async def logits(self, token_ids: tuple[int, ...]) -> list[float]:
        """Logits [V] of the token after these, as a request would be answered; for checks."""
        return await self._reader.logits(token_ids)

    def _command(self, command: Callable[[], None]) -> None:
        """Let the engine's thread do it before its next step."""
        self._commands.append(command)
        self._awake.set()

    def healthy(self) -> bool:
        """It can answer."""
        return self._parts is not None and self._watch.why_down() is None

    def load(self) -> EngineLoad:
        """Counts as of the last step."""
        return self._door.load()

    def stats(self) -> EngineStats:
        """What an operator watches; as cheap as `load`."""
        here = self._here()
        return stats_of(here.scheduler.load(), self.instruments.total, here.capacity)

    def marks(self) -> tuple[list[int], bool]:
        """Short names of prefixes that it has cached, and whether they are all; for routers."""
        return self._here().scheduler.marks()

    @property
    def capacity(self) -> Capacity:
        """What it found room for at its start."""
        return self._here().capacity

    def ranks(self) -> tuple[RankReport, ...]:
        """The rank's own report; the replica joins those of its followers."""
        return (self._here().report,)

    async def close(self) -> None:
        """Stop the loop; running requests end with `Failed`."""
        self._closing = True
        self._awake.set()
        if self._parts is not None:
            self._door.close()
            self._parts.executor.close()

    def _here(self) -> Parts:
        if self._parts is None:
            raise RuntimeError("start() has not returned")
        return self._parts
