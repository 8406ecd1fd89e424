"""Answers that keep to a guide: compiles it once, and follows it token by token."""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import xgrammar
from tokenizers import Tokenizer
from torch import Tensor

from model.guide_field import refuse
from model.guide_limits import prepared
from model.guide_process import GuideProcess, TooLongError
from model.guide_worker import COMPILED, load_vocabulary
from model.request import Guide, GuideKind

_CACHED: Final = 256
"""Guides; most take less than a megabyte each with the full vocabulary."""
_CACHED_BYTES: Final = 512 << 20
_AT_ONCE: Final = 2
_PATIENCE_S: Final = 2.0
_PATIENCE_S_PER_TOKEN: Final = 0.01
"""Processor time that following one answer may take. An ambiguous guide costs more with every token it has taken
(`(a*)*(a*)*b` a second by token 130), and all sequences of a step wait for it."""


class GuideMatcher:
    """Where one answer stands in its guide. Belongs to one sequence and one thread at a time."""

    def __init__(self, kind: GuideKind, grammar: xgrammar.CompiledGrammar) -> None:
        self._kind = kind
        self._matcher = xgrammar.GrammarMatcher(grammar)
        self._spent_s = 0.0
        self._num_tokens = 0

    @property
    def done(self) -> bool:
        """A stop token ended the answer; nothing can follow."""
        return bool(self._matcher.is_terminated())

    def fill(self, mask_row: Tensor) -> None:
        """Write into int32 words [W] on the CPU which tokens may come next: bit i % 32 of word i // 32 is token i.

        Stop tokens are among them once the answer is complete. Raises `InvalidRequestError` when the guide has taken
        more time than it may.
        """
        if self._spent_s > _PATIENCE_S + _PATIENCE_S_PER_TOKEN * self._num_tokens:
            why = (
                f"is too ambiguous: following it for {self._num_tokens} tokens took {self._spent_s:.1f} s; simplify it"
            )
            raise refuse(self._kind, why, "guide_too_slow")
        before_s = time.thread_time()
        self._matcher.fill_next_token_bitmask(mask_row.unsqueeze(0), 0)
        self._spent_s += time.thread_time() - before_s

    def accept(self, token_id: int) -> bool:
        """Go on by a token; False, and nothing has changed, if the guide does not allow it."""
        before_s = time.thread_time()
        accepted = bool(self._matcher.accept_token(token_id))
        self._spent_s += time.thread_time() - before_s
        self._num_tokens += accepted
        return accepted

    def rollback(self, num_tokens: int) -> None:
        """Take back the last tokens that were accepted."""
        if num_tokens:
            self._matcher.rollback(num_tokens)
            self._num_tokens -= num_tokens


@dataclass(frozen=True, slots=True)
class CompiledGuide:
    """A guide that any number of answers can follow, each with a matcher of its own."""

    kind: GuideKind
    grammar: xgrammar.CompiledGrammar

    def matcher(self) -> GuideMatcher:
        """At the beginning of an answer; cheap."""
        return GuideMatcher(self.kind, self.grammar)


class GuideCompiler:
    """Compiles guides in a process that can be stopped, and keeps those used last. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int, stop_ids: Sequence[int]) -> None:
        pieces = _pieces(tokenizer, vocabulary)
        self._vocabulary = load_vocabulary(pieces, list(stop_ids))
        self._process = GuideProcess(pieces, list(stop_ids))
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="guide")
        self._lock = threading.RLock()  # what is done at once settles within `compile`
        self._kept: OrderedDict[Guide, Future[CompiledGuide]] = OrderedDict()  # used last at the end

    async def compile(self, guide: Guide, timeout_s: float) -> CompiledGuide:
        """The guide, ready to follow; never blocks the event loop.

        Raises `InvalidRequestError` naming the field if the guide is malformed, not supported, too large or takes
        longer than `timeout_s` from the moment work on it begins.
        """
        ready = prepared(guide)
        with self._lock:
            future = self._kept.get(guide)
            if future is None:
                future = self._kept[guide] = self._threads.submit(self._compile, guide, ready, timeout_s)
                future.add_done_callback(lambda done: self._settle(guide, done))
            self._kept.move_to_end(guide)
        return await asyncio.shield(asyncio.wrap_future(future))  # others may wait for the same

    def close(self) -> None:
        """End the process and the threads; waiting calls fail."""
        self._process.close()
        self._threads.shutdown(cancel_futures=True)

    def _compile(self, guide: Guide, ready: Guide, timeout_s: float) -> CompiledGuide:
        try:
            answer = self._process.compile(ready.kind, ready.text, timeout_s)
        except TooLongError:
            why = f"takes more than {timeout_s:g} s or too much memory to compile; simplify it"
            raise refuse(guide.kind, why, "guide_too_slow") from None
        if answer[:1] != COMPILED:
            raise refuse(guide.kind, answer[1:].decode(errors="replace"))
        grammar = xgrammar.CompiledGrammar.deserialize_json(answer[1:].decode(), self._vocabulary)
        return CompiledGuide(guide.kind, grammar)

    def _settle(self, guide: Guide, done: "Future[CompiledGuide]") -> None:
        """Forget failures, since a busy machine may have caused them, and the oldest guides above the bounds."""
        with self._lock:
            if done.cancelled() or done.exception() is not None:
                self._kept.pop(guide, None)
            sizes = {key: _num_bytes(kept) for key, kept in self._kept.items()}
            while len(sizes) > _CACHED or (len(sizes) > 1 and sum(sizes.values()) > _CACHED_BYTES):
                oldest = next(iter(sizes))
                del sizes[oldest], self._kept[oldest]


def _num_bytes(kept: "Future[CompiledGuide]") -> int:
    ready = kept.done() and not kept.cancelled() and kept.exception() is None
    return int(kept.result().grammar.memory_size_bytes) if ready else 0


def _pieces(tokenizer: Tokenizer, vocabulary: int) -> list[str]:
    """Every token's piece; those without text are empty: special tokens, and ids that the tokenizer does not have."""
    special = {token_id for token_id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    pieces = [""] * vocabulary
    for piece, token_id in tokenizer.get_vocab().items():
        if token_id < vocabulary and token_id not in special:
            pieces[token_id] = piece
    return pieces
