"""The choice on a virtual clock."""

import random
from itertools import pairwise

from cluster.chooser import Chooser
from cluster.replay import Arrival, ByPowerOfTwo, ByPrefix, Costs, Outcome, Pick, Replay
from model.config import EngineConfig
from model.request import GenerationRequest, RequestId, SamplingParams

COSTS = Costs(step_s=0.002, prefill_s=0.0001, decode_s=0.0005, hop_s=0.01, processors=2)
ENGINE = EngineConfig(kv_tokens=4096, max_running=8)


def conversations(count: int, turns: int) -> list[Arrival]:
    """Each turn begins with all of the one before it."""
    made = []
    for turn in range(turns):
        for number in range(count):
            rng = random.Random(number)
            ids = tuple(rng.randrange(4, 1700) for _ in range(200 * (turn + 1)))
            request = GenerationRequest(RequestId(f"{number}.{turn}"), ids, SamplingParams(10), 60.0)
            made.append(Arrival((turn * count + number) * 0.05, request))
    return made


def play(pick: Pick, arrivals: list[Arrival], costs: Costs = COSTS) -> list[Outcome]:
    return Replay(4, ENGINE, 256, costs, pick).run(arrivals)


def by_prefix() -> Pick:
    return ByPrefix(Chooser(ENGINE.max_running, 128))


def share(outcomes: list[Outcome]) -> float:
    return sum(each.cached_tokens for each in outcomes) / sum(each.prompt_tokens for each in outcomes)


def test_a_lone_request_takes_what_its_steps_cost() -> None:
    (outcome,) = play(by_prefix(), conversations(1, 1))
    assert abs(outcome.ttft_s - (COSTS.step_s + 200 * COSTS.prefill_s + COSTS.hop_s)) < 1e-9
    assert (outcome.prompt_tokens, outcome.cached_tokens) == (200, 0)


def test_equal_arrivals_give_equal_outcomes() -> None:
    arrivals = conversations(8, 3)
    assert play(by_prefix(), arrivals) == play(by_prefix(), arrivals)
    two = [play(ByPowerOfTwo(random.Random(7)), arrivals) for _ in range(2)]
    assert two[0] == two[1]


def test_conversations_find_their_cache_where_power_of_two_does_not() -> None:
    arrivals = conversations(12, 4)
    prefix, two = play(by_prefix(), arrivals), play(ByPowerOfTwo(random.Random(1)), arrivals)
    assert share(prefix) > 0.5 > 1.5 * share(two)
    assert sum(each.ttft_s for each in prefix) < sum(each.ttft_s for each in two)


def test_nobody_is_left_without_work() -> None:
    used = {each.replica for each in play(by_prefix(), conversations(12, 4))}
    assert len(used) == 4


def test_more_replicas_than_processors_slow_each_other() -> None:
    crowd = [Arrival(0.0, each.request) for each in conversations(4, 1)]
    slow, fast = (
        max(each.ttft_s for each in play(by_prefix(), crowd, Costs(0.0, 0.001, 0.0, 0.0, processors)))
        for processors in (1, 4)
    )
    assert slow > 1.5 * fast
    assert all(one.at_s <= two.at_s for one, two in pairwise(crowd))
