"""The routing policy's promises, looked for counter-examples by hypothesis."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cluster.config import Cascade, ClusterConfig, Tier
from cluster.policy import choose, first_choice
from cluster.routing.choice import Offer
from cluster.routing.judge import Judge
from cluster.snapshot import Decision, Pace, Reason, Shed, Snapshot, Unaffordable
from model.config import Size
from tests.unit.cluster.facts import CONFIG, UNIT_USD, a_snapshot, a_state, an_ask, some_offers, some_rules

RULES = some_rules()
ORDER = list(Size)

loads = st.one_of(st.none(), st.floats(0, 6))
snapshots = st.builds(a_snapshot, loads, loads, loads)
shares = st.floats(0, 1)
offers = st.builds(some_offers, shares, shares, shares, st.floats(1, 50))
any_costs = st.builds(
    lambda quality, costs: tuple(map(Offer, Size, quality, costs, (20.0,) * 3)),
    st.tuples(shares, shares, shares),
    st.tuples(*[st.floats(0.01, 3)] * 3),
)
paces = st.builds(Pace, st.floats(0, 5), st.floats(0, 0.01), st.floats(0.001, 0.2))
paced = st.builds(
    lambda *each: Snapshot(tuple(a_state(size, pace=pace) for size, pace in zip(Size, each, strict=True))),
    paces, paces, paces,
)  # fmt: skip


def decided(*args: object) -> Decision:
    found = choose(*args)  # type: ignore[arg-type]
    assert isinstance(found, Decision)
    return found


@given(st.sampled_from(Size), snapshots, offers)
def test_an_explicit_size_is_obeyed_or_refused_never_changed(
    size: Size, now: Snapshot, offered: tuple[Offer, ...]
) -> None:
    match choose(an_ask(size, offered), now, RULES):
        case Decision(size=chosen, reason=reason):
            assert chosen is size
            assert reason is Reason.EXPLICIT
        case Shed(starting=starting):
            assert starting == (now[size].num_replicas == 0)


@given(st.sampled_from(Size), snapshots)
def test_an_explicit_size_is_changed_where_the_request_allows_it(size: Size, now: Snapshot) -> None:
    match choose(an_ask(size, allow_fallback=True), now, RULES):
        case Decision(size=chosen, reason=reason, tier=tier):
            assert tier is None
            assert now[chosen].num_replicas
            if now[size].num_replicas and now[size].load < CONFIG.routing.spill_load:
                assert (chosen, reason) == (size, Reason.EXPLICIT)
        case Shed():
            assert all(not s.num_replicas or s.load >= CONFIG.routing.max_load for s in now.sizes)


@given(st.sampled_from(Tier), snapshots, any_costs)
def test_equal_inputs_give_equal_decisions(tier: Tier, now: Snapshot, offered: tuple[Offer, ...]) -> None:
    ask = an_ask(tier, offered)
    assert choose(ask, now, RULES) == choose(ask, now, RULES)


@given(st.sampled_from(Tier), snapshots, offers)
def test_a_chosen_size_always_has_a_replica_and_room(tier: Tier, now: Snapshot, offered: tuple[Offer, ...]) -> None:
    match choose(an_ask(tier, offered), now, RULES):
        case Decision(size=size):
            assert now[size].num_replicas
            assert now[size].load < RULES.max_load(tier)
        case Shed():
            allowed = [now[size] for size in CONFIG.tiers[tier].sizes]
            assert all(not s.num_replicas or s.load >= RULES.max_load(tier) for s in allowed)


@given(offers)
def test_a_higher_promise_never_gets_a_cheaper_size(offered: tuple[Offer, ...]) -> None:
    tiers = sorted(CONFIG.tiers, key=lambda tier: CONFIG.tiers[tier].quality_share)
    sizes = [ORDER.index(decided(an_ask(tier, offered), a_snapshot(), RULES).size) for tier in tiers]
    assert sizes == sorted(sizes)


@given(st.sampled_from(Tier), any_costs, snapshots, st.floats(0, 3), st.floats(0, 3), st.none() | st.floats(0, 20))
def test_more_budget_never_gives_a_worse_size(
    tier: Tier, offered: tuple[Offer, ...], now: Snapshot, one: float, two: float, deadline_s: float | None
) -> None:
    found = []
    for limit in sorted((one, two)):
        ask = an_ask(tier, offered, max_cost_usd=limit * UNIT_USD, deadline_s=deadline_s)
        match choose(ask, now, RULES):
            case Decision(size=size):
                found.append(ORDER.index(size))
            case Unaffordable() | Shed():
                found.append(-1)
    assert found[0] <= found[1]


@given(st.sampled_from(Tier), any_costs, paced, st.floats(0, 20), st.floats(0, 20))
def test_a_looser_deadline_never_takes_a_dearer_size(
    tier: Tier, offered: tuple[Offer, ...], now: Snapshot, one: float, two: float
) -> None:
    tight, loose = (
        decided(an_ask(tier, offered, deadline_s=limit_s), now, RULES).size for limit_s in sorted((one, two))
    )
    assert ORDER.index(loose) <= ORDER.index(tight)


@given(any_costs, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_least_quality_never_gets_less(offered: tuple[Offer, ...], one: float, two: float) -> None:
    chosen = [
        decided(an_ask(Tier.ECONOMY, offered, min_quality=share), a_snapshot(), RULES) for share in sorted((one, two))
    ]
    low, high = (decision.offer(decision.size).quality for decision in chosen)
    assert low <= high + 1e-9 or one <= 0 or two <= 0


def test_economy_takes_the_smallest_and_premium_the_largest() -> None:
    cheap, dear = (decided(an_ask(tier), a_snapshot(), RULES) for tier in (Tier.ECONOMY, Tier.PREMIUM))
    assert (cheap.size, dear.size) == (Size.B2, Size.B27)


def test_what_defeats_every_size_is_not_paid_for() -> None:
    hopeless, clear = some_offers(0.05, 0.06, 0.07), some_offers(0.1, 0.2, 0.9)
    assert decided(an_ask(Tier.AUTO, hopeless), a_snapshot(), RULES).size is Size.B2
    assert decided(an_ask(Tier.AUTO, clear), a_snapshot(), RULES).size is Size.B27


def test_the_reason_names_chances_and_costs() -> None:
    detail = decided(an_ask(Tier.AUTO), a_snapshot(), RULES).detail
    assert "9b is worth most at auto's promise" in detail
    assert "2b 0.40 at 0.10, 9b 0.70 at 0.34, 27b 0.90 at 1.00" in detail


def test_a_tier_spills_to_the_next_larger_size_and_says_so() -> None:
    decision = decided(an_ask(Tier.ECONOMY), a_snapshot(b2=2.0), RULES)
    assert (decision.size, decision.reason) == (Size.B9, Reason.SPILLED)
    assert "2b is under pressure" in decision.detail


def test_a_size_without_replica_is_covered_by_its_neighbour() -> None:
    decision = decided(an_ask(Tier.PREMIUM), a_snapshot(b27=None), RULES)
    assert (decision.size, decision.reason) == (Size.B9, Reason.FELL_BACK)


def test_under_pressure_everywhere_the_shortest_queue_is_taken() -> None:
    assert decided(an_ask(Tier.AUTO), a_snapshot(b2=3.0, b9=1.5, b27=2.0), RULES).size is Size.B9


def test_full_everywhere_is_refused_with_a_time_to_come_back() -> None:
    shed = choose(an_ask(Tier.AUTO), a_snapshot(b2=5.0, b9=5.0, b27=5.0), RULES)
    assert isinstance(shed, Shed)
    assert not shed.starting
    assert shed.retry_after_s > 0


def test_a_sleeping_size_may_be_chosen_since_the_request_wakes_it() -> None:
    states = tuple(a_state(size, replicas=0 if size is Size.B27 else 1, wakes=size is Size.B27) for size in Size)
    assert decided(an_ask(Size.B27), Snapshot(states), RULES).size is Size.B27


def test_a_waived_promise_takes_the_cheapest_and_says_so() -> None:
    now = a_snapshot(waived=frozenset({Tier.AUTO}))
    decision = decided(an_ask(Tier.AUTO), now, RULES)
    assert (decision.size, decision.reason) == (Size.B2, Reason.BROWNED_OUT)
    assert "waived" in decision.detail
    assert decided(an_ask(Tier.PREMIUM), now, RULES).size is Size.B27
    assert decided(an_ask(Tier.AUTO, min_quality=1.0), now, RULES).size is not Size.B2  # the request's own word


def test_a_cost_limit_takes_a_cheaper_size_and_bounds_the_answer() -> None:
    decision = decided(an_ask(Tier.PREMIUM, max_cost_usd=0.5 * UNIT_USD), a_snapshot(), RULES)
    assert (decision.size, decision.reason) == (Size.B9, Reason.LIMITED)
    most = decision.max_output_tokens
    assert most is not None
    assert (20 / 4 + most) * CONFIG.sizes[Size.B9].usd_per_mtoken / 1e6 <= 0.5 * UNIT_USD
    refused = choose(an_ask(Tier.PREMIUM, max_cost_usd=0.01 * UNIT_USD), a_snapshot(), RULES)
    assert isinstance(refused, Unaffordable)
    assert refused.message.startswith("max_cost:")


def test_a_deadline_takes_the_larger_size_that_makes_it() -> None:
    slow, fast = Pace(9.0, 0.0, 0.01), Pace(0.0, 0.0, 0.01)
    now = Snapshot((a_state(Size.B2, pace=slow), a_state(Size.B9, pace=slow), a_state(Size.B27, pace=fast)))
    assert decided(an_ask(Tier.AUTO, deadline_s=20.0), now, RULES).size is Size.B9
    decision = decided(an_ask(Tier.AUTO, deadline_s=2.0), now, RULES)
    assert (decision.size, decision.reason) == (Size.B27, Reason.LIMITED)


def test_what_would_surely_be_late_is_refused_while_there_is_a_queue() -> None:
    slow = Pace(30.0, 0.0, 0.01)
    busy = Snapshot(tuple(a_state(size, load=2.0, pace=slow) for size in Size))
    shed = choose(an_ask(Tier.PREMIUM, timeout_s=10.0), busy, RULES)
    assert isinstance(shed, Shed)
    assert "too long for the 10.0 s allowed" in shed.message
    assert decided(an_ask(Tier.PREMIUM, timeout_s=60.0), busy, RULES).size is Size.B2  # the shortest queue, all equal
    idle = Snapshot(tuple(a_state(size, pace=slow) for size in Size))  # what was slow once may be quick now
    assert decided(an_ask(Tier.PREMIUM, timeout_s=10.0), idle, RULES).size is Size.B27


def test_the_cheapest_promise_is_refused_first_and_waits_longest() -> None:
    order = [Tier.ECONOMY, Tier.BALANCED, Tier.AUTO, Tier.PREMIUM]
    limits, priorities = [RULES.max_load(t) for t in order], [RULES.priority(t, 0) for t in order]
    assert limits == sorted(limits)
    assert len(set(limits)) == 4
    assert limits[-1] == CONFIG.routing.max_load == RULES.max_load(None)
    assert priorities == sorted(priorities, reverse=True)
    assert RULES.priority(Tier.AUTO, -10) > RULES.priority(Tier.PREMIUM, 10)  # no wish passes a dearer tier


def test_cheaper_requests_are_no_load_for_a_dearer_tier() -> None:
    busy = replace(a_state(Size.B27, load=3.0), by_tier={Tier.ECONOMY: 80, Tier.PREMIUM: 16})
    now = Snapshot((a_state(Size.B2), a_state(Size.B9), busy))
    assert decided(an_ask(Tier.PREMIUM), now, RULES).reason is Reason.CHEAPEST
    assert decided(an_ask(Size.B27), now, RULES).size is Size.B27
    assert RULES.load(busy, Tier.ECONOMY) == 3.0
    assert RULES.load(busy, Tier.PREMIUM) == 0.5


def test_while_promises_are_waived_half_of_the_largest_size_is_kept_free() -> None:
    """What promises nothing now takes what the others leave, and not their room."""
    some = a_snapshot(b2=2.5, waived=frozenset({Tier.BALANCED}))
    assert decided(an_ask(Tier.ECONOMY), some, RULES).size is Size.B9
    room = a_snapshot(b2=2.5, b9=2.6, b27=0.4, waived=frozenset({Tier.BALANCED}))
    assert decided(an_ask(Tier.ECONOMY), room, RULES).size is Size.B27
    full = a_snapshot(b2=2.5, b9=2.6, b27=0.6, waived=frozenset({Tier.BALANCED}))
    assert isinstance(choose(an_ask(Tier.ECONOMY), full, RULES), Shed)
    assert decided(an_ask(Tier.BALANCED), full, RULES).size is Size.B2  # it may wait a little longer
    assert decided(an_ask(Tier.AUTO), full, RULES).size is Size.B27
    down = a_snapshot(b2=None, waived=frozenset({Tier.BALANCED}))
    assert decided(an_ask(Tier.ECONOMY), down, RULES).reason is Reason.FELL_BACK


SURE, UNSURE = np.array([[-0.01, -0.05]] * 8), np.array([[-1.0, -3.0]] * 8)
JUDGE = Judge(
    np.array([0.5, 3.0, 0.5, 1.5]), {size: np.array([1.0, 0.0, 0.0, 0.0]) for size in (Size.B9, Size.B27)}, SURE, UNSURE
)


def test_where_looking_pays_the_smaller_size_answers_first() -> None:
    rules = some_rules({Size.B2: JUDGE, Size.B9: JUDGE})
    uncertain = some_offers(0.5, 0.55, 0.95)
    decision = decided(an_ask(Tier.AUTO, uncertain), a_snapshot(), rules)
    assert (decision.size, decision.then) == (Size.B2, Size.B27)
    assert "takes over if that looks weak" in decision.detail
    # Nothing to look at, no room to go on in, no second size allowed, or limits that cannot be kept with two sizes:
    for other in (
        decided(an_ask(Tier.AUTO, uncertain), a_snapshot(), some_rules()),
        decided(an_ask(Tier.AUTO, uncertain), a_snapshot(b27=2.0), rules),
        decided(an_ask(Tier.AUTO, uncertain, cascade=False), a_snapshot(), rules),
        decided(an_ask(Tier.AUTO, uncertain, deadline_s=60.0), a_snapshot(), rules),
        decided(an_ask(Size.B27, uncertain), a_snapshot(), rules),
        decided(an_ask(Tier.AUTO, some_offers(0.02, 0.03, 0.99)), a_snapshot(), rules),
    ):
        assert other.then is None


def test_a_cascade_can_be_forced_and_forbidden() -> None:
    hard = some_offers(0.02, 0.03, 0.99)
    for mode, then in ((Cascade.ON, Size.B27), (Cascade.OFF, None)):
        tiers = {tier: replace_cascade(config, mode) for tier, config in CONFIG.tiers.items()}
        config = ClusterConfig(tiers=tiers)
        rules = replace(some_rules({Size.B2: JUDGE, Size.B9: JUDGE}), tiers=config.tiers)
        decision = decided(an_ask(Tier.AUTO, hard), a_snapshot(), rules)
        assert decision.then is then


def replace_cascade(config: object, mode: Cascade) -> object:
    return config.model_copy(update={"cascade": mode})  # type: ignore[attr-defined]


def test_a_tier_goes_to_a_neighbour_while_its_size_sleeps_and_waits_only_where_nobody_has_room() -> None:
    def states(b9_load: float, no_room: str = "") -> Snapshot:
        asleep = replace(a_state(Size.B27, replicas=0, wakes=True), no_room=no_room)
        return Snapshot((a_state(Size.B9, load=b9_load), asleep))

    rested = decided(an_ask(Tier.PREMIUM), states(0.0), RULES)
    assert (rested.size, rested.reason) == (Size.B9, Reason.FELL_BACK)
    full = decided(an_ask(Tier.PREMIUM), states(9.0), RULES)
    assert full.size is Size.B27
    assert "waits" in full.detail
    assert isinstance(choose(an_ask(Tier.PREMIUM), states(9.0, "the budget is used up"), RULES), Shed)
    refused = choose(an_ask(Size.B27), states(0.0, "the budget is used up"), RULES)
    assert isinstance(refused, Shed)
    assert not refused.starting
    assert "the budget is used up" in refused.message
    assert first_choice(an_ask(Tier.PREMIUM), states(9.0), RULES) is Size.B27
