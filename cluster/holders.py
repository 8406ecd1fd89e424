"""Which replicas are believed to have the longest part of a prompt, found without a look at each replica."""

from collections.abc import Iterable, Sequence
from typing import Final

from model.marks import is_mark

_OF_A_BLOCK: Final = 4  # replicas remembered for a block, those that were sent it last
_BLOCKS: Final = 262_144  # remembered at most
_ENOUGH: Final = 4  # replicas that a prompt asks for


class Holders:
    """Names of blocks at round depths (`model.marks`) -> replicas. A hint: whoever asks looks at the replicas after."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[str, ...]] = {}  # the longest ago first
        self._told: dict[str, frozenset[int]] = {}
        self._gone: set[str] = set()

    def of(self, names: Sequence[int]) -> list[str]:
        """Who has the deepest blocks of a prompt, the deepest first; a few."""
        found: dict[str, None] = {}
        for depth in range(len(names), 0, -1):
            if is_mark(depth):
                found.update((name, None) for name in self._of.get(names[depth - 1], ()) if name not in self._gone)
                if len(found) >= _ENOUGH:
                    break
        return list(found)[:_ENOUGH]

    def sent(self, replica: str, names: Sequence[int]) -> None:
        """A prompt of these blocks went there."""
        self._add(replica, (name for depth, name in enumerate(names, start=1) if is_mark(depth)))

    def told(self, replica: str, names: frozenset[int]) -> None:
        """It says that it has these; costs what is new since it last said so."""
        self._add(replica, names - self._told.get(replica, frozenset()))
        self._told[replica] = names

    def forget(self, replica: str) -> None:
        """It is gone, and its name does not come back."""
        self._gone.add(replica)
        self._told.pop(replica, None)

    def _add(self, replica: str, names: Iterable[int]) -> None:
        for name in names:
            others = tuple(other for other in self._of.pop(name, ()) if other != replica and other not in self._gone)
            self._of[name] = (*others[1 - _OF_A_BLOCK :], replica)
        while len(self._of) > _BLOCKS:
            del self._of[next(iter(self._of))]
