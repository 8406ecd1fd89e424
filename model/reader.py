"""The event loop's side of a request: opened at the door, read until its last event, dropped whoever leaves first."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

from model.door import Door
from model.errors import Code, Fault
from model.events import Event, Failed, Finished
from model.request import GenerationRequest, RequestId, SamplingParams
from model.sequence import Sequence

_NOT_RUNNING: Final = Fault(Code.NOT_READY, "the engine is not running", "not_ready", None, 5.0)
_PULSE_S: Final = 1.0  # how often a stream that hears nothing asks whether the engine still runs


class Reader:
    """Turns requests into streams of events. `command` lets the engine's thread do something before its next step."""

    def __init__(
        self,
        door: Door,
        command: Callable[[Callable[[], None]], None],
        drop: Callable[[Sequence], None],
        why_down: Callable[[], Fault | None],
    ) -> None:
        self._door = door
        self._command = command
        self._drop = drop
        self._why_down = why_down

    async def stream(
        self, request: GenerationRequest, probe: Callable[[Any], None] | None = None
    ) -> AsyncGenerator[Event, None]:
        """Events of one request, the last `Finished` or `Failed`; `probe` gets the logits behind the prompt."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + request.timeout_s
        events: asyncio.Queue[Event] = asyncio.Queue()  # bounded by the request's max_tokens

        def deliver(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        refusal = _NOT_RUNNING if self._why_down() else self._door.refusal(request)
        live = refusal or await self._door.open(request, deliver)
        if isinstance(live, Fault):
            yield Failed(request.request_id, live)
            return
        live.probe = probe
        self._command(lambda: self._door.enter(live))
        try:
            while True:
                event = await self._next(events, min(deadline_s, loop.time() + _PULSE_S))
                if event is None and loop.time() >= deadline_s:
                    event = Failed(request.request_id, self._door.late(request, live))
                elif event is None and (down := self._why_down()):
                    event = Failed(request.request_id, down)
                if event is not None:
                    yield event
                if isinstance(event, Finished | Failed):
                    return
        finally:
            self._command(lambda: self._drop(live.sequence))

    async def logits(self, token_ids: tuple[int, ...]) -> list[float]:
        """Logits [V] of the token after these; raises RuntimeError when the request fails."""
        rows: list[Any] = []
        ask = GenerationRequest(RequestId("logits"), token_ids, SamplingParams(1, temperature=0.0), timeout_s=120.0)
        last = [event async for event in self.stream(ask, rows.append)][-1]
        if not rows:
            raise RuntimeError(f"the engine made no logits: {last}")
        return list(rows[-1].tolist())

    @staticmethod
    async def _next(events: "asyncio.Queue[Event]", until_s: float) -> Event | None:
        try:
            async with asyncio.timeout_at(until_s):
                return await events.get()
        except TimeoutError:
            return None
