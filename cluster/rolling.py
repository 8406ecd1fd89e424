"""Lets outdated replicas go one by one, as `cluster.rollout` decides; runs in the first ingress process alone."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Final

from ray import serve
from ray.serve.handle import DeploymentHandle

from cluster.fleet import Fleet
from cluster.rollout import Turn, next_turn
from model.config import Size

log = logging.getLogger("gemmule.rollout")

_LOOK_S: Final = 0.5
_ANSWER_S: Final = 5.0


class Rolling:
    """Looks at the fleet it is told of last."""

    def __init__(self, app_name: str, is_first: Callable[[], bool]) -> None:
        """`is_first` says whether this process is the one that decides."""
        self._app_name, self._is_first = app_name, is_first
        self._fleet: Fleet | None = None
        self._handles: Mapping[Size, DeploymentHandle] = {}
        self._task: asyncio.Task[None] | None = None

    def watch(self, fleet: Fleet, handles: Mapping[Size, DeploymentHandle]) -> None:
        """Needs a running event loop the first time."""
        self._fleet, self._handles = fleet, handles
        if self._task is None:
            self._task = asyncio.create_task(self._watch(), name="rolling")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self._look()
            except Exception:  # the watch must outlive whatever one look runs into
                log.exception("no look at the replicas")

    async def _look(self) -> None:
        fleet = self._fleet
        if fleet is None or not fleet.any_outdated() or not self._is_first():
            return
        moving = await asyncio.to_thread(_moving, self._app_name)
        turn = next_turn([state.size for state in fleet.states()], fleet.loads(), moving)
        if turn is not None:
            log.info("makes room", extra={"size": turn.size, "replica": turn.replica})
            await self._tell(turn)

    async def _tell(self, turn: Turn) -> None:
        response = self._handles[turn.size].broadcast("leave", turn.replica)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(response.results_async(return_exceptions=True), _ANSWER_S)
        await asyncio.sleep(2 * _LOOK_S)  # the next look shall see it leave


def _moving(app_name: str) -> dict[Size, int]:
    """Replicas of every size that are neither running nor gone."""
    application = serve.status().applications.get(app_name)
    if application is None:
        return {}
    return {
        Size(name): sum(count for state, count in deployment.replica_states.items() if state != "RUNNING")
        for name, deployment in application.deployments.items()
        if name in set(Size)
    }


def is_first() -> bool:
    """Whether this Serve replica is the first of its deployment; there is one as long as there is any."""
    rank = serve.get_replica_context().rank
    return rank is not None and rank.rank == 0
