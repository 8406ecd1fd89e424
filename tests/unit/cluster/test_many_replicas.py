"""A choice among many replicas looks at a few, and still finds what is cached."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.chooser import Chooser, Prompt, Seen
from cluster.holders import Holders
from cluster.replica_choice import PromptFacts

SYSTEM = tuple(range(1, 9))
NAMES = [f"r{place}" for place in range(200)]


def a_prompt(number: int, blocks: int = 30, session: str = "") -> Prompt:
    """One of many conversations under one system prompt."""
    own = tuple(1000 * number + place for place in range(blocks))
    return Prompt(PromptFacts((len(SYSTEM) + blocks) * 16, session, number), SYSTEM + own)


def a_chooser(names: list[str] = NAMES) -> Chooser:
    chooser = Chooser(slots=32, queue_tokens=256)
    chooser.keep(names)
    return chooser


def send(chooser: Chooser, key: int, prompt: Prompt, loads: dict[str, int], now_s: float = 0.0) -> str:
    looked = chooser.candidates(key, prompt) or list(loads)
    replica = chooser.order(key, prompt, [Seen(name, loads[name], {}) for name in looked], now_s)[0]
    chooser.sent(key, replica, now_s)
    return replica


def test_few_are_looked_at() -> None:
    chooser, loads = a_chooser(), dict.fromkeys(NAMES, 0)
    for number in range(1, 300):
        prompt = a_prompt(number)
        looked = chooser.candidates(number, prompt)
        assert looked is not None
        assert 0 < len(looked) <= 13
        send(chooser, number, prompt, loads)


def test_a_conversation_finds_its_replica_again() -> None:
    chooser, loads = a_chooser(), dict.fromkeys(NAMES, 0)
    first = {number: send(chooser, number, a_prompt(number), loads) for number in range(1, 100)}
    again = {number: send(chooser, 1000 + number, a_prompt(number, 40), loads) for number in range(1, 100)}
    assert first == again


def test_a_burst_is_spread() -> None:
    chooser, loads = a_chooser(), dict.fromkeys(NAMES, 0)
    for number in range(1, 601):
        loads[send(chooser, number, a_prompt(number), loads)] += 1
    assert max(loads.values()) <= 12  # 3 on average


def test_a_retry_looks_at_all() -> None:
    chooser, prompt = a_chooser(), a_prompt(1)
    chooser.order(1, prompt, [Seen(name, 0, {}) for name in chooser.candidates(1, prompt) or NAMES], 0.0)
    assert chooser.waiting(1) == prompt
    assert chooser.candidates(1, prompt) is None


def test_few_replicas_are_all_looked_at() -> None:
    assert a_chooser(NAMES[:32]).candidates(1, a_prompt(1)) is None


@given(st.sets(st.sampled_from(NAMES), min_size=40), st.sampled_from(NAMES))
def test_whoever_goes_moves_nobody_else(names: set[str], gone: str) -> None:
    """Those that are drawn from the ring stay drawn, but for the one that went."""
    prompt = a_prompt(7)
    before = a_chooser(sorted(names)).candidates(1, prompt) or []
    after = a_chooser(sorted(names - {gone})).candidates(1, prompt) or []
    assert set(before) - {gone} <= set(after)


def test_holders_forget_who_is_gone_and_hear_what_is_told() -> None:
    holders = Holders()
    holders.sent("a", (1, 2, 3))
    holders.told("b", frozenset({3}))
    assert holders.of((1, 2, 3)) == ["a", "b"]
    holders.forget("a")
    assert holders.of((1, 2, 3)) == ["b"]
    assert holders.of((9,)) == []
