"""The ranks of one replica above rank 0: started together, watched, and never outlived by rank 0."""

import asyncio
import socket
from collections.abc import Awaitable
from typing import Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.config import ReplicaConfig
from cluster.rank import Rank
from model.contract import RankReport
from model.world import World


class RankGroup:
    """Followers of one replica in the replica's own placement group; empty at degree 1.

    They are owned by the replica's process, so Ray ends them when it ends, however it ends.
    """

    def __init__(self, folder: str, config: ReplicaConfig) -> None:
        self._degree = config.tensor_parallel
        self._ranks = [self._actor(folder, config, rank) for rank in range(1, self._degree)]
        self._port = _free_port() if self._ranks else 0
        self.reports: tuple[RankReport, ...] = ()

    @property
    def world(self) -> World:
        """Rank 0's place."""
        return World(0, self._degree, "127.0.0.1", self._port)

    async def start(self, rank_zero: Awaitable[None]) -> None:
        """Start the followers while rank 0 starts: they meet on the way, so neither may wait for the other."""
        worlds = [World(rank, self._degree, "127.0.0.1", self._port) for rank in range(1, self._degree)]
        starts = [actor.start.remote(world) for actor, world in zip(self._ranks, worlds, strict=True)]
        *reports, _ = await asyncio.gather(*starts, rank_zero)
        self.reports = tuple(reports)

    async def lost(self) -> None:
        """Return when a rank has died or stopped following; never at degree 1."""
        if not self._ranks:
            await asyncio.Event().wait()
        follows = [asyncio.ensure_future(_settled(actor.follow.remote())) for actor in self._ranks]
        await asyncio.wait(follows, return_when=asyncio.FIRST_COMPLETED)

    @staticmethod
    def _actor(folder: str, config: ReplicaConfig, rank: int) -> Any:
        strategy = PlacementGroupSchedulingStrategy(
            ray.util.get_current_placement_group(), placement_group_bundle_index=rank
        )
        return Rank.options(  # type: ignore[attr-defined]
            num_cpus=config.cpus_per_rank, num_gpus=config.gpus_per_rank, scheduling_strategy=strategy
        ).remote(folder, config.model_dump_json())


async def _settled(reference: Any) -> None:
    await asyncio.gather(reference, return_exceptions=True)


def _free_port() -> int:
    """A port nobody holds now; the ranks meet there moments later."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
