"""One replica of a size: an engine, the ranks under it, and what Ray Serve wants to know of both."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import psutil
from ray import serve

from cluster.config import ReplicaConfig
from cluster.rank_group import RankGroup
from cluster.replica_report import ReplicaReport
from cluster.snapshot import Hello, ReplicaLoad, ReplicaStats, ReplicaStatus
from model.checkpoint import open_checkpoint
from model.config import Size
from model.errors import Fault
from model.events import Event
from model.fit import check_memory
from model.profile import Profile, Profiler
from model.request import GenerationRequest

log = logging.getLogger("gemmule.replica")

_RANK_LOST: Final = 70  # exit status of a replica that lost a rank or its loop (EX_SOFTWARE)
_LOOK_S: Final = 0.5  # between two looks at the engine's loop
_LAST_WORDS_S: Final = 1.0  # for the `Failed` events of a loop that ended to be on their way


class Replica:
    """Becomes a Serve deployment in `cluster.build`. Requests come as values, answers go as events."""

    outdated = False
    leaving = False

    async def __init__(self, size: str, folder: str, config_json: str) -> None:  # type: ignore[misc]  # Serve awaits it
        """Ready when this returns: weights checked and loaded, ranks joined, golden logits reproduced, kernels warm."""
        began_s = time.monotonic()
        config = ReplicaConfig.model_validate_json(config_json)
        self._config, self._size = config, Size(size)
        self._checkpoint = await asyncio.to_thread(open_checkpoint, Path(folder), Size(size))
        self._check_memory(Size(size))
        self._name = f"{size}#{serve.get_replica_context().replica_id.unique_id[:6]}"
        self._group = RankGroup(folder, config)
        await self._group.start(self._start_engine(Path(folder)))
        self._profiler = Profiler(self._name, self._engine.instruments)
        self._watch = asyncio.create_task(self._end_with_the_group(), name="rank-watch")
        self._start_s = {"import": self._import_s, **self._engine.start_s, "all": time.monotonic() - began_s}
        facts = {"replica": self._name, "start_s": self._start_s, **self._engine.capacity.fields()}
        log.info("replica ready", extra=facts)

    def _check_memory(self, size: Size) -> None:
        """Refuse before loading what cannot fit. On GPUs each rank has its own device, on CPU all share the host."""
        config = self._config
        if config.gpus_per_rank:
            import torch  # the replica's process loads it anyway

            free_bytes = int(torch.cuda.mem_get_info()[0])
        else:
            free_bytes = psutil.virtual_memory().available
        shared = not config.gpus_per_rank
        check_memory(self._checkpoint, size, config.tensor_parallel, config.engine, free_bytes, shared)

    async def _start_engine(self, folder: Path) -> None:
        """Rank 0's part of the start, which takes its own time while the followers take theirs."""
        began_s = time.monotonic()
        self._engine: Any = await asyncio.to_thread(self._make_engine, folder)
        self._import_s = time.monotonic() - began_s
        await self._engine.start()

    def _make_engine(self, folder: Path) -> Any:
        from model.engine import Engine  # torch loads in replica processes only

        return Engine(folder, self._config.engine, self._group.world, self._config.threads_per_rank)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Hello | Event, None]:
        """`Hello`, then the events of one request; a caller that leaves ends it."""
        yield Hello(self._name, self._checkpoint.name)
        async with aclosing(self._engine.submit(request)) as events:
            async for event in events:
                yield event

    async def logits(self, token_ids: tuple[int, ...]) -> list[float]:
        """Logits of the token after these, by all ranks on the path that answers requests; for checks only."""
        row: list[float] = await self._engine.logits(token_ids)
        return row

    async def load(self) -> ReplicaLoad:
        """What routers ask for twice a second."""
        load = self._engine.load()
        kv_used_share = 1 - load.free_kv_tokens / load.total_kv_tokens
        return ReplicaLoad(
            self._name, load.running, load.waiting, self.outdated, self.leaving, kv_used_share, self._start_s["all"]
        )

    def record_routing_stats(self) -> dict[str, Any]:
        """What Serve brings to every router of this size, `cluster.replica_router`."""
        return ReplicaReport.of(self._engine.load(), *self._engine.marks()).fields()

    async def stats(self) -> ReplicaStats:
        """What an operator watches."""
        return ReplicaStats(self._size, self._name, self._engine.stats(), self._start_s)

    async def profile(self, replica: str, seconds: float, stacks: bool) -> Profile | Fault | None:
        """Its next seconds, if this is the replica that is meant; every replica of the size is asked."""
        return await self._profiler.run(seconds, stacks) if replica == self._name else None

    async def status(self) -> ReplicaStatus:
        """Load, ranks, numbers and times of the start."""
        load = self._engine.load()
        return ReplicaStatus(
            replica=self._name,
            checkpoint=self._checkpoint.name,
            running=load.running,
            waiting=load.waiting,
            free_kv_tokens=load.free_kv_tokens,
            total_kv_tokens=load.total_kv_tokens,
            start_s=self._start_s,
            logit_difference=self._engine.logit_difference,
            ranks=(*self._engine.ranks(), *self._group.reports),
            capacity=self._engine.capacity,
            stats=self._engine.stats(),
            outdated=self.outdated,
            leaving=self.leaving,
        )

    async def check_health(self) -> None:
        """Raise when the engine's loop has ended; Serve then replaces the replica."""
        if not self._engine.healthy():
            raise RuntimeError(f"{self._name}: the engine's loop has ended")

    async def _end_with_the_group(self) -> None:
        """End this process when a rank is lost or the engine's loop has ended, so that Serve starts another.

        A collective that waits for a lost rank cannot be cancelled, so there is nothing to tidy up.
        """
        lost = asyncio.create_task(self._group.lost(), name="ranks-lost")
        while not lost.done() and self._engine.healthy():
            await asyncio.wait([lost], timeout=_LOOK_S)
        log.error("the replica ends", extra={"replica": self._name, "rank_lost": lost.done()})
        if not lost.done():
            await asyncio.sleep(_LAST_WORDS_S)
        os._exit(_RANK_LOST)
