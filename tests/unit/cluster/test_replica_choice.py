"""Promises of the choice between replicas, looked for counter-examples by hypothesis."""

from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from cluster.replica_choice import PromptFacts, Ranked, ReplicaFacts, Weights, rank

WEIGHTS = Weights(queue_tokens=256)
SLOTS = 8
ROOM = 100_000

prompts = st.builds(PromptFacts, st.integers(1, 8192), st.sampled_from(["", "s", "t"]), st.integers(0, 9))
unnamed = st.builds(PromptFacts, st.integers(1, 8192), st.just(""), st.integers(0, 9))
overlaps = st.integers(0, 512).map(lambda blocks: blocks * 16)


@st.composite
def replicas(draw: st.DrawFn) -> list[ReplicaFacts]:
    names = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True))
    return [
        ReplicaFacts(name, draw(st.integers(0, 12)), SLOTS, draw(st.integers(0, 9000)), draw(overlaps))
        for name in names
    ]


def names(ranked: tuple[Ranked, ...]) -> list[str]:
    return [each.replica for each in ranked]


def a_replica(name: str, ongoing: int = 0, overlap_tokens: int = 0, free_kv_tokens: int = ROOM) -> ReplicaFacts:
    return ReplicaFacts(name, ongoing, SLOTS, free_kv_tokens, overlap_tokens)


@given(prompts, replicas(), st.randoms(use_true_random=False))
def test_equal_facts_give_equal_ranks_in_any_order(prompt: PromptFacts, facts: list[ReplicaFacts], rng: object) -> None:
    shuffled = list(facts)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert rank(prompt, facts, WEIGHTS) == rank(prompt, shuffled, WEIGHTS)


@given(prompts, replicas())
def test_everybody_is_ranked_once(prompt: PromptFacts, facts: list[ReplicaFacts]) -> None:
    assert sorted(names(rank(prompt, facts, WEIGHTS))) == sorted(each.replica for each in facts)


@given(unnamed, replicas(), st.integers(1, 5), overlaps, st.integers(0, 500))
def test_less_load_and_no_less_overlap_is_never_ranked_worse(
    prompt: PromptFacts, facts: list[ReplicaFacts], less: int, more: int, room: int
) -> None:
    worse = facts[0]
    assume(worse.ongoing >= less)
    better = replace(
        worse,
        replica="better",
        ongoing=worse.ongoing - less,
        overlap_tokens=worse.overlap_tokens + more,
        free_kv_tokens=worse.free_kv_tokens + room,
    )
    order = names(rank(prompt, [*facts, better], WEIGHTS))
    assert order.index("better") < order.index(worse.replica)


@given(unnamed, replicas())
def test_without_overlap_and_with_room_the_least_loaded_is_first(
    prompt: PromptFacts, facts: list[ReplicaFacts]
) -> None:
    facts = [replace(each, overlap_tokens=0, free_kv_tokens=ROOM) for each in facts]
    ongoing = {each.replica: each.ongoing for each in facts}
    assert ongoing[rank(prompt, facts, WEIGHTS)[0].replica] == min(ongoing.values())


@given(prompts, replicas())
def test_whoever_has_no_free_slot_comes_after_whoever_has_one(prompt: PromptFacts, facts: list[ReplicaFacts]) -> None:
    full = [each.full for each in rank(prompt, facts, WEIGHTS)]
    assert full == sorted(full)


def test_a_long_prefix_is_worth_waiting_for_and_a_short_one_is_not() -> None:
    prompt = PromptFacts(2000, "", 0)
    for overlap, chosen in ((1600, "holder"), (320, "idle")):
        facts = [a_replica("holder", ongoing=3, overlap_tokens=overlap), a_replica("idle")]
        assert rank(prompt, facts, WEIGHTS)[0].replica == chosen


def test_equal_prompts_spread_before_the_holder_is_full() -> None:
    """Each is sent where the one before it leaves the least work."""
    prompt = PromptFacts(600, "", 0)
    ongoing = {"holder": 0, "other": 0}
    for _ in range(8):
        facts = [a_replica("holder", ongoing["holder"], 592), a_replica("other", ongoing["other"])]
        ongoing[rank(prompt, facts, WEIGHTS)[0].replica] += 1
    assert ongoing["holder"] > ongoing["other"] > 1


def test_a_replica_without_memory_is_avoided() -> None:
    facts = [a_replica("short", free_kv_tokens=100), a_replica("busy", ongoing=2)]
    assert rank(PromptFacts(1000, "", 0), facts, WEIGHTS)[0].replica == "busy"


@given(replicas(), st.text(min_size=1))
def test_a_session_that_nobody_knows_goes_to_one_place_while_load_allows(
    facts: list[ReplicaFacts], session: str
) -> None:
    idle = [a_replica(each.replica) for each in facts]
    prompts = [PromptFacts(tokens, session, name) for tokens, name in ((100, 1), (5000, 2))]
    homes = {rank(prompt, idle, WEIGHTS)[0].replica for prompt in prompts}
    assert len(homes) == 1
    (home,) = homes
    assume(len(idle) > 1)
    for ongoing, stays in ((1, True), (2, False)):
        loaded = [replace(each, ongoing=ongoing if each.replica == home else 0) for each in idle]
        assert (rank(prompts[0], loaded, WEIGHTS)[0].replica == home) == stays


@given(replicas(), st.text(min_size=1))
def test_a_replica_that_goes_moves_its_own_sessions_only(facts: list[ReplicaFacts], session: str) -> None:
    idle = [a_replica(each.replica) for each in facts]
    prompt = PromptFacts(100, session, 0)
    home = rank(prompt, idle, WEIGHTS)[0].replica
    for gone in idle:
        left = [each for each in idle if each is not gone]
        if left and gone.replica != home:
            assert rank(prompt, left, WEIGHTS)[0].replica == home
