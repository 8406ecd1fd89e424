"""A replica as Serve keeps it: it gets its settings while it runs, knows when they ask for another one, and makes room.

Serve's own way to replace replicas starts the successor while the old one still answers its last requests. That takes
a second set of devices for as long as the longest answer. Here the settings reach a running replica in place, which
changes nothing but what it says of itself; when its turn comes (`cluster.rollout`) it tells the routers, takes nothing
new, finishes what it has, and ends. Only then does Serve start another.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from cluster.config import ReplicaConfig
from cluster.replica import Replica
from cluster.replica_report import ReplicaReport
from cluster.snapshot import Hello
from cluster.wanted import Wanted
from model.errors import ReplicaLeavingError
from model.events import Event, Failed
from model.request import GenerationRequest
from model.source import parse_source, resolve

log = logging.getLogger("gemmule.replica")

_TOLD_S: Final = 2.0  # routers look twice a second, and ask Serve's news once
_IDLE_LOOK_S: Final = 0.1
_LAST_WORDS_S: Final = 0.3  # for the last events to be on their way


class SizedReplica(Replica):
    """Serve makes it with its size, then hands over the settings; the first ones are those it is built from."""

    def __init__(self, size: str) -> None:
        self._slot = size
        self._made: ReplicaConfig | None = None
        self._closed = False
        self._wanted: Wanted

    async def reconfigure(self, settings: dict[str, Any]) -> None:
        """`Wanted` as a tree. The first call returns when the replica is ready; a hub checkpoint is downloaded here."""
        self._wanted = wanted = Wanted.model_validate(settings)
        if self._made is None:
            made = wanted.replica
            source, began_s = parse_source(made.source), time.monotonic()
            folder = await asyncio.to_thread(resolve, source, made.revision, os.environ.get(wanted.token_env))
            fetch_s = time.monotonic() - began_s
            await Replica.__init__(self, self._slot, str(folder), made.model_dump_json())
            self._start_s = {"fetch": fetch_s, **self._start_s, "all": fetch_s + self._start_s["all"]}
            self._made = made
        self.outdated = wanted.replica != self._made
        if self.outdated:
            log.info("outdated", extra={"replica": self._name})

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Hello | Event, None]:
        """As every replica; refused once it has made room."""
        if self._closed:
            fault = ReplicaLeavingError(f"{self._name} makes room for its successor").fault
            yield Failed(request.request_id, fault)
            return
        async with aclosing(super().generate(request)) as items:
            async for item in items:
                yield item

    def record_routing_stats(self) -> dict[str, Any]:
        """What Serve brings to every router of this size, `cluster.replica_router`."""
        names, complete = self._engine.marks()
        return ReplicaReport.of(
            self._engine.load(),
            names,
            complete,
            slots=self._config.engine.max_running,
            queue_tokens=self._wanted.queue_tokens,
            leaving=self.leaving,
        ).fields()

    async def leave(self, replica: str) -> bool:
        """Make room if this is the replica that is meant and it is outdated; every replica of the size is asked."""
        if replica == self._name and self.outdated and not self.leaving:
            self.leaving = True
            self._leaving = asyncio.create_task(self._leave(), name="leave")
        return replica == self._name and self.leaving

    async def _leave(self) -> None:
        log.info("leaving", extra={"replica": self._name})
        await asyncio.sleep(_TOLD_S)
        self._closed = True
        while (load := self._engine.load()).running + load.waiting:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(_IDLE_LOOK_S)
        await asyncio.sleep(_LAST_WORDS_S)
        log.info("left", extra={"replica": self._name})
        os._exit(0)
