"""Requests -> the store, beside them: offered on the event loop, written by a thread, dropped before they delay."""

import logging
import queue
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from serving.ask import Ask
from serving.guides import guide_of
from serving.prompting import Prompt
from serving.traffic.store import Bounds, Sampled, Store, TrafficError

log = logging.getLogger("gemmule.traffic")

_WAITING: Final = 256  # prompts; a full queue drops
_BATCH: Final = 64
_FORGET_EVERY_S: Final = 60.0  # retention holds also when nobody asks anything


class Sampler:
    """One per ingress process; several write to one store."""

    def __init__(
        self,
        path: Path,
        share: float,
        bounds: Bounds,
        count: Callable[[str, int], None],
        clock: Callable[[], float],
        rng: random.Random | None = None,
    ) -> None:
        """`count` hears what became of prompts (`kept`, `dropped`); `clock` is seconds since 1970."""
        self._path, self._share, self._bounds, self._count, self._clock = path, share, bounds, count, clock
        self._rng = rng or random.Random()  # noqa: S311 - which requests are drawn is no secret
        self._queue: queue.Queue[Sampled | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._write, daemon=True, name="traffic")

    def start(self) -> None:
        """From now on the queue is emptied."""
        self._thread.start()

    def offer(self, ask: Ask, prompt: Prompt) -> None:
        """Draw, and queue what is drawn. Takes microseconds, never waits, never fails.

        Left out: what the client wants kept out (`store: false`), prompts of token ids, in which routing sees no
        text, and answers held to a shape, which no plain answer can be compared with.
        """
        if self._rng.random() >= self._share:
            return
        if ask.store is False or not prompt.last_user_text or guide_of(ask) is not None:
            return
        sampled = Sampled(
            self._clock(), ask.model, prompt.last_user_text, prompt.num_turns, prompt.token_ids, prompt.max_tokens
        )
        try:
            self._queue.put_nowait(sampled)
        except queue.Full:
            self._count("dropped", 1)

    def close(self) -> None:
        """Write what waits, and end."""
        self._queue.put(None)
        self._thread.join()

    def _write(self) -> None:
        """The thread: batches as they come, retention when none do. A store that fails is opened anew the next time."""
        store: Store | None = None
        batch: list[Sampled] | None = []  # at start, only retention
        while batch is not None:
            try:
                if store is not None and store.moved():
                    store.close()
                    store = None
                store = store or Store.open(self._path)
                store.add(batch, self._bounds, self._clock())
                self._count("kept", len(batch))
            except TrafficError as error:
                log.warning("sampled prompts were not written", extra={"prompts": len(batch), "why": str(error)})
                self._count("dropped", len(batch))
                if store is not None:
                    store.close()
                    store = None
            batch = self._next()
        if store is not None:
            store.close()

    def _next(self) -> list[Sampled] | None:
        """What waits, an empty list after a while of nothing, None at the end."""
        batch: list[Sampled] = []
        try:
            item = self._queue.get(timeout=min(_FORGET_EVERY_S, self._bounds.retention_s / 2))
            while item is not None:
                batch.append(item)
                if len(batch) == _BATCH:
                    return batch
                item = self._queue.get_nowait()
        except queue.Empty:
            return batch
        if not batch:
            return None
        self._queue.put(None)  # write these first; nobody offers any more
        return batch
