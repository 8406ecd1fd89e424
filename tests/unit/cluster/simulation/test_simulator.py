"""A whole fleet on the virtual clock."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.config import ClusterConfig, ReplicaChoice, RoutingConfig, Tier
from cluster.scaling.rules import scaling_rules
from cluster.simulation.asking import MIX, Asking, Target, prospects_of, rules_for
from cluster.simulation.fleet import Failure, Fleet, SizeFleet
from cluster.simulation.result import ALL, End, Result
from cluster.simulation.simulator import Options, simulate
from cluster.speed import Speed
from cluster.trace import TraceRequest
from cluster.trace_shape import shrunk, sped_up
from cluster.traces import read_trace
from model.config import Size

DATA = Path(__file__).parents[3] / "data" / "traces"
TRACE = read_trace(DATA / "azure_conv_2023_300.csv.gz")
TALKS = shrunk(read_trace(DATA / "mooncake_conversation_40.jsonl.gz"), 1 / 8)
CONFIG = ClusterConfig()
JUMPING = Options()
SLOWER = {Size.B2: 1, Size.B9: 3, Size.B27: 8}


def a_fleet(replicas: int = 2, slots: int = 16, **changes: object) -> Fleet:
    def sized(size: Size) -> SizeFleet:
        by = SLOWER[size]
        speed = Speed(
            size, "test", 1, None, 0.004 * by, 2e-5 * by, 2e-4 * by, 2e-8 * by, slots, 60_000, 1024, {"weights": 5.0}
        )
        return SizeFleet(speed, CONFIG.sizes[size].usd_per_mtoken, replicas, usd_per_device_hour=1.0)

    return Fleet({size: sized(size) for size in Size}, **changes)  # type: ignore[arg-type]


def run(
    fleet: Fleet,
    requests: list[TraceRequest] = TRACE,
    mix: Mapping[Target, float] = MIX,
    timeout_s: float | None = 30.0,
    options: Options = JUMPING,
    config: ClusterConfig = CONFIG,
) -> Result:
    rules, profile = rules_for(config)
    return simulate(Asking(prospects_of(profile), Size, mix, timeout_s)(requests), fleet, rules, options)


def columns(result: Result) -> list[list[float]]:
    out = result.outcomes
    return [list(out.number), list(out.end), list(out.size), list(out.total_s), list(out.usd)]


def test_equal_arguments_give_equal_results() -> None:
    fleet = a_fleet(failures_per_replica_hour=20.0)
    one, two = (columns(run(fleet, sped_up(TRACE, 8))) for _ in range(2))
    assert one == two


def test_everyone_ends_once() -> None:
    result = run(a_fleet(1, slots=4, failures=(Failure(3.0, Size.B2), Failure(5.0, Size.B27))), sped_up(TRACE, 20))
    assert sorted(result.outcomes.number) == list(range(len(TRACE)))
    everyone = result.summaries()[ALL]
    assert everyone.answered + everyone.refused + everyone.late + everyone.lost == len(TRACE)
    assert everyone.refused > 0
    assert result.failures == 2


@given(st.integers(1, 3), st.integers(1, 16), st.floats(1, 60), st.floats(0.5, 20), st.floats(0, 400))
@settings(max_examples=15, deadline=None)
def test_whatever_happens_everyone_ends_once(
    replicas: int, slots: int, faster: float, timeout_s: float, failures: float
) -> None:
    fleet = a_fleet(replicas, slots, failures_per_replica_hour=failures)
    result = run(fleet, sped_up(TRACE[:100], faster), timeout_s=timeout_s)
    assert sorted(result.outcomes.number) == list(range(100))
    total = np.frombuffer(result.outcomes.total_s)
    assert (total >= 0).all()
    assert total.max() <= timeout_s + 1e-6


def test_replicas_are_paid_for_while_they_run() -> None:
    result = run(a_fleet(2))
    for use in result.use.values():
        assert use.replica_s == pytest.approx(2 * result.seconds)
        assert use.usd == pytest.approx(use.device_s / 3600)


def test_a_lost_replica_is_replaced_after_its_cold_start() -> None:
    result = run(a_fleet(1, failures=(Failure(10.0, Size.B2),)), timeout_s=None)
    running = [(at_s, now) for at_s, _, now in result.use[Size.B2].over_time]
    assert running == [(0.0, 1), (10.0, 0), (15.0, 1)]
    assert result.summaries()[ALL].sizes[Size.B9] > 0  # neighbours answered meanwhile


def test_sizes_asked_for_by_name_are_obeyed() -> None:
    result = run(a_fleet(4, slots=64), mix={Size.B9: 1.0})
    assert result.summaries()["by name"].sizes == {Size.B2: 0, Size.B9: 300, Size.B27: 0}


def test_the_dearest_promise_is_kept_best_and_costs_most() -> None:
    found = run(a_fleet(8, slots=64)).summaries()
    assert found[Tier.PREMIUM].quality_share > found[Tier.ECONOMY].quality_share
    assert (
        found[Tier.PREMIUM].usd / found[Tier.PREMIUM].requests > found[Tier.ECONOMY].usd / found[Tier.ECONOMY].requests
    )


def test_more_replicas_never_make_a_crowd_slower() -> None:
    few, many = (run(a_fleet(count), sped_up(TRACE, 12)).summaries()[ALL] for count in (1, 8))
    assert many.ttft_p99_s < few.ttft_p99_s
    assert many.in_time_share > few.in_time_share


def test_shared_processors_slow_everyone() -> None:
    alone, shared = (run(a_fleet(2, processors=many)).summaries()[ALL] for many in (100.0, 1.0))
    assert shared.total_p50_s > 1.1 * alone.total_p50_s


@pytest.mark.parametrize("exact", [False, True])
def test_conversations_find_their_cache_where_power_of_two_does_not(exact: bool) -> None:
    found = {}
    for choice in ReplicaChoice:
        config = ClusterConfig(routing=RoutingConfig(replica_choice=choice, queue_tokens=128))
        options = Options(exact=exact, block_tokens=64)
        result = run(a_fleet(4), sped_up(TALKS, 2), {Size.B2: 1.0}, None, options, config)
        found[choice] = result.summaries()[ALL].cached_share
    assert found[ReplicaChoice.PREFIX] > 1.1 * found[ReplicaChoice.POWER_OF_TWO] > 0


def test_jumps_and_steps_agree_on_a_fleet() -> None:
    requests = sped_up(TRACE, 2)
    jumped, stepped = (run(a_fleet(1), requests, options=Options(exact=exact)).summaries()[ALL] for exact in (0, 1))
    for name in ("ttft_p50_s", "ttft_p99_s", "total_p50_s", "total_p99_s", "goodput_per_s"):
        assert getattr(jumped, name) == pytest.approx(getattr(stepped, name), rel=0.10), name


def test_ends_are_counted_by_their_kind() -> None:
    assert [end.name for end in End] == ["ANSWERED", "REFUSED", "LATE", "LOST"]


def a_growing_fleet(**changes: object) -> Fleet:
    fleet = a_fleet(1, slots=8, budget_devices=9.0)
    sizes = {size: replace(each, min_replicas=0, max_replicas=6) for size, each in fleet.sizes.items()}
    return replace(fleet, sizes=sizes, **changes)  # type: ignore[arg-type]


def waves() -> list[TraceRequest]:
    """Two crowds with a quiet stretch between them."""
    crowd = sped_up(TRACE, 3)
    gap_s = crowd[-1].at_s + 400
    return [*crowd, *(replace(each, at_s=each.at_s + gap_s) for each in crowd)]


def test_replicas_follow_the_load_within_the_budget() -> None:
    config = CONFIG.model_copy(update={"scaling": CONFIG.scaling.model_copy(update={"window_s": 20.0})})
    result = run(a_growing_fleet(), waves(), options=Options(scaling=scaling_rules(config)))
    assert sorted(result.outcomes.number) == list(range(2 * len(TRACE)))
    assert result.use[Size.B2].most_replicas > 1
    assert result.reasons
    changes = sorted((at_s, size, count) for size, use in result.use.items() for at_s, count, _ in use.over_time)
    held = dict.fromkeys(Size, 1)
    for _, size, count in changes:
        held[size] = count
        assert sum(held.values()) <= 9
    fixed = run(a_fleet(3, slots=8), waves())
    assert sum(use.replica_s for use in result.use.values()) < sum(use.replica_s for use in fixed.use.values())


def test_a_sleeping_size_is_woken_and_its_neighbour_answers_meanwhile() -> None:
    fleet = a_growing_fleet()
    asleep = replace(fleet, sizes={**fleet.sizes, Size.B27: replace(fleet.sizes[Size.B27], replicas=0)})
    result = run(asleep, mix={Tier.PREMIUM: 1.0}, options=Options(scaling=scaling_rules(CONFIG)), timeout_s=None)
    assert result.summaries()[ALL].answered == len(TRACE)
    assert result.use[Size.B27].most_replicas >= 1


def test_a_lone_request_takes_what_its_steps_cost() -> None:
    fleet = a_fleet(1, hop_s=0.01)
    for exact in (False, True):
        result = run(fleet, [TraceRequest(0.0, 200, 11)], {Size.B2: 1.0}, None, Options(exact=exact))
        speed = fleet.sizes[Size.B2].speed
        first_s = speed.seconds(200, 0, 0) + 0.01
        assert result.outcomes.ttft_s[0] == pytest.approx(first_s)
        further_s = sum(speed.seconds(0, 1, 200 + number) for number in range(1, 11))
        assert result.outcomes.total_s[0] == pytest.approx(first_s + further_s)
