"""Scaling under one budget: bounds that always hold, and what a size gets when."""

import random
from bisect import bisect
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.config import ClusterConfig, Tier
from cluster.scaling.allot import allotted
from cluster.scaling.demand import demands, needed, slots_that_fit
from cluster.scaling.facts import Load, Memory, SizeLoad, Target
from cluster.scaling.policy import held_by, step
from cluster.scaling.rules import scaling_rules
from cluster.scaling.worth import Worth
from model.config import Size

RULES = scaling_rules(ClusterConfig())
TIERS = (None, *Tier)
SIZES = (Size.B2, Size.B9, Size.B27)
PRICES = {Size.B2: 0.1, Size.B9: 0.35, Size.B27: 1.04}


def size_load(size: Size, **facts: Any) -> SizeLoad:
    """A quiet size with room to grow, but for what is said of it."""
    usual: dict[str, Any] = {
        "size": size, "devices": 1.0, "running": 1, "starting": 0, "min_replicas": 0, "max_replicas": 8, "slots": 4,
        "ongoing": 0.0, "queued": 0.0, "kv_used_share": 0.0, "wanted_per_s": {}, "trend_per_s2": 0.0, "busy_s": 1.0,
        "cold_start_s": 10.0, "usd_per_mtoken": PRICES[size], "last_asked_s": 0.0,
    }  # fmt: skip
    return SizeLoad(**usual | facts)


def load_of(budget: float, **sizes: Mapping[str, Any]) -> Load:
    """`b2={...}` and so on; sizes that are not named are not served."""
    named = {"b2": Size.B2, "b9": Size.B9, "b27": Size.B27}
    return Load(0.0, budget, tuple(size_load(named[name], **facts) for name, facts in sizes.items()))


def by_size(targets: tuple[Target, ...]) -> dict[Size, int]:
    return {target.size: target.replicas for target in targets}


def settled(load: Load, seconds: float = 600.0, memory: Memory | None = None) -> tuple[Target, ...]:
    """What it comes to when every wish is granted at once."""
    memory, targets = memory or Memory(), ()
    for now_s in range(0, int(seconds), 5):
        asked = tuple(
            replace(each, last_asked_s=now_s if each.wanted_per_s else each.last_asked_s) for each in load.sizes
        )
        targets, memory = step(replace(load, now_s=float(now_s), sizes=asked), memory, RULES)
        load = replace(load, sizes=tuple(replace(s, running=by_size(targets)[s.size]) for s in load.sizes))
    return targets


rates = st.floats(0, 30).map(lambda rate: round(rate, 3))


@st.composite
def sizes(draw: st.DrawFn, size: Size) -> SizeLoad:
    most = draw(st.integers(1, 8))
    return size_load(
        size,
        devices=draw(st.sampled_from([0.5, 1.0, 2.0, 4.0])),
        running=draw(st.integers(0, 6)),
        starting=draw(st.integers(0, 3)),
        draining=draw(st.integers(0, 3)),
        min_replicas=draw(st.integers(0, min(1, most))),
        max_replicas=most,
        slots=draw(st.integers(1, 16)),
        ongoing=draw(st.floats(0, 50)),
        queued=draw(st.floats(0, 50)),
        kv_used_share=draw(st.floats(0, 1)),
        wanted_per_s={tier: draw(rates) for tier in draw(st.sets(st.sampled_from(TIERS)))},
        trend_per_s2=draw(st.floats(-1, 1)),
        busy_s=draw(st.sampled_from([0.0, 0.5, 2.0, 10.0])),
        last_asked_s=draw(st.none() | st.floats(-2000, 0)),
    )


@st.composite
def loads(draw: st.DrawFn) -> Load:
    served = tuple(draw(sizes(size)) for size in SIZES if size is not Size.B9 or draw(st.booleans()))
    least = sum(each.devices * each.min_replicas for each in served)
    return Load(0.0, least + draw(st.integers(0, 20)), served)


@settings(max_examples=300, deadline=None)
@given(loads(), st.integers(1, 6))
def test_within_bounds_and_never_above_the_budget(load: Load, steps: int) -> None:
    memory = Memory()
    for number in range(steps):
        before = {each.size: memory.targets.get(each.size, each.running + each.starting) for each in load.sizes}
        targets, memory = step(replace(load, now_s=30.0 * number), memory, RULES)
        for target, each in zip(targets, load.sizes, strict=True):
            assert each.min_replicas <= target.replicas <= each.max_replicas
            assert target.reason
        raised = [
            each for each in load.sizes if by_size(targets)[each.size] > max(before[each.size], each.min_replicas)
        ]
        if raised:  # nobody grows into devices that are still taken
            taken = sum(held_by(each, by_size(targets)[each.size]) for each in load.sizes)
            assert taken <= load.budget_devices + 1e-6
        if number:
            chosen = sum(by_size(targets)[each.size] * each.devices for each in load.sizes)
            assert chosen <= load.budget_devices + 1e-6


