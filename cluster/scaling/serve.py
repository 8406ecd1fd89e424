"""Serve's application-level policy: it has the counts, the board has the rest, `cluster.scaling.policy` decides.

Runs in Serve's controller, many times a second. Serve ships this module by value, so it holds no state of its own but
in instances of classes of other modules.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any, Final

import ray
from ray.serve.config import AutoscalingContext

from cluster.config import ClusterConfig
from cluster.scaling.board import Board
from cluster.scaling.keeper import Keeper, Seen
from cluster.scaling.verdict import Verdict
from model.config import Size

log = logging.getLogger("ray.serve.gemmule.scaling")  # below Serve's, whose handlers the controller has

_LOOK_S: Final = 1.0
_SERVE: Final = "serve"  # namespace of Serve's actors


class BudgetPolicy:
    """Gives every size what the last look said. A size that shall have none is left out of the answer.

    Serve starts a replica of a deployment that has none as soon as a request waits for it, whatever number the answer
    gives, and so beyond the budget (Ray 2.60); a deployment that is left out stays as it is.
    """

    def __init__(self, application: str) -> None:
        self._board = Board(application)
        self._keeper = Keeper(_alive)
        self._next_s = 0.0
        self._verdict: Verdict | None = None
        self._settings = b""
        self._config: ClusterConfig | None = None

    def __call__(self, contexts: Mapping[Any, AutoscalingContext]) -> tuple[dict[Any, int], dict[Any, Any]]:
        """Deployment -> replicas; those whose number is not to change may be missing."""
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + _LOOK_S
            try:
                self._look(contexts)
            except Exception:  # the controller has more to do than this, and what was said still stands
                log.exception("no look at the sizes")
        return self._answer(contexts), {}

    def _answer(self, contexts: Mapping[Any, AutoscalingContext]) -> dict[Any, int]:
        answer: dict[Any, int] = {}
        for deployment, context in contexts.items():
            verdict = self._verdict.get(Size(deployment.name)) if self._verdict else None
            if verdict is not None and (verdict.target or context.target_num_replicas):
                answer[deployment] = verdict.target
        return answer

    def _look(self, contexts: Mapping[Any, AutoscalingContext]) -> None:
        config = self._read()
        if config is None:
            return
        seen = {
            Size(deployment.name): Seen(
                frozenset(replica.to_full_id_str() for replica in context.running_replicas),
                context.target_num_replicas,
            )
            for deployment, context in contexts.items()
        }
        before, verdict = self._verdict, self._keeper.look(self._board.reports(), seen, config, time.time())
        if verdict is None:
            return
        self._verdict = verdict
        self._board.decide(verdict)
        for process in self._keeper.silent:
            self._board.forget(process)
        known = before.moves if before else ()
        for move in (move for move in verdict.moves if move not in known):
            log.info(f"scaling {move.size} from {move.before} to {move.after}: {move.reason}")

    def _read(self) -> ClusterConfig | None:
        settings = self._board.settings()
        if settings is not None and settings != self._settings:
            self._config, self._settings = ClusterConfig.model_validate_json(settings), settings
        return self._config


def _alive(replica: str) -> bool:
    """Whether a replica's process is still there, by the name of its actor."""
    try:
        ray.get_actor(replica, namespace=_SERVE)
    except ValueError:
        return False
    return True
