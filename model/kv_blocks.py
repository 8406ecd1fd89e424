"""Both block tables of every sequence: grown before a step, published and thinned out after it."""

from dataclasses import dataclass, field

from model.blocks import BlockPool
from model.prefix_cache import Kind, PrefixCache, first_link, next_link
from model.sequence import NO_BLOCK, Sequence


@dataclass(frozen=True, slots=True)
class Prefix:
    """Blocks of the cache that a sequence can start from, as its tables would hold them."""

    global_blocks: list[int]
    window_blocks: list[int]


@dataclass(slots=True)
class _Notes:
    """What is remembered about one sequence beside its tables, so that no step looks at its whole history."""

    links: list[bytes] = field(default_factory=list)  # names of its leading full blocks
    num_published: int = 0  # leading blocks that were offered to the cache
    num_unseen: int = 0  # leading entries of the window table that are NO_BLOCK


class KvBlocks:
    """Gives out and takes back blocks of `block_tokens` tokens; a window layer sees `window_tokens`, itself included.

    Both tables of a sequence always have the same length, so it grows by pairs: one block for the global layers, one
    for the window layers. A block in more than one sequence is full, computed and published, and is never written.
    """

    def __init__(self, num_blocks: int, block_tokens: int, window_tokens: int) -> None:
        if block_tokens < 1 or window_tokens < 1:
            raise ValueError(f"block_tokens {block_tokens} and window_tokens {window_tokens} must be at least 1")
        self.num_blocks = num_blocks
        self.block_tokens = block_tokens
        self._window_tokens = window_tokens
        # A window may begin inside a block: W = 4,096 in blocks of 16 touches 257 of them.
        self._most_seen = (window_tokens + block_tokens - 2) // block_tokens + 1
        self.cache = PrefixCache(BlockPool(num_blocks))
        self._notes: dict[Sequence, _Notes] = {}

    @property
    def capacity_tokens(self) -> int:
        """The longest sequence that the pool can carry when it is alone."""
        return max(self.num_blocks // 2, self.num_blocks - self._most_seen) * self.block_tokens

    def peak_blocks(self, num_tokens: int) -> int:
        """The most that a sequence must hold at once to get so far, both kinds together."""
        blocks = -(-num_tokens // self.block_tokens)
        return blocks + min(blocks, self._most_seen)

    def at_once(self, num_tokens: int) -> int:
        """Sequences of that length that the pool carries side by side when they share nothing."""
        return self.num_blocks // self.peak_blocks(num_tokens)

    def held_blocks(self, sequence: Sequence) -> int:
        """Blocks in its tables, shared ones included."""
        unseen = self._notes[sequence].num_unseen if sequence in self._notes else 0
        return len(sequence.global_blocks) + len(sequence.window_blocks) - unseen

    def private_blocks(self, sequence: Sequence) -> int:
        """Blocks that become available if it gives back all; costs a look at each."""
        return sum(block != NO_BLOCK and self.cache.is_private(block) for block in _tail_first(sequence))

    def blocks_in_use(self, prefix: Prefix) -> int:
        """Blocks of the prefix that others hold, so that sharing them costs nothing."""
        blocks = prefix.global_blocks + prefix.window_blocks
        return sum(block != NO_BLOCK and not self.cache.is_idle(block) for block in blocks)

    def find(self, sequence: Sequence) -> Prefix:
        """The longest prefix of its tokens that the cache has; at least one token is left to compute.

        All global blocks must be there, and those window blocks that the first token after them sees. A sequence that
        wants its prompt scored finds nothing: the scores need the logits of every position.
        """
        if sequence.request.sampling.prompt_logprobs is not None:
            return Prefix([], [])
        most = (len(sequence.tokens) - 1) // self.block_tokens
        prefix, best, unbroken = Prefix([], []), 0, 0
        for length, link in enumerate(self._links(sequence, most)[:most], start=1):
            block, window = self.cache.find(Kind.GLOBAL, link), self.cache.find(Kind.WINDOW, link)
            if block is None:
                break
            prefix.global_blocks.append(block)
            prefix.window_blocks.append(NO_BLOCK if window is None else window)
            unbroken = 0 if window is None else unbroken + 1
            if unbroken >= length - self._first_seen(length * self.block_tokens):
                best = length
        first = self._first_seen(best * self.block_tokens)
        return Prefix(prefix.global_blocks[:best], [NO_BLOCK] * first + prefix.window_blocks[first:best])

    def adopt(self, sequence: Sequence, prefix: Prefix) -> None:
        """Start a sequence that holds nothing from a prefix found just now, which may be empty."""
        for block in prefix.global_blocks + prefix.window_blocks:
            if block != NO_BLOCK:
                self.cache.share(block)
        sequence.global_blocks, sequence.window_blocks = list(prefix.global_blocks), list(prefix.window_blocks)
        sequence.num_computed = len(prefix.global_blocks) * self.block_tokens
        notes = self._notes_of(sequence)
        notes.num_published = len(prefix.global_blocks)
        notes.num_unseen = self._first_seen(sequence.num_computed)

    def reach(self, sequence: Sequence) -> int:
        """The position up to which (not included) its tables could grow now."""
        return (len(sequence.global_blocks) + self.cache.num_available // 2) * self.block_tokens

    def extend(self, sequence: Sequence, end: int) -> None:
        """Make both tables cover all positions before `end`, which is within reach."""
        for _ in range(len(sequence.global_blocks), -(-end // self.block_tokens)):
            sequence.global_blocks.append(self.cache.take())
            sequence.window_blocks.append(self.cache.take())

    def trim(self, sequence: Sequence) -> None:
        """Give back what only guesses needed: blocks beyond the last confirmed token."""
        keep = -(-len(sequence.tokens) // self.block_tokens)
        while len(sequence.global_blocks) > keep:
            self.cache.give_back(sequence.window_blocks.pop())
            self.cache.give_back(sequence.global_blocks.pop())

    def settle(self, sequence: Sequence) -> None:
        """After a step: publish the blocks that are now full, and give back what no later token sees or needs."""
        self._publish(sequence)
        self._slide(sequence)
        self.trim(sequence)

    def release(self, sequence: Sequence) -> None:
        """Give back everything; nothing of it counts as computed any more. To start again, `adopt` a prefix.

        Names of its blocks are kept: its tokens are what they were.
        """
        for block in _tail_first(sequence):
            if block != NO_BLOCK:
                self.cache.give_back(block)
        sequence.global_blocks, sequence.window_blocks, sequence.num_computed = [], [], 0

    def forget(self, sequence: Sequence) -> None:
        """Release it for good."""
        self.release(sequence)
        self._notes.pop(sequence, None)

    def _publish(self, sequence: Sequence) -> None:
        notes, full = self._notes_of(sequence), sequence.num_computed // self.block_tokens
        if full == notes.num_published:
            return
        links = self._links(sequence, full)
        for index in range(notes.num_published, full):
            self.cache.publish(Kind.GLOBAL, links[index], sequence.global_blocks[index], index + 1)
            self.cache.publish(Kind.WINDOW, links[index], sequence.window_blocks[index])
        notes.num_published = full

    def _slide(self, sequence: Sequence) -> None:
        notes, first = self._notes_of(sequence), self._first_seen(sequence.num_computed)
        for index in range(notes.num_unseen, first):
            self.cache.give_back(sequence.window_blocks[index])
            sequence.window_blocks[index] = NO_BLOCK
        notes.num_unseen = first

    def _first_seen(self, position: int) -> int:
        """Index of the first block that a window layer needs for the token at this position."""
        return max(0, position - self._window_tokens + 1) // self.block_tokens

    def _links(self, sequence: Sequence, num_blocks: int) -> list[bytes]:
        """Names of at least `num_blocks` leading blocks, each hashed once in the sequence's life."""
        links = self._notes_of(sequence).links
        for index in range(len(links), num_blocks):
            before = links[-1] if links else first_link(sequence.request.salt)
            start = index * self.block_tokens
            links.append(next_link(before, sequence.tokens[start : start + self.block_tokens]))
        return links

    def _notes_of(self, sequence: Sequence) -> _Notes:
        return self._notes.setdefault(sequence, _Notes())


def _tail_first(sequence: Sequence) -> list[int]:
    """All entries of both tables, the end of the sequence first: that is the part least likely to be shared."""
    pairs = zip(reversed(sequence.window_blocks), reversed(sequence.global_blocks), strict=True)
    return [block for pair in pairs for block in pair]