@settings(max_examples=100, deadline=None)
@given(loads())
def test_equal_inputs_equal_answers(load: Load) -> None:
    assert step(load, Memory(), RULES) == step(load, Memory(), RULES)


@settings(max_examples=200, deadline=None)
@given(loads(), st.sampled_from(SIZES), st.sampled_from(TIERS), rates)
def test_more_arrivals_never_call_for_fewer_replicas(load: Load, size: Size, tier: Tier | None, more: float) -> None:
    def total(now: Load) -> int:
        return sum(needed(each, 0, 0.0, RULES) for each in demands(now, RULES))

    raised = tuple(
        replace(each, wanted_per_s={**each.wanted_per_s, tier: each.wanted_per_s.get(tier, 0.0) + more})
        if each.size is size
        else each
        for each in load.sizes
    )
    assert total(replace(load, sizes=raised)) >= total(load)


@settings(max_examples=200, deadline=None)
@given(loads(), st.integers(1, 10))
def test_more_budget_never_keeps_fewer_promises(load: Load, more: int) -> None:
    def kept(devices: float) -> float:
        asked = demands(load, RULES)
        needs = {each.load.size: needed(each, 0, 0.0, RULES) for each in asked}
        return Worth(asked, RULES).promises(allotted(asked, needs, {}, devices, RULES))

    assert kept(load.budget_devices + more) >= kept(load.budget_devices) - 1e-6


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("per_s", [0.9, 2.3, 5.5, 11.1])
def test_steady_noisy_load_changes_direction_twice_at_most(seed: int, per_s: float) -> None:
    """Two hours of Poisson arrivals, rates as a window of a minute sees them."""
    rng, memory, replicas, moves = random.Random(seed), Memory(), 1, [0]
    arrived: list[float] = []
    at_s = 0.0
    while at_s < 7200:
        at_s += rng.expovariate(per_s)
        arrived.append(at_s)
    for now_s in range(60, 7200, 5):
        rate = (bisect(arrived, now_s) - bisect(arrived, now_s - 60)) / 60
        size = size_load(Size.B9, running=replicas, wanted_per_s={Tier.AUTO: rate}, last_asked_s=now_s)
        (target,), memory = step(Load(float(now_s), 8.0, (size,)), memory, RULES)
        if target.replicas != replicas and now_s > 600:
            moves.append(1 if target.replicas > replicas else -1)
        replicas = target.replicas
    directions = [move for move in moves if move]
    assert sum(1 for one, next_ in pairwise(directions) if one != next_) <= 2


def test_a_size_follows_its_load() -> None:
    assert by_size(settled(load_of(8, b9={"wanted_per_s": {Tier.AUTO: 10.0}})))[Size.B9] == 4  # 10 / (4 * 0.7)


def test_a_trend_counts_until_a_replica_is_up() -> None:
    rising = load_of(8, b9={"wanted_per_s": {Tier.AUTO: 2.0}, "trend_per_s2": 0.05, "cold_start_s": 30.0})
    (demand,) = demands(rising, RULES)
    assert demand.total_per_s == pytest.approx(3.5)
    steep = load_of(8, b9={"wanted_per_s": {Tier.AUTO: 2.0}, "trend_per_s2": 0.2, "cold_start_s": 30.0})
    (demand,) = demands(steep, RULES)
    assert demand.total_per_s == pytest.approx(4.0)


def test_a_queue_calls_for_more() -> None:
    (calm,) = demands(load_of(8, b9={"wanted_per_s": {Tier.AUTO: 2.0}}), RULES)
    (queue,) = demands(load_of(8, b9={"wanted_per_s": {Tier.AUTO: 2.0}, "queued": 40.0}), RULES)
    assert queue.total_per_s == calm.total_per_s + 40 / RULES.catch_up_s


def test_short_memory_counts_for_fewer_slots() -> None:
    pressed = size_load(Size.B9, running=1, ongoing=2.0, kv_used_share=0.9, slots=8)
    assert slots_that_fit(pressed) == pytest.approx(2.0)
    assert slots_that_fit(replace(pressed, kv_used_share=0.3)) == 8


