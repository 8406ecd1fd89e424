"""Blocks are conserved, whoever holds them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.blocks import BlockPool

ACTIONS = st.lists(st.tuples(st.sampled_from(["take", "hold", "release", "free"]), st.integers(0, 5)), max_size=60)


@given(ACTIONS)
def test_blocks_are_conserved_and_refused_where_the_state_forbids(actions: list[tuple[str, int]]) -> None:
    pool = BlockPool(6)
    holders: dict[int, int] = {}  # of blocks that are not free
    for action, block in actions:
        held = holders.get(block)
        match action:
            case "take":
                if pool.num_free:
                    taken = pool.take()
                    assert taken not in holders
                    holders[taken] = 1
            case "hold" if held is None:
                with pytest.raises(RuntimeError):
                    pool.hold(block)
            case "hold":
                assert pool.hold(block) == (held == 0)
                holders[block] += 1
            case "release" if not held:
                with pytest.raises(RuntimeError):
                    pool.release(block)
            case "release":
                assert pool.release(block) == (held == 1)
                holders[block] -= 1
            case "free" if held != 0:
                with pytest.raises(RuntimeError):
                    pool.free(block)
            case "free":
                pool.free(block)
                del holders[block]
        assert pool.num_free == 6 - len(holders)
        assert all(pool.holders(block) == count for block, count in holders.items())
        pool.check(num_idle=sum(count == 0 for count in holders.values()))


def test_a_leak_is_found() -> None:
    pool = BlockPool(2)
    pool.release(pool.take())
    pool.check(num_idle=1)
    with pytest.raises(RuntimeError, match="leaked"):
        pool.check(num_idle=0)


def test_a_pool_has_at_least_one_block() -> None:
    with pytest.raises(ValueError, match="num_blocks"):
        BlockPool(0)
