"""Where requests come in: what is refused at once, and what an accepted one brings along to the loop."""

import itertools
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import torch

from model.config import CONTEXT_TOKENS, STOP_IDS, EngineConfig
from model.contract import EngineLoad
from model.detokenizer import Detokenizer
from model.errors import Code, Fault, GemmuleError
from model.events import Event
from model.guided import GuideCompiler
from model.live import Live
from model.lookup import Lookup
from model.request import GenerationRequest, RequestId
from model.runner import BLOCK_TOKENS
from model.sampling import SamplingState
from model.sequence import Sequence
from model.starting import Parts
from model.verify import accept, golden_rows

_GUIDE_TIMEOUT_S: Final = 5.0


class Door:
    """Keeps who is in. `refusal` and `open` run on the event loop, `enter` and `abort` in the engine's thread."""

    def __init__(self, parts: Parts, config: EngineConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._config = config
        self._clock = clock
        self._number = itertools.count()
        self._guides: GuideCompiler | None = None
        self._context_tokens = min(CONTEXT_TOKENS, parts.scheduler.capacity_tokens)  # prompt and answer of one request
        self.live: dict[Sequence, Live] = {}

    def refusal(self, request: GenerationRequest) -> Fault | None:
        """Why a request is not even tried."""
        if len(self.live) >= self._config.max_running + self._config.max_waiting:
            full = f"{len(self.live)} requests are running or waiting here"
            return Fault(Code.OVERLOADED, full, "overloaded", None, 2.0)
        tokens = len(request.prompt_token_ids)
        if not 0 < tokens < self._context_tokens:
            allowed = f"prompt is {tokens} tokens, 1 to {self._context_tokens - 1} are possible here; shorten it"
            return Fault(Code.INVALID_REQUEST, f"messages: {allowed}", "context_length_exceeded", "messages")
        if request.timeout_s <= 0:
            return self.late(request, None)
        return None

    def late(self, request: GenerationRequest, live: Live | None) -> Fault:
        """Its time is over."""
        seen = live.sequence.num_output if live else 0
        late = f"deadline_ms: {request.timeout_s * 1000:.0f} ms passed after {seen} tokens"
        return Fault(Code.DEADLINE_EXCEEDED, late, "deadline_exceeded", "deadline_ms")

    async def open(self, request: GenerationRequest, deliver: Callable[[Event], None]) -> Live | Fault:
        """All that the loop needs for a request, its guide compiled; or what is wrong with it."""
        try:
            matcher = await self._matcher(request)
            state = SamplingState(request, self._parts.model.vocabulary, secrets.randbits(63), matcher)
        except GemmuleError as error:
            return error.fault
        total = min(self._context_tokens, len(request.prompt_token_ids) + request.sampling.max_tokens)
        sequence = Sequence(request, next(self._number), self._clock(), total)
        text = Detokenizer(self._parts.tokenizer, request.sampling.stop)
        known = tuple(token for token in request.draft_token_ids if 0 <= token < self._parts.model.vocabulary)
        lookup = Lookup(known, request.prompt_lookup, request.prompt_token_ids)
        return Live(sequence, state, text, lookup, deliver)

    async def _matcher(self, request: GenerationRequest) -> Any:
        guide = request.sampling.guide
        if guide is None:
            return None
        if self._guides is None:
            self._guides = GuideCompiler(self._parts.tokenizer, self._parts.model.vocabulary, STOP_IDS)
        return (await self._guides.compile(guide, min(_GUIDE_TIMEOUT_S, request.timeout_s))).matcher()

    def enter(self, live: Live) -> None:
        """It waits for its turn from now on."""
        self._parts.scheduler.add(live.sequence)
        self.live[live.sequence] = live

    def abort(self, request_id: RequestId) -> None:
        """End whoever has this id."""
        for live in list(self.live.values()):
            if live.sequence.request.request_id == request_id:
                live.fail(Fault(Code.ABORTED, "the request was aborted", "aborted"))
                self._parts.scheduler.abort(live.sequence)
                del self.live[live.sequence]

    def load(self) -> EngineLoad:
        """Counts for routing; a token takes two blocks' places, one of each kind."""
        load = self._parts.scheduler.load()
        per_block = BLOCK_TOKENS // 2
        return EngineLoad(
            running=load.running,
            waiting=load.waiting,
            free_kv_tokens=load.free_blocks * per_block,
            total_kv_tokens=load.total_blocks * per_block,
        )

    async def gate(
        self, folder: Path, config: EngineConfig, logits: Callable[[tuple[int, ...]], Awaitable[list[float]]]
    ) -> float | None:
        """The golden logits through the loop itself; raises `CheckpointError` with the size of the difference."""
        rows = [row for row in golden_rows(folder) if row.position + 1 < self._context_tokens]
        differences = [row.difference(torch.tensor(await logits(row.ids[: row.position + 1]))) for row in rows]
        return accept(differences, folder, config)

    def close(self) -> None:
        """Let the guides' process go."""
        if self._guides is not None:
            self._guides.close()
