"""What a replica has cached of prompts, by the names of their blocks."""

from collections.abc import Sequence


class Prefixes:
    """Full blocks, the least lately used first; those that somebody holds are not evicted."""

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._idle: dict[int, None] = {}
        self._held: dict[int, int] = {}  # name -> by how many

    @property
    def held_tokens(self) -> int:
        """That running requests share."""
        return len(self._held) * self._block_tokens

    def leading(self, blocks: Sequence[int]) -> int:
        """How many of a prompt's leading blocks are here."""
        for place, name in enumerate(blocks):
            if name not in self._held and name not in self._idle:
                return place
        return len(blocks)

    def hold(self, blocks: Sequence[int]) -> None:
        """Somebody runs on them; new ones are here from now on."""
        for name in blocks:
            self._idle.pop(name, None)
            self._held[name] = self._held.get(name, 0) + 1

    def let_go(self, blocks: Sequence[int]) -> None:
        """They stay until their room is needed, heads longest."""
        for name in reversed(blocks):
            if self._held[name] > 1:
                self._held[name] -= 1
            else:
                del self._held[name]
                self._idle[name] = None

    def shrink(self, tokens: int) -> None:
        """Evict until the ones nobody holds take no more than that."""
        most = max(0, tokens) // self._block_tokens
        while len(self._idle) > most:
            del self._idle[next(iter(self._idle))]

    def names(self) -> list[int]:
        """Of all, those used last at the end."""
        return [*self._idle, *self._held]
