"""Whether a loop can still answer, and what its readers are told when it cannot."""

from collections.abc import Callable
from typing import Final

from model.errors import Code, Fault

_STEP_TIMEOUT_S: Final = 300.0  # a step that takes longer will not end
_ENDING: Final = Fault(Code.REPLICA_LOST, "the replica is ending", "replica_lost", None, 1.0)
_LOST: Final = Fault(Code.REPLICA_LOST, "a rank of this replica is gone", "replica_lost", None, 1.0)
_FAILED: Final = Fault(Code.INTERNAL, "the engine failed on this request", "internal_error")


class Watch:
    """Progress while there is work, signs of life from every rank, and the reason once it is over."""

    def __init__(self, sharded: bool, ranks_healthy: Callable[[], bool], clock: Callable[[], float]) -> None:
        self._sharded = sharded
        self._ranks_healthy = ranks_healthy
        self._clock = clock
        self._step_began_s: float | None = None
        self._fault: Fault | None = None

    def step_begins(self) -> None:
        """From now on there must be an end to it."""
        self._step_began_s = self._clock()

    def step_ends(self) -> None:
        """It got on."""
        self._step_began_s = None

    def end(self, failed: bool) -> Fault:
        """The loop is over, on purpose or not; what those still waiting are told."""
        self._fault = self._broken() if failed else _ENDING
        return self._fault

    def why_down(self) -> Fault | None:
        """None while it can answer."""
        stuck = self._step_began_s is not None and self._clock() - self._step_began_s > _STEP_TIMEOUT_S
        if self._fault is None and (stuck or not self._ranks_healthy()):
            return self._broken()
        return self._fault

    def _broken(self) -> Fault:
        """With several ranks an error in one is most often the end of another."""
        return _LOST if self._sharded else _FAILED
