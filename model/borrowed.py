"""The first engine: transformers' continuous batching behind the `Engine` protocol, until our own loop wins.

The library's manager owns a thread that schedules, forwards and samples; this file turns its cumulative outputs into
events. With several ranks every rank runs the same manager: rank 0 broadcasts new and cancelled requests, and each
step begins with an all-reduce, so followers only have to `follow`.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from transformers import ContinuousBatchingConfig, GenerationConfig

from model import shard
from model.attention import use_soft_cap
from model.config import CONTEXT_TOKENS, STOP_IDS, EngineConfig
from model.detokenizer import Detokenizer
from model.engine import EngineLoad, RankReport
from model.errors import Code, Fault
from model.events import Event, Failed, Finished, FinishReason, TokenEvent, Usage
from model.greedy import use_greedy
from model.request import GenerationRequest, RequestId, SamplingParams
from model.verify import check_golden
from model.weights import load
from model.world import World

log = logging.getLogger("gemmule.engine")

_PAGE_TOKENS: Final = 32  # tokens of one layer's page; small, since toy prompts are short
_RANK_SILENCE_S: Final = 60.0  # a rank that is silent for so long inside a step counts as lost


class BorrowedEngine:
    """One replica's engine, or one rank of it. See `model.engine.Engine` for the contract."""

    def __init__(
        self,
        folder: Path,
        config: EngineConfig,
        world: World | None = None,
        threads: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._config = config
        self._world = world or World()
        self._threads = threads
        self._clock = clock
        self._live: set[RequestId] = set()
        self._tokenizer: Tokenizer | None = None
        self._manager: Any = None
        self._report: RankReport | None = None
        self.logit_difference: float | None = None
        self.start_s: dict[str, float] = {}  # part of the start -> seconds

    async def start(self) -> None:
        """Load, verify and warm up in a thread; raises `CheckpointError`."""
        await asyncio.to_thread(self.load_here)
        began_s = self._clock()
        warm = GenerationRequest(RequestId("warm-up"), (2, 106), SamplingParams(2, temperature=0.0), timeout_s=120.0)
        async for event in self.submit(warm):
            if isinstance(event, Failed):
                raise RuntimeError(f"the warm-up request failed: {event.fault.message}")
        self.start_s["warm_up"] = self._clock() - began_s

    def load_here(self) -> None:
        """Everything up to the running manager; blocks, and on a follower it is all there is to do."""
        torch.set_num_threads(self._threads)
        parts = [("join", self._join), ("weights", self._load), ("gate", self._gate), ("engine", self._begin)]
        for name, part in parts:
            began_s = self._clock()
            part()
            self.start_s[name] = self._clock() - began_s

    def follow(self) -> None:
        """Block until the group ends; for ranks above 0, after `load_here`."""
        self._manager._generation_thread.join()

    def submit(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Events of one request; closing the generator aborts it."""
        if not self.healthy():
            return _only(Failed(request.request_id, Fault(Code.NOT_READY, "the engine is not running", "not_ready")))
        if len(self._live) >= self._config.max_running + self._config.max_waiting:
            full = f"{len(self._live)} requests are running or waiting here"
            return _only(Failed(request.request_id, Fault(Code.OVERLOADED, full, "overloaded", None, 2.0)))
        return self._generate(request)

    async def _generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        deadline_s = asyncio.get_running_loop().time() + request.timeout_s
        outputs: asyncio.Queue[Any] = asyncio.Queue()
        text = Detokenizer(self._tokenizer_here(), request.sampling.stop)
        prompt_tokens, seen = len(request.prompt_token_ids), 0
        self._live.add(request.request_id)
        try:
            self._send(request, outputs)
            while True:
                try:
                    async with asyncio.timeout_at(deadline_s):
                        output = await outputs.get()
                except TimeoutError:
                    late = f"deadline_ms: {request.timeout_s * 1000:.0f} ms passed after {seen} tokens"
                    fault = Fault(Code.DEADLINE_EXCEEDED, late, "deadline_exceeded", "deadline_ms")
                    yield Failed(request.request_id, fault)
                    return
                while not outputs.empty():  # outputs are cumulative: join what is waiting
                    output = outputs.get_nowait()
                if output.error is not None:
                    log.error("engine failed a request", extra={"request_id": request.request_id})
                    yield Failed(request.request_id, self._fault())
                    return
                new = tuple(output.generated_tokens[seen:])
                seen += len(new)
                stop = any(token in STOP_IDS for token in new)
                piece = text.feed([token for token in new if token not in STOP_IDS])
                done = output.is_finished() or stop or text.stopped
                if done:
                    piece += text.finish()
                if piece or (new and not done):
                    yield TokenEvent(request.request_id, piece, new)
                if done:
                    reason = FinishReason.STOP if stop or text.stopped else FinishReason.LENGTH
                    yield Finished(request.request_id, reason, Usage(prompt_tokens, seen))
                    return
        finally:
            self.abort(request.request_id)

    def _fault(self) -> Fault:
        """Why the manager failed a request: a broken group ends with its replica, anything else is a bug."""
        if self._world.sharded and not self.healthy():
            return Fault(Code.REPLICA_LOST, "a rank of the replica was lost", "replica_lost", None, 1.0)
        return Fault(Code.INTERNAL, "the engine failed on this request", "internal_error")

    def _send(self, request: GenerationRequest, outputs: asyncio.Queue[Any]) -> None:
        sampling = request.sampling
        greedy = sampling.temperature == 0.0
        vocabulary = self._manager.model.config.vocab_size
        self._manager.register_result_handler(request.request_id, outputs.put_nowait)
        self._manager.add_request(
            list(request.prompt_token_ids),
            request_id=request.request_id,
            max_new_tokens=max(1, min(sampling.max_tokens, CONTEXT_TOKENS - len(request.prompt_token_ids))),
            streaming=True,
            eos_token_id=list(STOP_IDS),
            # Below a thousandth the logits would overflow; such a temperature is greedy to any eye.
            temperature=1.0 if greedy else max(sampling.temperature, 1e-3),
            top_k=1 if greedy else min(sampling.top_k or vocabulary, vocabulary),
            top_p=1.0 if greedy else max(sampling.top_p, 1e-6),
        )

    def abort(self, request_id: RequestId) -> None:
        """End a request; unknown and finished ids are ignored."""
        if request_id in self._live:
            self._live.discard(request_id)
            self._manager.output_router.result_handlers.pop(request_id, None)
            self._manager.cancel_request(request_id)

    def healthy(self) -> bool:
        """Whether the manager's thread runs."""
        return bool(
            self._manager and self._manager.is_running() and not self._manager.background_thread_status.fatal_error
        )

    def load(self) -> EngineLoad:
        """Counts as of the manager's last step."""
        total = self._config.kv_tokens
        processor = self._manager.batch_processor
        if processor is None:
            return EngineLoad(0, len(self._live), total, total)
        running = len(processor.scheduler.active_requests)
        waiting = len(processor.scheduler.waiting_requests) + self._manager.input_queue.qsize()
        return EngineLoad(running, waiting, int(processor.cache.compute_free_capacity() * total), total)

    def ranks(self) -> tuple[RankReport, ...]:
        """The rank's own report; the replica joins those of its followers."""
        return (self._report,) if self._report else ()

    async def close(self) -> None:
        """Stop the manager; running requests end with `Failed`."""
        if self._manager is not None:
            with suppress(Exception):  # the group may be gone already, which is what we want
                await asyncio.to_thread(self._manager.stop, block=True, timeout=10, hard_stop=True)

    def _join(self) -> None:
        if self._world.sharded:
            shard.join(self._world)

    def _load(self) -> None:
        self._tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        self._model = load(self._folder, self._config.dtype, self._world)
        self._report = shard.report(self._model, self._world)

    def _gate(self) -> None:
        self.logit_difference = check_golden(self._model, self._folder, self._config.dtype)

    def _begin(self) -> None:
        use_soft_cap()
        # A per-request sampler exists only where the defaults here are not neutral; each request gives its own.
        sampling = GenerationConfig(
            do_sample=True, temperature=0.5, top_k=2, top_p=0.5, eos_token_id=list(STOP_IDS), pad_token_id=0
        )
        self._manager = self._model.init_continuous_batching(
            generation_config=sampling,
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=_PAGE_TOKENS,
                num_blocks=self._config.kv_tokens // _PAGE_TOKENS,
                max_batch_tokens=self._config.max_step_tokens,
                max_requests_per_batch=self._config.max_running,
                per_request_processors=True,
                allow_block_sharing=False,
                use_async_batching=False,
                cpu_group_timeout=_RANK_SILENCE_S,
                auto_switch_to_flash=False,  # it may fetch kernels from the hub, and is not the oracle's arithmetic
            ),
        )
        use_greedy(self._manager.logit_processor)
        self._manager.start()

    def _tokenizer_here(self) -> Tokenizer:
        if self._tokenizer is None:
            raise RuntimeError("start() has not returned")
        return self._tokenizer


async def _only(event: Event) -> AsyncGenerator[Event, None]:
    yield event
