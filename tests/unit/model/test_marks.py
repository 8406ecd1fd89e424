"""What a cache tells of itself, and that routers give blocks the same names."""

from hypothesis import given
from hypothesis import strategies as st

from model.blocks import BlockPool
from model.capacity import BLOCK_TOKENS
from model.kv_blocks import KvBlocks
from model.marks import Marks, is_mark, name_of, pack, unpack
from model.prefix_cache import Kind, PrefixCache
from model.prefix_names import names_of
from model.request import GenerationRequest, RequestId, SamplingParams
from model.sequence import Sequence


def a_request(ids: list[int], salt: str = "", prompt_logprobs: int | None = None) -> GenerationRequest:
    sampling = SamplingParams(1, prompt_logprobs=prompt_logprobs)
    return GenerationRequest(RequestId("r"), tuple(ids), sampling, 60.0, salt=salt)


@given(st.integers(1, 4096))
def test_the_next_mark_below_is_never_more_than_a_fifth_away(depth: int) -> None:
    below = next(known for known in range(depth, 0, -1) if is_mark(known))
    assert below >= depth * 0.8


@given(st.lists(st.integers(0, 255_999), min_size=1, max_size=200), st.sampled_from(["", "tenant"]))
def test_a_router_gives_blocks_the_names_that_the_engine_gives_them(ids: list[int], salt: str) -> None:
    request = a_request(ids, salt)
    sequence = Sequence(request, 0, 0.0, len(ids) + 1, tokens=list(ids))
    most = (len(ids) - 1) // BLOCK_TOKENS
    links = KvBlocks(64, BLOCK_TOKENS, 64)._links(sequence, most)
    assert names_of(request) == tuple(map(name_of, links))


def test_a_prompt_that_is_scored_asks_no_cache() -> None:
    assert names_of(a_request([2] * 100, prompt_logprobs=0)) == ()


def test_marks_follow_the_cache() -> None:
    cache = PrefixCache(BlockPool(2))
    links = (b"first---of a chain", b"second--of a chain")
    blocks = []
    for depth, link in enumerate(links, start=1):
        blocks.append(cache.take())
        cache.publish(Kind.GLOBAL, link, blocks[-1], depth)
    assert cache.marks.newest() == ([name_of(link) for link in links], True)
    for block in reversed(blocks):
        cache.give_back(block)
    cache.take()  # evicts the tail
    assert cache.marks.newest() == ([name_of(links[0])], True)


def test_what_was_used_last_is_told_when_not_all_can_be() -> None:
    marks = Marks()
    for link in (b"a" * 8, b"b" * 8, b"c" * 8):
        marks.add(link, 1)
    marks.touch(b"a" * 8)
    assert marks.newest(2) == ([name_of(b"c" * 8), name_of(b"a" * 8)], False)


@given(st.sets(st.integers(0, 2**64 - 1)))
def test_names_travel_unchanged(names: set[int]) -> None:
    assert unpack(pack(names)) == names
