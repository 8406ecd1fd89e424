"""Readers of public traces, and what makes a trace fit."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.trace import TraceRequest
from cluster.trace_prompts import token_ids
from cluster.trace_shape import shorter_than, shrunk, sped_up, thinned, thinned_to, within
from cluster.traces import Rates, TraceError, arrivals, read_rates, read_trace

DATA = Path(__file__).parents[2] / "data" / "traces"
AZURE, MOONCAKE = DATA / "azure_conv_2023_300.csv.gz", DATA / "mooncake_conversation_40.jsonl.gz"

REQUESTS = st.lists(
    st.builds(
        TraceRequest,
        st.floats(0, 1000),
        st.integers(1, 4000),
        st.integers(1, 400),
        st.lists(st.integers(0, 9), max_size=4).map(tuple),
    ),
    min_size=1,
    max_size=40,
)


def test_azure() -> None:
    requests = read_trace(AZURE)
    assert len(requests) == 300
    assert requests[0] == TraceRequest(0.0, 374, 44)
    assert requests[1].at_s == pytest.approx(4.314579, abs=1e-5)
    assert (requests[1].prompt_tokens, requests[1].output_tokens) == (396, 109)


def test_mooncake() -> None:
    requests = read_trace(MOONCAKE)
    assert requests[0].at_s == 0
    assert requests[-1].at_s > 60
    assert all(len(each.blocks) == -(-each.prompt_tokens // 512) for each in requests)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "begins with 'a,b'"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "has no requests"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,x,3\n", "line 2: needs TIMESTAMP"),
        ('{"timestamp": 1}\n', "line 1: needs an object with timestamp"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(TraceError, match=said):
        read_trace(path)


def test_rates(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text("timestamp_s,total_rate_rps,active_clients\n600,10,2\n1200,30,2\n1800,0,2\n")
    rates = read_rates(path)
    assert (rates.at_s, rates.per_s, rates.until_s) == ((0.0, 600.0, 1200.0), (10.0, 30.0, 0.0), 1800.0)
    assert rates.part(600, 1800) == Rates((0.0, 600.0), (30.0, 0.0))
    with pytest.raises(TraceError, match="no rate between"):
        rates.part(5000, 6000)
    path.write_text("timestamp_s,total_rate_rps\n600,10\n0,5\n")
    with pytest.raises(TraceError, match="have to rise"):
        read_rates(path)


def test_arrivals_follow_the_rates_and_the_seed() -> None:
    rates, like = Rates((0.0, 100.0), (10.0, 40.0)), [TraceRequest(0.0, 5, 6), TraceRequest(1.0, 50, 60)]
    made = arrivals(rates, like, seed=3)
    early = sum(each.at_s < 100 for each in made)
    assert abs(early - 1000) < 150
    assert abs(len(made) - early - 4000) < 300
    assert [each.at_s for each in made] == sorted(each.at_s for each in made)
    assert {each.prompt_tokens for each in made} == {5, 50}
    assert made == arrivals(rates, like, seed=3) != arrivals(rates, like, seed=4)


@given(REQUESTS, st.floats(0, 1), st.integers(0, 100))
def test_thinning_keeps_whole_conversations_in_order(requests: list[TraceRequest], share: float, seed: int) -> None:
    kept = thinned(requests, share, seed)
    assert [each.at_s for each in kept] == sorted(each.at_s for each in kept)
    for name in {each.blocks for each in kept if each.blocks}:
        assert sum(each.blocks == name for each in kept) == sum(each.blocks == name for each in requests)
    assert len(thinned(requests, 1.0, seed)) == len(requests)
    assert len(thinned_to(requests, 10, seed)) >= min(10, len(requests))


@given(REQUESTS, st.floats(0.01, 1))
def test_what_is_shrunk_still_shares_its_blocks(requests: list[TraceRequest], scale: float) -> None:
    made = shrunk(requests, scale)
    assert [each.blocks for each in made] == [each.blocks for each in requests]
    assert all(0 < each.prompt_tokens <= before.prompt_tokens for each, before in zip(made, requests, strict=True))
    longest = max(each.prompt_tokens + each.output_tokens for each in made)
    assert len(shorter_than(made, longest)) == len(made)


def test_faster_and_shorter() -> None:
    requests = read_trace(AZURE)
    fast = sped_up(requests, 4)
    assert fast[-1].at_s == requests[-1].at_s / 4
    part = within(requests, 10, 20)
    assert 0 < len(part) < 300
    assert all(0 <= each.at_s < 10 for each in part)


def test_equal_blocks_are_equal_text() -> None:
    one = token_ids(1, TraceRequest(0, 1100, 5, (7, 8, 9)))
    two = token_ids(2, TraceRequest(0, 1300, 5, (7, 8, 10)))
    assert (len(one), len(two)) == (1100, 1300)
    assert one[:1025] == two[:1025]
    assert one[1025:1050] != two[1025:1050]
    assert token_ids(1, TraceRequest(0, 40, 5))[1:] != token_ids(2, TraceRequest(0, 40, 5))[1:]
