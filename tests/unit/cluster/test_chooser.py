"""What a router remembers between two choices."""

from cluster.chooser import Chooser, Prompt, Seen, prompt_of
from cluster.replica_report import ReplicaReport
from model.contract import EngineLoad
from model.marks import is_mark
from model.request import GenerationRequest, RequestId, SamplingParams


def a_prompt(seed: int, tokens: int = 400, session: str = "") -> Prompt:
    """Equal seeds, equal beginnings."""
    ids = tuple(1000 * (seed + 1) + place for place in range(tokens))
    return prompt_of(GenerationRequest(RequestId(f"r{seed}"), ids, SamplingParams(8), 60.0, session=session))


def seen(*ongoing: int | None, **stats: object) -> list[Seen]:
    return [Seen(name, count, stats) for name, count in zip("abcdefgh", ongoing, strict=False)]


def a_chooser() -> Chooser:
    return Chooser(slots=32, queue_tokens=128)


def test_the_second_of_two_equal_prompts_follows_the_first() -> None:
    chooser = a_chooser()
    first, *_ = chooser.order(1, a_prompt(0), seen(0, 0, 0, 0), 0.0)
    chooser.sent(1, first, 0.0)
    longer = a_prompt(0, tokens=900)
    assert chooser.order(2, longer, seen(0, 0, 0, 0), 0.1)[0] == first


def test_what_counts_is_where_it_went_and_not_where_it_should_have_gone() -> None:
    chooser = a_chooser()
    *_, last = chooser.order(1, a_prompt(0), seen(0, 0), 0.0)
    chooser.sent(1, last, 0.0)
    assert chooser.order(2, a_prompt(0), seen(0, 0), 0.1)[0] == last


def test_a_burst_spreads_although_no_queue_has_moved_yet() -> None:
    chooser = a_chooser()
    chosen = [chooser.order(number, a_prompt(0, 100), seen(0, 0), 0.0)[0] for number in range(8)]
    assert chosen.count("a") == chosen.count("b") == 4


def test_a_retry_counts_once_and_a_cancelled_choice_is_forgotten() -> None:
    chooser = a_chooser()
    for _ in range(20):
        chooser.order(1, a_prompt(0, 100), seen(0, 0), 0.0)
    (first, _), (second, _) = (chooser.order(number, a_prompt(number, 100), seen(0, 0), 2.0) for number in (2, 3))
    assert {first, second} == {"a", "b"}


def test_what_a_replica_tells_is_enough() -> None:
    prompt = a_prompt(0)
    names = [name for depth, name in enumerate(prompt.names, start=1) if is_mark(depth)]
    report = ReplicaReport.of(EngineLoad(0, 0, 32_000, 32_000), names, True).fields()
    others = ReplicaReport.of(EngineLoad(0, 0, 32_000, 32_000), [], True).fields()
    for holder in "abcd":
        told = [Seen(name, 1 if name == holder else 0, report if name == holder else others) for name in "abcd"]
        assert a_chooser().order(1, prompt, told, 0.0)[0] == holder


def test_a_replica_that_starts_anew_has_an_empty_cache() -> None:
    chooser = a_chooser()
    first, *_ = chooser.order(1, a_prompt(0), seen(0, 0), 0.0)
    chooser.sent(1, first, 0.0)
    chooser.keep([name for name in "ab" if name != first])
    loaded = [Seen(name, int(name == first), {}) for name in "ab"]
    assert chooser.order(2, a_prompt(0), loaded, 0.1)[0] != first


def test_an_unknown_queue_is_as_long_as_the_replica_said() -> None:
    busy = ReplicaReport.of(EngineLoad(5, 2, 1000, 1000), [], True).fields()
    told = [Seen("a", None, busy), Seen("b", None, {})]
    assert a_chooser().order(1, a_prompt(0), told, 0.0) == ("b", "a")


def test_two_routers_send_a_session_to_one_replica() -> None:
    for number in range(20):
        session = f"user {number}"
        chosen = {a_chooser().order(1, a_prompt(seed, session=session), seen(0, 0, 0), 0.0)[0] for seed in range(3)}
        assert len(chosen) == 1


def test_free_memory_is_told_in_steps_so_that_little_changes() -> None:
    reports = {ReplicaReport.of(EngineLoad(0, 0, free, 1600), [], True).free_kv_tokens for free in range(1500, 1600)}
    assert reports == {1500}
