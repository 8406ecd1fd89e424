"""One attempt at a request on one size: open the replica's stream, say what goes wrong in the cluster's own words."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any, Final

from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from cluster.fleet import Fleet
from cluster.snapshot import Decision, Hello, Placed
from cluster.trail import Role, Trail, Work, price
from model.config import Size
from model.errors import Code, DeadlineExceededError, Fault, GemmuleError, OverloadedError, ReplicaLostError
from model.events import Event, Failed, Finished, TokenEvent, Usage
from model.request import GenerationRequest

log = logging.getLogger("gemmule.router")

_QUEUE_RETRY_S: Final = 2.0


class _Working:
    """What one size has done so far."""

    def __init__(self, prompt_tokens: int) -> None:
        self.usage = Usage(prompt_tokens, 0)
        self.finished = False

    def see(self, item: Event) -> None:
        """The next event."""
        match item:
            case TokenEvent(token_ids=ids):
                self.usage = replace(self.usage, output_tokens=self.usage.output_tokens + len(ids))
            case Finished(usage=usage):
                self.usage, self.finished = usage, True
            case _:
                pass


class Attempts:
    """Opens streams, and keeps the fleet's counts true."""

    def __init__(self, fleet: Fleet, handles: Mapping[Size, DeploymentHandle], usd: Mapping[Size, float]) -> None:
        """`usd` for a million output tokens of each size."""
        self._fleet, self._handles, self._usd = fleet, handles, usd

    async def open(
        self, decision: Decision, request: GenerationRequest, deadline_s: float, trail: Trail
    ) -> AsyncGenerator[Placed | Event, None]:
        """One attempt on one size. `Placed` is held back until the first event, so that a retry stays possible.

        `deadline_s` on the event loop's clock. Raises a `GemmuleError` before `Placed`; later a loss is the last event.
        """
        size, fleet = decision.size, self._fleet
        work = _Working(len(request.prompt_token_ids))
        clock = asyncio.get_running_loop().time
        length = min(decision.offer(size).output_tokens, request.sampling.max_tokens)
        run = fleet.pacing.begin(fleet.state(size), len(request.prompt_token_ids), length, clock())
        latest_s = run.latest_s(request.timeout_s)
        fleet.ongoing[size][decision.tier] += 1
        stream: Any = None
        hello: Hello | None = None
        placed = False
        try:
            async with asyncio.timeout_at(deadline_s):
                await fleet.awake(size)
            stream = self._handles[size].options(stream=True).generate.remote(request)
            while True:
                try:
                    async with asyncio.timeout_at(deadline_s if placed else min(deadline_s, latest_s)):
                        item = await anext(stream)
                except StopAsyncIteration:
                    raise ReplicaLostError(f"{size}: the replica's stream ended without a last event") from None
                if isinstance(item, Hello):
                    hello = item
                    continue
                work.see(item)
                run.seen(clock())
                if not placed:
                    if isinstance(item, Failed):
                        raise GemmuleError(item.fault)
                    yield Placed(decision, hello.replica if hello else str(size), hello.checkpoint if hello else "")
                    placed = True
                yield item
                if isinstance(item, Finished | Failed):  # the last
                    return
        except TimeoutError:
            for event in _end(_too_late(size, waits=clock() < deadline_s), request, placed):
                yield event
        except (RayActorError, DeploymentUnavailableError) as cause:
            lost = ReplicaLostError(f"a replica of {size} was lost")
            log.warning(
                "replica lost", extra={"request_id": request.request_id, "size": size, "cause": repr(cause)[:200]}
            )
            for event in _end(lost, request, placed):
                yield event
        except BackPressureError:
            for event in _end(OverloadedError(f"{size} is full", _QUEUE_RETRY_S), request, placed):
                yield event
        except (RayError, RayServeException) as cause:
            log.exception("replica failed", extra={"request_id": request.request_id, "size": size})
            fault = Fault(Code.INTERNAL, "the replica failed on this request", "internal_error")
            for event in _end(GemmuleError(fault), request, placed, cause):
                yield event
        finally:
            if work.finished:
                fleet.pacing.end(run, work.usage)
            if placed:
                role = Role.ANSWER if work.finished else Role.LOST
                usd = price(work.usage, self._usd[size])
                trail.works.append(Work(size, hello.replica if hello else str(size), role, work.usage, usd))
            fleet.ended(size, decision.tier)
            if stream is not None:
                stream.cancel()  # a stream left half-read goes on to its last token otherwise


def _too_late(size: Size, waits: bool) -> GemmuleError:
    """Nothing was computed for one that still waits: an answer that nobody can use would take another's time."""
    if waits:
        return OverloadedError(f"{size}: still in the queue, and too little time is left for an answer", _QUEUE_RETRY_S)
    return DeadlineExceededError("the deadline passed and the replica did not answer")


def _end(
    error: GemmuleError, request: GenerationRequest, placed: bool, cause: BaseException | None = None
) -> tuple[Failed, ...]:
    """An error as exception while nothing was sent, as the last event after that."""
    if not placed:
        raise error from cause
    return (Failed(request.request_id, error.fault),)
