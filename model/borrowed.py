"""transformers' continuous batching behind the engine's contract: an oracle for the tests, and a peer.

It is not served. The library's manager owns a thread that schedules, forwards and samples; this file turns its
cumulative outputs into events. With several ranks every rank runs the same manager: rank 0 broadcasts new and cancelled
requests, and each step begins with an all-reduce, so followers only have to `follow`.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer

from model import shard
from model.batching import make_manager
from model.config import CONTEXT_TOKENS, STOP_IDS, EngineConfig
from model.contract import EngineLoad, RankReport
from model.detokenizer import Detokenizer
from model.errors import Code, Fault
from model.events import Event, Failed, Finished, FinishReason, TokenEvent, Usage
from model.inbox import Inbox
from model.request import GenerationRequest, RequestId
from model.weights import load
from model.world import World

log = logging.getLogger("gemmule.engine")

_PULSE_S: Final = 1.0  # how often a stream that hears nothing asks whether the engine still runs


class BorrowedEngine:
    """One replica's engine, or one rank of it. See `model.contract.EngineContract` for the contract."""

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
        self._context_tokens = min(CONTEXT_TOKENS, config.kv_tokens)  # prompt and answer of one request
        self._live: dict[str, tuple[RequestId, Inbox[Any]]] = {}  # by the manager's id
        self._number = itertools.count()
        self._closing = False
        self._tokenizer: Tokenizer | None = None
        self._model: Any = None
        self._manager: Any = None
        self._report: RankReport | None = None
        self.start_s: dict[str, float] = {}  # part of the start -> seconds

    async def start(self) -> None:
        """Load, verify and warm up in a thread; raises `CheckpointError`."""
        await asyncio.to_thread(self.load_here)

    def load_here(self) -> None:
        """Everything up to the running manager; blocks, and on a follower it is all there is to do."""
        torch.set_num_threads(self._threads)
        parts = [("join", self._join), ("weights", self._load), ("engine", self._begin)]
        for name, part in parts:
            began_s = self._clock()
            part()
            self.start_s[name] = self._clock() - began_s

    def follow(self) -> None:
        """Block until the group ends; for ranks above 0, after `load_here`."""
        self._manager._generation_thread.join()

    def submit(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Events of one request; closing the generator aborts it."""
        refusal = self._refusal(request)
        return _only(Failed(request.request_id, refusal)) if refusal else self._generate(request)

    def _refusal(self, request: GenerationRequest) -> Fault | None:
        """Why a request is not even tried. What no cache can hold would end the manager's loop, so it stays out."""
        if not self.healthy() or self._closing:
            return Fault(Code.NOT_READY, "the engine is not running", "not_ready", None, 5.0)
        if len(self._live) >= self._config.max_running + self._config.max_waiting:
            full = f"{len(self._live)} requests are running or waiting here"
            return Fault(Code.OVERLOADED, full, "overloaded", None, 2.0)
        tokens = len(request.prompt_token_ids)
        if not 0 < tokens < self._context_tokens:
            allowed = f"prompt is {tokens} tokens, 1 to {self._context_tokens - 1} are possible here; shorten it"
            return Fault(Code.INVALID_REQUEST, f"messages: {allowed}", "context_length_exceeded", "messages")
        return _late(request, 0) if request.timeout_s <= 0 else None

    async def _generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + request.timeout_s
        inbox: Inbox[Any] = Inbox()
        text = Detokenizer(self._tokenizer_here(), request.sampling.stop)
        seen, over = 0, False
        key = self._new_key(request)
        try:
            self._send(key, request, inbox)
            while True:
                output = await inbox.take(min(deadline_s, loop.time() + _PULSE_S))
                if output is None and loop.time() < deadline_s:
                    if self.healthy():
                        continue
                    yield Failed(request.request_id, self._broken())
                    return
                if output is None:
                    yield Failed(request.request_id, _late(request, seen))
                    return
                if isinstance(output, Fault) or output.error is not None:
                    fault = output if isinstance(output, Fault) else self._broken()
                    log.error("request failed", extra={"request_id": request.request_id, "code": fault.code})
                    yield Failed(request.request_id, fault)
                    return
                over = output.is_finished()
                new = tuple(output.generated_tokens[seen:])
                ended = bool(new) and new[-1] in STOP_IDS  # the manager goes no further than such a token
                words = new[:-1] if ended else new
                piece = text.feed(words)
                shown = words[: text.num_ids - seen]  # what came after a stop string does not count
                seen += len(shown) + (ended and not text.stopped)
                if over or ended or text.stopped:
                    piece += text.finish()
                if piece or shown:
                    yield TokenEvent(request.request_id, piece, shown)
                if over or ended or text.stopped:
                    reason = FinishReason.STOP if ended or text.stopped else FinishReason.LENGTH
                    yield Finished(request.request_id, reason, Usage(len(request.prompt_token_ids), seen))
                    return
        finally:
            self._forget(key, cancel=not over)

    def _new_key(self, request: GenerationRequest) -> str:
        """A request's id inside the manager, new each time.

        The manager takes new requests before cancellations, so a request that came back under the id of one just
        aborted would be cancelled in its place.
        """
        return f"{request.request_id}/{next(self._number)}"

    def _send(self, key: str, request: GenerationRequest, inbox: Inbox[Any]) -> None:
        """Hand a request to the manager."""
        sampling = request.sampling
        greedy = sampling.temperature == 0.0
        vocabulary = self._manager.model.config.vocab_size
        self._live[key] = (request.request_id, inbox)
        self._manager.register_result_handler(key, inbox.put)
        taken = self._manager.add_request(
            list(request.prompt_token_ids),
            request_id=key,
            max_new_tokens=max(1, min(sampling.max_tokens, self._context_tokens - len(request.prompt_token_ids))),
            streaming=True,
            eos_token_id=list(STOP_IDS),
            # Below a thousandth the logits would overflow; such a temperature is greedy to any eye.
            temperature=1.0 if greedy else max(float(sampling.temperature), 1e-3),
            top_k=1 if greedy else min(sampling.top_k or vocabulary, vocabulary),
            top_p=1.0 if greedy else max(float(sampling.top_p), 1e-6),
        )
        if taken is None:  # its loop has just ended
            inbox.put(self._broken(), last=True)

    def _forget(self, key: str, cancel: bool = True) -> None:
        """The one place where a request leaves; the manager frees its blocks before its next step."""
        self._live.pop(key, None)
        self._manager.output_router.result_handlers.pop(key, None)
        if cancel:
            self._manager.cancel_request(key)

    def abort(self, request_id: RequestId) -> None:
        """End a request; unknown and finished ids are ignored."""
        for owner, inbox in self._live.values():
            if owner == request_id:
                inbox.put(Fault(Code.ABORTED, "the request was aborted", "aborted"), last=True)

    def _broken(self) -> Fault:
        """Why the manager failed a request: a broken group ends with its replica, anything else is a bug."""
        if self._closing or (self._world.sharded and not self.healthy()):
            return Fault(Code.REPLICA_LOST, "the replica is ending", "replica_lost", None, 1.0)
        return Fault(Code.INTERNAL, "the engine failed on this request", "internal_error")

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
        self._closing = True
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

    def _begin(self) -> None:
        self._manager = make_manager(self._model, self._config)
        self._manager.start()

    def _tokenizer_here(self) -> Tokenizer:
        if self._tokenizer is None:
            raise RuntimeError("start() has not returned")
        return self._tokenizer


async def _only(event: Event) -> AsyncGenerator[Event, None]:
    yield event


def _late(request: GenerationRequest, seen: int) -> Fault:
    late = f"deadline_ms: {request.timeout_s * 1000:.0f} ms passed after {seen} tokens"
    return Fault(Code.DEADLINE_EXCEEDED, late, "deadline_exceeded", "deadline_ms")