def test_the_next_device_goes_to_the_dearer_promise() -> None:
    """Both are full; economy promises no quality, premium all of it, and nothing else can keep it."""
    load = load_of(3, b2={"wanted_per_s": {Tier.ECONOMY: 9.0}}, b27={"wanted_per_s": {Tier.PREMIUM: 9.0}})
    assert by_size(settled(load)) == {Size.B2: 0, Size.B27: 3}


def test_a_dear_replica_has_to_buy_more_for_its_devices() -> None:
    load = load_of(
        4, b2={"wanted_per_s": {Tier.ECONOMY: 12.0}}, b27={"wanted_per_s": {Tier.PREMIUM: 12.0}, "devices": 4.0}
    )
    assert by_size(settled(load)) == {Size.B2: 4, Size.B27: 0}


def test_with_promises_kept_either_way_money_decides() -> None:
    """One replica of either answers all there is; spilling onto 27b costs ten times as much."""
    load = load_of(1, b2={"wanted_per_s": {Tier.ECONOMY: 1.0}}, b27={"wanted_per_s": {}, "last_asked_s": 0.0})
    assert by_size(settled(load, 300)) == {Size.B2: 1, Size.B27: 0}


def test_sleeps_when_nobody_asks_and_wakes_when_somebody_does() -> None:
    asleep = settled(load_of(8, b9={}), 700)
    assert by_size(asleep)[Size.B9] == 0
    memory = Memory(targets={Size.B9: 0})
    load = replace(load_of(8, b9={"running": 0, "wanted_per_s": {None: 0.02}, "last_asked_s": 1000.0}), now_s=1001.0)
    (target,), _ = step(load, memory, RULES)
    assert target.replicas == 1


def test_does_not_wake_without_room_and_says_so() -> None:
    busy = {"running": 2, "max_replicas": 2, "wanted_per_s": {Tier.PREMIUM: 9.0}, "min_replicas": 2}
    load = load_of(2, b9={"running": 0, "wanted_per_s": {None: 0.02}}, b27=busy)
    targets, _ = step(load, Memory(), RULES)
    assert [(target.replicas, target.wanted) for target in targets] == [(0, 1), (2, 2)]
    assert "budget" in targets[0].reason


def test_draining_replicas_hold_their_devices() -> None:
    load = load_of(3, b2={"draining": 2}, b9={"wanted_per_s": {Tier.AUTO: 9.0}})
    assert by_size(settled(load))[Size.B9] == 1
    free = load_of(3, b2={"running": 0, "last_asked_s": None}, b9={"wanted_per_s": {Tier.AUTO: 9.0}})
    assert by_size(settled(free))[Size.B9] == 3


def test_a_step_down_that_was_undone_takes_twice_as_long_next_time() -> None:
    memory = Memory(targets={Size.B9: 2})
    low, high = ({"wanted_per_s": {Tier.AUTO: rate}, "max_replicas": 2} for rate in (1.0, 4.0))

    def until_moved(facts: dict[str, Any], now_s: float) -> float:
        nonlocal memory
        before = memory.targets[Size.B9]
        while memory.targets[Size.B9] == before:
            now_s += 5
            size = size_load(Size.B9, running=before, last_asked_s=now_s, **facts)
            _, memory = step(Load(now_s, 8.0, (size,)), memory, RULES)
        return now_s

    down_s = until_moved(low, 0.0)
    up_s = until_moved(high, down_s)
    again_s = until_moved(low, up_s)
    assert down_s == 5 + RULES.downscale_delay_s[Size.B9]
    assert again_s - up_s == 5 + 2 * RULES.downscale_delay_s[Size.B9]


def test_a_start_is_not_taken_back_unless_somebody_needs_the_device() -> None:
    memory = Memory(targets={Size.B9: 1, Size.B27: 0})
    quiet = {"running": 0, "starting": 1, "last_asked_s": None}
    alone = replace(load_of(1, b9=quiet, b27={"running": 0, "last_asked_s": None}), now_s=9000.0)
    targets, _ = step(alone, memory, RULES)
    assert by_size(targets)[Size.B9] == 1
    asked = replace(load_of(1, b9=quiet, b27={"running": 0, "wanted_per_s": {None: 0.1}}), now_s=9000.0)
    targets, memory = step(asked, memory, RULES)
    assert by_size(targets) == {Size.B9: 0, Size.B27: 0}  # its device is not free yet
    free = replace(load_of(1, b9={"running": 0, "last_asked_s": None}, b27={"running": 0, "wanted_per_s": {None: 0.1}}))
    targets, _ = step(replace(free, now_s=9001.0), memory, RULES)
    assert by_size(targets) == {Size.B9: 0, Size.B27: 1}
