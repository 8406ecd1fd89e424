"""What the replicas of every size say of themselves: their load all the time, everything else when somebody asks."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, TypeVar

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from cluster.snapshot import ReplicaLoad, ReplicaStats, ReplicaStatus
from model.config import Size
from model.errors import Fault, GemmuleError, ReplicaLostError
from model.profile import Profile

log = logging.getLogger("gemmule.router")

_POLL_S: Final = 0.5
_ANSWER_S: Final = 5.0  # on a busy laptop an answer can be slow without the replica being ill
_RETURN_S: Final = 30.0  # Serve starts a lost replica anew; what takes longer is refused rather than kept waiting

T = TypeVar("T")


class Lookout:
    """Replicas that do not answer are not there."""

    def __init__(self) -> None:
        self._handles: dict[Size, DeploymentHandle] = {}
        self._loads: dict[Size, tuple[ReplicaLoad, ...]] = {}
        self._replaced: set[Size] = set()
        self._lost_s: dict[Size, float] = {}
        self._polls: dict[Size, asyncio.Task[None]] = {}

    async def watch(self, handles: Mapping[Size, DeploymentHandle]) -> None:
        """Watch these sizes from now on, and no others; needs a running event loop."""
        self._handles = dict(handles)
        for size in self._polls.keys() - handles.keys():
            self._polls.pop(size).cancel()
            self._loads.pop(size, None)
        for size in handles.keys() - self._polls.keys():
            self._polls[size] = asyncio.create_task(self._watch(size), name=f"watch-{size}")

    async def close(self) -> None:
        """Stop watching."""
        polls = list(self._polls.values())
        self._polls.clear()
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)

    def loads(self, size: Size) -> tuple[ReplicaLoad, ...]:
        """As last seen."""
        return self._loads.get(size, ())

    def returns(self, size: Size) -> bool:
        """Whether a size without a replica had one that is being replaced, or was lost so lately that Serve is at it.

        False for a size that never started, and for one that does not come back.
        """
        if size in self._replaced:
            return True
        lost_s = self._lost_s.get(size)
        return lost_s is not None and asyncio.get_running_loop().time() - lost_s < _RETURN_S

    async def statuses(self, size: Size) -> tuple[ReplicaStatus, ...]:
        """All there is to say about each replica of a size."""
        return await ask_all(self._handles[size], ReplicaStatus, _ANSWER_S, "status")

    async def stats(self, size: Size) -> tuple[ReplicaStats, ...]:
        """Each replica of a size in numbers."""
        return await ask_all(self._handles[size], ReplicaStats, _ANSWER_S, "stats")

    async def profile(self, size: Size, replica: str, seconds: float, stacks: bool) -> Profile:
        """One replica's next seconds. All of the size are asked, for a handle cannot name one; the others say None."""
        within_s = seconds + _ANSWER_S
        handle = self._handles[size]
        answers: tuple[object, ...] = await ask_all(handle, object, within_s, "profile", replica, seconds, stacks)
        for answer in answers:
            if isinstance(answer, Fault):
                raise GemmuleError(answer)
            if isinstance(answer, Profile):
                return answer
        raise ReplicaLostError(f"{replica} did not answer; it may have ended")

    async def _watch(self, size: Size) -> None:
        while True:
            before, now = self._loads.get(size, ()), await ask_all(self._handles[size], ReplicaLoad, _ANSWER_S, "load")
            self._loads[size] = now
            if any(not load.leaving for load in now):
                self._replaced.discard(size)
                self._lost_s.pop(size, None)
            elif now or any(load.outdated for load in before):
                self._replaced.add(size)
            elif before:
                self._lost_s[size] = asyncio.get_running_loop().time()
            await asyncio.sleep(_POLL_S)


async def ask_all(
    handle: DeploymentHandle, kind: type[T], timeout_s: float, method: str, *args: object
) -> tuple[T, ...]:
    """Answers of this kind from all replicas of a deployment; none when something goes wrong, which never raises."""
    try:
        response = handle.broadcast(method, *args)
        answers = await asyncio.wait_for(response.results_async(return_exceptions=True), timeout_s)
    except (TimeoutError, RayError, RayServeException):
        return ()
    except Exception:  # the watch must outlive whatever one look runs into
        log.exception("cannot see a deployment", extra={"method": method})
        return ()
    return tuple(answer for answer in answers if isinstance(answer, kind))
