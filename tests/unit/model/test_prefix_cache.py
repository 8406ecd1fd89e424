"""What can be found again, under which name, and what goes first."""

from hypothesis import given
from hypothesis import strategies as st

from model.blocks import BlockPool
from model.eviction import EvictionOrder
from model.kv_blocks import KvBlocks
from model.prefix_cache import Kind, PrefixCache, first_link, next_link
from model.sequence import NO_BLOCK, Sequence
from tests.fakes.kv_memory import a_sequence

TEXT = st.lists(st.lists(st.integers(0, 1), min_size=2, max_size=2), max_size=4)


def chain(salt: str, blocks: list[list[int]]) -> bytes:
    link = first_link(salt)
    for tokens in blocks:
        link = next_link(link, tokens)
    return link


@given(st.sampled_from("ab"), TEXT, st.sampled_from("ab"), TEXT)
def test_a_link_names_tenant_and_all_tokens_up_to_it(
    salt: str, text: list[list[int]], other_salt: str, other: list[list[int]]
) -> None:
    assert (chain(salt, text) == chain(other_salt, other)) == ((salt, text) == (other_salt, other))


def test_a_salt_that_is_no_valid_text_is_a_salt_too() -> None:
    assert first_link("\ud800") != first_link("\ud801")


def a_cache(num_blocks: int) -> PrefixCache:
    return PrefixCache(BlockPool(num_blocks))


def publish(cache: PrefixCache, *names: str) -> list[int]:
    """Taken, published and given back in this order."""
    blocks = []
    for name in names:
        blocks.append(cache.take())
        cache.publish(Kind.GLOBAL, name.encode(), blocks[-1])
    for block in blocks:
        cache.give_back(block)
    return blocks


def known(cache: PrefixCache, names: str) -> str:
    return "".join(name for name in names if cache.find(Kind.GLOBAL, name.encode()) is not None)


def test_a_block_of_nobody_is_found_until_its_place_is_needed() -> None:
    cache = a_cache(3)
    publish(cache, "a", "b")
    assert (cache.num_available, cache.num_published) == (3, 2)
    cache.take()
    assert known(cache, "ab") == "ab"
    cache.take()
    assert known(cache, "ab") == "b"
    cache.take()
    assert known(cache, "ab") == ""
    cache.check()


def test_global_and_window_blocks_have_names_of_their_own() -> None:
    cache = a_cache(2)
    block = cache.take()
    cache.publish(Kind.WINDOW, b"a", block)
    assert cache.find(Kind.GLOBAL, b"a") is None
    assert cache.find(Kind.WINDOW, b"a") == block


def test_what_was_shared_stays_longer_than_what_was_used_later() -> None:
    cache = a_cache(4)
    shared, *_ = publish(cache, "s")
    cache.share(shared)
    cache.give_back(shared)
    publish(cache, "a", "b", "c")
    taken = [cache.take() for _ in range(3)]
    assert known(cache, "sabc") == "s"
    assert shared not in taken


def test_of_two_equal_blocks_the_second_stays_private() -> None:
    cache = a_cache(2)
    first, second = cache.take(), cache.take()
    cache.publish(Kind.GLOBAL, b"a", first)
    cache.publish(Kind.GLOBAL, b"a", second)
    cache.give_back(second)
    assert cache.find(Kind.GLOBAL, b"a") == first
    assert cache.num_available == 1
    cache.check()


def test_dropping_leaves_what_is_held() -> None:
    cache = a_cache(3)
    held, *_ = publish(cache, "a", "b")
    cache.share(held)
    cache.drop()
    assert known(cache, "ab") == "a"
    assert cache.num_available == 2


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), unique_by=lambda pair: pair[0]), st.integers(0, 5))
def test_fresh_blocks_go_first_and_the_privilege_is_bounded(blocks: list[tuple[int, bool]], bound: int) -> None:
    order = EvictionOrder(bound)
    for block, proven in blocks:
        order.add(block, proven)
    privileged = [block for block, proven in blocks if proven][-bound:] if bound else []
    gone = [order.pop() for _ in range(len(order))]
    assert gone[len(gone) - len(privileged) :] == privileged
    assert sorted(gone) == sorted(block for block, _ in blocks)


def computed(blocks: KvBlocks, sequence: Sequence) -> Sequence:
    """As after one step over all its tokens but the last."""
    blocks.extend(sequence, len(sequence.tokens) - 1)
    sequence.num_computed = len(sequence.tokens) - 1
    blocks.settle(sequence)
    return sequence


def test_of_a_finished_sequence_the_tail_is_evicted_first() -> None:
    blocks = KvBlocks(num_blocks=8, block_tokens=2, window_tokens=100)
    blocks.forget(computed(blocks, a_sequence([1, 2, 3, 4, 5, 6, 7, 8, 9])))
    found = []
    for _ in range(8):
        blocks.cache.take()
        found.append(len(blocks.find(a_sequence([1, 2, 3, 4, 5, 6, 7, 8, 9])).global_blocks))
    assert found == [3, 3, 2, 2, 1, 1, 0, 0]


def test_a_hit_leaves_at_least_one_token_to_compute() -> None:
    blocks = KvBlocks(num_blocks=8, block_tokens=2, window_tokens=100)
    blocks.forget(computed(blocks, a_sequence([1, 2, 3, 4, 5])))
    assert [len(blocks.find(a_sequence(range(1, n + 1))).global_blocks) for n in range(1, 6)] == [0, 0, 1, 1, 2]


def test_a_hit_needs_the_window_before_it_and_only_that() -> None:
    """A window of 4 over blocks of 2: the token after n blocks sees the last 3 positions, so the last 2 blocks."""
    blocks = KvBlocks(num_blocks=40, block_tokens=2, window_tokens=4)
    text = list(range(13))
    sequence = computed(blocks, a_sequence(text))
    assert sequence.window_blocks[:4] == [NO_BLOCK] * 4
    blocks.forget(sequence)
    prefix = blocks.find(a_sequence(text))
    assert len(prefix.global_blocks) == 6
    assert prefix.window_blocks[:4] == [NO_BLOCK] * 4
    assert NO_BLOCK not in prefix.window_blocks[4:]


def test_a_point_without_the_window_before_it_is_no_hit() -> None:
    blocks = KvBlocks(num_blocks=12, block_tokens=2, window_tokens=4)
    text = list(range(13))
    blocks.forget(computed(blocks, a_sequence(text)))
    found = []
    for _ in range(5):  # the four that were out of sight were idle first; then the window block at the tail
        blocks.cache.take()
        found.append(len(blocks.find(a_sequence(text)).global_blocks))
    assert found == [6, 6, 6, 6, 0]
