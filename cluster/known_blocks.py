"""What a router believes a replica to have cached: what it sent there, corrected by what the replica tells."""

from collections.abc import Sequence
from typing import Final

from model.marks import is_mark

_FORGET_S: Final = 20.0
_MOST: Final = 65_536  # blocks of a replica that has not said how many it has: a million tokens


class KnownBlocks:
    """Names of blocks (`model.prefix_names`) of one replica; the caller brings the clock.

    A send counts at once, so that the second of two equal prompts follows the first before anything is computed. From
    `_FORGET_S` after the last send on, only what the replica itself tells counts: its cache may be smaller than
    thought. It tells of round depths only (`model.marks`); in between, what was sent is believed.
    """

    def __init__(self) -> None:
        self._sent: dict[int, float] = {}  # name -> instant of the last send, the longest ago first
        self._told: frozenset[int] = frozenset()
        self._complete = False  # what is not told is not there
        self._most = _MOST

    def sent(self, names: Sequence[int], now_s: float) -> None:
        """A prompt of these blocks is on its way; costs a look at each of them."""
        for name in reversed(names):  # heads last, for they are the last to be evicted
            self._sent.pop(name, None)
            self._sent[name] = now_s
        while len(self._sent) > self._most:
            del self._sent[next(iter(self._sent))]

    def told(self, names: frozenset[int], complete: bool, num_blocks: int) -> None:
        """The replica's own report; `num_blocks` is how many blocks of prompts it can keep."""
        self._told, self._complete, self._most = names, complete, num_blocks

    def leading(self, names: Sequence[int], now_s: float) -> int:
        """How many of a prompt's leading blocks the replica is believed to have."""
        deepest = 0
        for depth, name in enumerate(names, start=1):
            if self._has(depth, name, now_s):
                deepest = depth
            elif is_mark(depth) and self._complete:
                break
        return deepest

    def _has(self, depth: int, name: int, now_s: float) -> bool:
        if name in self._told:
            return True
        sent_s = self._sent.get(name)
        if sent_s is None:
            return False
        return not (self._complete and is_mark(depth)) or now_s - sent_s < _FORGET_S
