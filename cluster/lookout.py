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

T = TypeVar("T")


class Lookout:
    """Replicas that do not answer are not there."""

    def __init__(self, handles: Mapping[Size, DeploymentHandle]) -> None:
        self._handles = handles
        self._loads: dict[Size, tuple[ReplicaLoad, ...]] = {}
        self._poll: asyncio.Future[list[None]] | None = None

    async def start(self) -> None:
        """Begin to watch; needs a running event loop."""
        if self._poll is None:
            self._poll = asyncio.ensure_future(asyncio.gather(*map(self._watch, self._handles)))

    async def close(self) -> None:
        """Stop watching."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.gather(self._poll, return_exceptions=True)
            self._poll = None

    def loads(self, size: Size) -> tuple[ReplicaLoad, ...]:
        """As last seen."""
        return self._loads.get(size, ())

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
            self._loads[size] = await ask_all(self._handles[size], ReplicaLoad, _ANSWER_S, "load")
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
