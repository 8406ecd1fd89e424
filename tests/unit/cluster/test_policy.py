"""The routing policy's promises, looked for counter-examples by hypothesis."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.config import ClusterConfig, Tier
from cluster.policy import choose, expected
from cluster.snapshot import Decision, Reason, RouteFacts, Shed, SizeState, Snapshot
from model.config import Size

CONFIG = ClusterConfig()


def a_state(size: Size, replicas: int = 1, load: float = 0.0, wakes: bool = False) -> SizeState:
    slots = 32 * replicas
    return SizeState(size, replicas, round(load * slots), slots, 8192, CONFIG.sizes[size].usd_per_mtoken, wakes)


def a_snapshot(**loads: float | None) -> Snapshot:
    """Loads by size, `b2=0.5`; None means no replica."""
    named = {Size.B2: loads.get("b2", 0.0), Size.B9: loads.get("b9", 0.0), Size.B27: loads.get("b27", 0.0)}
    return Snapshot(tuple(a_state(size, 0 if load is None else 1, load or 0.0) for size, load in named.items()))


def an_ask(target: Size | Tier, difficulty: float = 0.0) -> RouteFacts:
    size = target if isinstance(target, Size) else None
    tier = target if isinstance(target, Tier) else None
    return RouteFacts(size, tier, difficulty, prompt_tokens=20, max_tokens=50)


loads = st.one_of(st.none(), st.floats(0, 6))
snapshots = st.builds(lambda a, b, c: a_snapshot(b2=a, b9=b, b27=c), loads, loads, loads)
difficulties = st.floats(0, 1)


@given(st.sampled_from(Size), snapshots, difficulties)
def test_an_explicit_size_is_obeyed_or_refused_never_changed(size: Size, now: Snapshot, difficulty: float) -> None:
    match choose(an_ask(size, difficulty), now, CONFIG):
        case Decision(size=chosen, reason=reason):
            assert chosen is size
            assert reason is Reason.EXPLICIT
        case Shed(starting=starting):
            assert starting == (now[size].num_replicas == 0)


@given(st.sampled_from(Tier), snapshots, difficulties)
def test_equal_inputs_give_equal_decisions(tier: Tier, now: Snapshot, difficulty: float) -> None:
    ask = an_ask(tier, difficulty)
    assert choose(ask, now, CONFIG) == choose(ask, now, CONFIG)


@given(st.sampled_from(Tier), difficulties)
def test_on_an_idle_cluster_the_promise_is_kept_at_the_least_price(tier: Tier, difficulty: float) -> None:
    decision = choose(an_ask(tier, difficulty), a_snapshot(), CONFIG)
    assert isinstance(decision, Decision)
    quality = {size: expected(config.quality, difficulty) for size, config in CONFIG.sizes.items()}
    floor = CONFIG.tiers[tier].quality_share * max(quality.values())
    good = [size for size in CONFIG.sizes if quality[size] >= floor - 1e-9]
    assert decision.size == min(good, key=lambda size: CONFIG.sizes[size].usd_per_mtoken)


@given(st.sampled_from(Tier), snapshots, difficulties)
def test_a_chosen_size_always_has_a_replica_and_room(tier: Tier, now: Snapshot, difficulty: float) -> None:
    match choose(an_ask(tier, difficulty), now, CONFIG):
        case Decision(size=size):
            assert now[size].num_replicas
            assert now[size].load < CONFIG.routing.max_load
        case Shed():
            allowed = [now[size] for size in CONFIG.tiers[tier].sizes]
            assert all(not s.num_replicas or s.load >= CONFIG.routing.max_load for s in allowed)


@given(difficulties)
def test_a_higher_promise_never_gets_a_cheaper_size(difficulty: float) -> None:
    tiers = sorted(CONFIG.tiers, key=lambda tier: CONFIG.tiers[tier].quality_share)
    prices = []
    for tier in tiers:
        decision = choose(an_ask(tier, difficulty), a_snapshot(), CONFIG)
        assert isinstance(decision, Decision)
        prices.append(CONFIG.sizes[decision.size].usd_per_mtoken)
    assert prices == sorted(prices)


def test_economy_takes_the_smallest_and_premium_the_largest() -> None:
    now = a_snapshot()
    cheap, dear = choose(an_ask(Tier.ECONOMY, 1.0), now, CONFIG), choose(an_ask(Tier.PREMIUM, 1.0), now, CONFIG)
    assert isinstance(cheap, Decision)
    assert isinstance(dear, Decision)
    assert (cheap.size, dear.size) == (Size.B2, Size.B27)


def test_a_tier_spills_to_the_next_larger_size_and_says_so() -> None:
    decision = choose(an_ask(Tier.ECONOMY), a_snapshot(b2=2.0), CONFIG)
    assert isinstance(decision, Decision)
    assert (decision.size, decision.reason) == (Size.B9, Reason.SPILLED)
    assert "2b is under pressure" in decision.detail


def test_a_size_without_replica_is_covered_by_its_neighbour() -> None:
    decision = choose(an_ask(Tier.PREMIUM, 1.0), a_snapshot(b27=None), CONFIG)
    assert isinstance(decision, Decision)
    assert (decision.size, decision.reason) == (Size.B9, Reason.FELL_BACK)


def test_under_pressure_everywhere_the_shortest_queue_is_taken() -> None:
    decision = choose(an_ask(Tier.AUTO), a_snapshot(b2=3.0, b9=1.5, b27=2.0), CONFIG)
    assert isinstance(decision, Decision)
    assert decision.size is Size.B9


def test_full_everywhere_is_refused_with_a_time_to_come_back() -> None:
    shed = choose(an_ask(Tier.AUTO), a_snapshot(b2=5.0, b9=5.0, b27=5.0), CONFIG)
    assert isinstance(shed, Shed)
    assert not shed.starting
    assert shed.retry_after_s > 0


def test_a_sleeping_size_may_be_chosen_since_the_request_wakes_it() -> None:
    states = tuple(a_state(size, replicas=0 if size is Size.B27 else 1, wakes=size is Size.B27) for size in Size)
    decision = choose(an_ask(Size.B27), Snapshot(states), CONFIG)
    assert isinstance(decision, Decision)
    assert decision.size is Size.B27
