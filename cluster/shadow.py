"""A sample of what smaller sizes answered, read by the largest one: are the promises kept? Nobody waits for it."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from cluster.config import ShadowConfig, Tier
from cluster.promise_watch import PromiseWatch
from cluster.routing.agreement import MARGIN, closed, regret
from cluster.snapshot import Placed
from model.config import Size
from model.errors import GemmuleError
from model.events import Event, Finished, FinishReason, PromptScored, TokenEvent
from model.request import GenerationRequest, RequestId, SamplingParams

log = logging.getLogger("gemmule.router")

_LAST: Final = 10_000  # an engine's priority behind everything that somebody waits for
_AT_ONCE: Final = 2
_TIMEOUT_S: Final = 60.0

Stream = AsyncGenerator[Placed | Event, None]
Read = Callable[[GenerationRequest], Stream]
"""A request on the largest size, as a shadow's work."""


class Shadow:
    """One per router. Draws by the request's id: a retry is drawn again, and the share does not depend on time."""

    def __init__(self, config: ShadowConfig, watch: PromiseWatch, largest: Size, read: Read) -> None:
        self._config, self._watch, self._largest, self._ask = config, watch, largest, read
        self._reading: set[asyncio.Task[None]] = set()

    def drawn(self, request_id: RequestId) -> bool:
        """Whether this request is watched."""
        if not self._config.share:
            return False
        digest = hashlib.blake2b(f"{self._config.seed}:{request_id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self._config.share * 2**64

    async def listening(self, tier: Tier, request: GenerationRequest, stream: Stream) -> Stream:
        """The same stream; the answer is looked at once it is complete."""
        size = self._largest
        answer: list[int] = []
        async with aclosing(stream):
            async for item in stream:
                match item:
                    case Placed(decision=decision):
                        size = decision.size
                    case TokenEvent(token_ids=ids):
                        answer += ids
                    case Finished(reason=reason):
                        self._look(tier, request, size, closed(answer, reason is FinishReason.STOP))
                    case _:
                        pass
                yield item

    def _look(self, tier: Tier, request: GenerationRequest, size: Size, answer: tuple[int, ...]) -> None:
        if size is self._largest:  # as it is for ever more requests of a careful tier
            self._watch.saw(tier, True)
        elif answer and len(self._reading) < _AT_ONCE:
            task = asyncio.create_task(self._read(tier, request, answer), name="shadow")
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)

    async def _read(self, tier: Tier, request: GenerationRequest, answer: tuple[int, ...]) -> None:
        asked = replace(
            request, request_id=RequestId(f"{request.request_id}-shadow"), timeout_s=_TIMEOUT_S, priority=_LAST,
            prompt_token_ids=(*request.prompt_token_ids, *answer), draft_token_ids=(), prompt_lookup=False,
            sampling=SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=1),
        )  # fmt: skip
        try:
            async with aclosing(self._ask(asked)) as stream:
                async for item in stream:
                    if isinstance(item, PromptScored):
                        scores = item.logprobs[-len(answer) :]
                        best = [max(score.logprob, score.top[0][1]) for score in scores]
                        self._watch.saw(tier, regret([score.logprob for score in scores], best) <= MARGIN)
        except GemmuleError as error:
            log.info("shadow not read", extra={"request_id": request.request_id, "code": error.fault.code})

    async def close(self) -> None:
        """Drop what is still being read."""
        for task in tuple(self._reading):
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
