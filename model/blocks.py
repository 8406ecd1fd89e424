"""Ids of the pool's blocks and how many sequences hold each; integers only, it has never heard of tokens."""


class BlockPool:
    """`num_blocks` ids from 0 on. Each is free, held by one sequence or more, or idle: held by nobody, yet kept.

        free --take--> held --release--> idle --hold--> held
          ^                               |
          +-------------free--------------+

    Who keeps idle blocks, and when they become free, is the caller's business (`PrefixCache`).
    """

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 1:
            raise ValueError(f"num_blocks: {num_blocks} is not a pool; give at least 1")
        self._holders = [0] * num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))  # a stack: what was freed last is warm, so it goes first
        self._is_free = [True] * num_blocks

    @property
    def num_blocks(self) -> int:
        """All of them."""
        return len(self._holders)

    @property
    def num_free(self) -> int:
        """Blocks that hold nothing."""
        return len(self._free)

    def holders(self, block: int) -> int:
        """How many hold it."""
        return self._holders[block]

    def take(self) -> int:
        """A free block, now held once; the caller knows that there is one."""
        block = self._free.pop()
        self._is_free[block] = False
        self._holders[block] = 1
        return block

    def hold(self, block: int) -> bool:
        """One more holder of a block that is not free; True if it was idle."""
        if self._is_free[block]:
            raise RuntimeError(f"block {block} is free and cannot be shared")
        self._holders[block] += 1
        return self._holders[block] == 1

    def release(self, block: int) -> bool:
        """One holder less; True if that was the last."""
        if not self._holders[block]:
            raise RuntimeError(f"block {block} is held by nobody and cannot be released")
        self._holders[block] -= 1
        return not self._holders[block]

    def free(self, block: int) -> None:
        """An idle block holds nothing from now on."""
        if self._is_free[block] or self._holders[block]:
            raise RuntimeError(f"block {block} is not idle: {self._holders[block]} hold it")
        self._is_free[block] = True
        self._free.append(block)

    def check(self, num_idle: int) -> None:
        """Raise RuntimeError unless every block is free, held or among the `num_idle`; costs a look at all of them."""
        num_held = sum(1 for holders in self._holders if holders)
        marked = sum(self._is_free)
        if self.num_free + num_held + num_idle != self.num_blocks or marked != self.num_free:
            raise RuntimeError(
                f"blocks leaked: {self.num_free} free ({marked} marked), {num_held} held and {num_idle} idle "
                f"of {self.num_blocks}"
            )
