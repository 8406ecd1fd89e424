"""Which idle block goes first when a sequence needs one: recency and worth."""

from collections import OrderedDict


class EvictionOrder:
    """Idle blocks, the least worth keeping first; every call is O(1).

    Blocks that nobody ever shared go before those that somebody did, and within each kind those idle longest go first
    (a segmented LRU: Karedla, Love and Wherry, 1994). One use by a stranger says more than any number of fresh blocks:
    a long prompt that passes through once must not push out the system prompt that everybody sends. At most
    `max_proven` blocks have that privilege, so that what was shared long ago ages out as well.
    """

    def __init__(self, max_proven: int) -> None:
        self._max_proven = max_proven
        self._fresh: OrderedDict[int, None] = OrderedDict()  # idle longest first
        self._proven: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._fresh) + len(self._proven)

    def __contains__(self, block: int) -> bool:
        return block in self._fresh or block in self._proven

    def add(self, block: int, proven: bool) -> None:
        """It is idle from now on."""
        if not proven:
            self._fresh[block] = None
            return
        self._proven[block] = None
        if len(self._proven) > self._max_proven:
            oldest, _ = self._proven.popitem(last=False)
            self._fresh[oldest] = None

    def remove(self, block: int) -> None:
        """Somebody holds it again."""
        if block in self._fresh:
            del self._fresh[block]
        else:
            del self._proven[block]

    def pop(self) -> int:
        """The block to evict; the caller knows that there is one."""
        block, _ = (self._fresh or self._proven).popitem(last=False)
        return block
