"""Blocks that can be shared: found by what all their tokens are, from the first of the prompt on."""

from array import array
from collections.abc import Sequence as Tokens
from enum import IntEnum
from hashlib import sha256

from model.blocks import BlockPool
from model.eviction import EvictionOrder
from model.marks import Marks

_PROVEN_SHARE = 0.8  # of the pool; segmented LRUs are usually split so (memcached, Caffeine), not measured here


class Kind(IntEnum):
    """Which layers' keys and values a block holds; the same tokens have one block of each."""

    GLOBAL = 0
    WINDOW = 1


def first_link(salt: str) -> bytes:
    """Where every chain of one tenant begins; two tenants have no link in common."""
    return sha256(salt.encode("utf-8", "surrogatepass")).digest()


def next_link(link: bytes, tokens: Tokens[int]) -> bytes:
    """The name of a full block: its tokens after everything before them, 32 bytes.

    A keyless but strong hash, since prompts come from strangers, and a collision would mix two of them.
    """
    return sha256(link + array("I", tokens).tobytes()).digest()


class PrefixCache:
    """The pool, with a memory: a block that was published and is held by nobody stays findable until it is evicted."""

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self._idle = EvictionOrder(int(pool.num_blocks * _PROVEN_SHARE))
        self._found: tuple[dict[bytes, int], dict[bytes, int]] = ({}, {})  # by kind
        self._names: dict[int, tuple[Kind, bytes]] = {}  # of published blocks
        self._shared: set[int] = set()  # published blocks that were found at least once
        self.marks = Marks()  # of the global blocks: without them nothing is found

    @property
    def num_available(self) -> int:
        """Blocks that `take` can give out."""
        return self._pool.num_free + len(self._idle)

    @property
    def num_idle(self) -> int:
        """Blocks that can be found and are held by nobody."""
        return len(self._idle)

    @property
    def num_published(self) -> int:
        """Blocks that can be found, held or idle."""
        return len(self._names)

    def take(self) -> int:
        """A block for new tokens; evicts the least worthy idle one if none is free."""
        if not self._pool.num_free:
            self._evict()
        return self._pool.take()

    def publish(self, kind: Kind, link: bytes, block: int, depth: int = 1) -> None:
        """Let others find a full, computed block. Where an equal one is known already, this one stays private.

        `depth` is its place in the prompt, the first being 1; only `marks` want it.
        """
        if link not in self._found[kind]:
            self._found[kind][link] = block
            self._names[block] = (kind, link)
            if kind is Kind.GLOBAL:
                self.marks.add(link, depth)

    def find(self, kind: Kind, link: bytes) -> int | None:
        """The block of that name."""
        return self._found[kind].get(link)

    def is_idle(self, block: int) -> bool:
        """Published and held by nobody."""
        return block in self._idle

    def is_private(self, block: int) -> bool:
        """Held by one sequence only."""
        return self._pool.holders(block) == 1

    def share(self, block: int) -> None:
        """One more sequence holds a block it found."""
        if self._pool.hold(block):
            self._idle.remove(block)
        self._shared.add(block)
        kind, link = self._names[block]
        if kind is Kind.GLOBAL:
            self.marks.touch(link)

    def give_back(self, block: int) -> None:
        """A sequence needs it no more. Give back tails before heads: the first idle is the first evicted."""
        if not self._pool.release(block):
            return
        if block in self._names:
            self._idle.add(block, block in self._shared)
        else:
            self._pool.free(block)

    def drop(self) -> None:
        """Evict every idle block."""
        while self._idle:
            self._evict()

    def check(self) -> None:
        """Raise RuntimeError if a block is lost or counted twice; costs a look at all of them."""
        self._pool.check(len(self._idle))

    def _evict(self) -> None:
        block = self._idle.pop()
        kind, link = self._names.pop(block)
        del self._found[kind][link]
        if kind is Kind.GLOBAL:
            self.marks.discard(link)
        self._shared.discard(block)
        self._pool.free(block)
