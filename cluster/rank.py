"""One rank above 0 of a sharded replica: an actor with its own process, and GPU where there are any."""

from pathlib import Path
from typing import Any

import ray

from cluster.config import ReplicaConfig
from model.contract import RankReport
from model.world import World


@ray.remote(max_restarts=0, max_concurrency=4)
class Rank:
    """Loads its part, then follows rank 0 until the group ends. It is never restarted alone: one dies, all die."""

    def __init__(self, folder: str, config_json: str) -> None:
        """Cheap; the work is in `start`, so that all ranks load at the same time."""
        self._folder = Path(folder)
        self._config = ReplicaConfig.model_validate_json(config_json)
        self._engine: Any = None

    def start(self, world: World) -> RankReport:
        """Join, load and verify together with the other ranks."""
        from model.engine import Engine  # torch loads in rank processes only

        self._engine = Engine(self._folder, self._config.engine, world, self._config.threads_per_rank)
        self._engine.load_here()
        report: RankReport = self._engine.ranks()[0]
        return report

    def follow(self) -> None:
        """Return when the group has ended; the replica waits for this, and for this actor's death alike."""
        self._engine.follow()
