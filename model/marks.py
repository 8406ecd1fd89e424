"""A prefix cache in a few kilobytes: the names of blocks at round depths, for whoever chooses between replicas.

A name stands for all tokens before it as well, and tails are evicted before heads. So whoever finds the name of a
prompt's 48th block knows that the 47 before it are there too, and only a few depths of each prompt need to be told.
"""

from array import array
from collections.abc import Collection
from typing import Final

MAX_MARKS: Final = 512
"""Names in a report, 4 KiB: every replica's goes to every router about once a second."""
_LEADING_BITS: Final = 3
_NAME_BYTES: Final = 8  # of a link's 32; a router that mixes two up loses a little time, and no prompt gets another's


def is_mark(depth: int) -> bool:
    """Whether a block, the first of a prompt being 1, is told of: 1 to 8, 10, 12, 14, 16, 20 and on.

    Depths of three leading bits: what lies between two of them is at most a fifth of the way from the start.
    """
    low = max(0, depth.bit_length() - _LEADING_BITS)
    return depth >> low << low == depth


def name_of(link: bytes) -> int:
    """The short form of a block's name."""
    return int.from_bytes(link[:_NAME_BYTES], "little")


def pack(names: Collection[int]) -> bytes:
    """As they travel."""
    return array("Q", names).tobytes()


def unpack(packed: bytes) -> frozenset[int]:
    """What `pack` was given."""
    return frozenset(array("Q", packed))


class Marks:
    """Names at round depths of one cache, those used last at the end."""

    def __init__(self) -> None:
        self._names: dict[int, None] = {}

    def add(self, link: bytes, depth: int) -> None:
        """The block of that name, so deep in its prompt, can be found from now on."""
        if is_mark(depth):
            self._names[name_of(link)] = None

    def touch(self, link: bytes) -> None:
        """Somebody found it."""
        name = name_of(link)
        if name in self._names:
            del self._names[name]
            self._names[name] = None

    def discard(self, link: bytes) -> None:
        """It was evicted."""
        self._names.pop(name_of(link), None)

    def newest(self, most: int = MAX_MARKS) -> tuple[list[int], bool]:
        """Those used last, and whether they are all; any thread may ask."""
        names = list(self._names)  # one step of the interpreter, so the engine's thread cannot come in between
        return names[-most:], len(names) <= most
