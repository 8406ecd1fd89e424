"""Whole wishes: what is planned, what binds, what is refused and what is nearest, and that a replay keeps it."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.config import DEFAULT_TIERS, ClusterConfig, Tier
from cluster.forecast import profile_of
from cluster.planning.binding import binding, nearest, reasons, why_not_alone
from cluster.planning.capacity import Slo
from cluster.planning.demand import demand_of
from cluster.planning.planner import Planner, Wish, late_share, only
from cluster.planning.replay import Replay, replayed
from cluster.planning.settings import settings_of
from cluster.speeds.file import read_speeds
from cluster.trace_shape import sped_up
from cluster.traces import read_trace
from model.config import Quantization, Size

TRACES = Path(__file__).parents[3] / "data" / "traces"
AZURE = sped_up(read_trace(TRACES / "azure_conv_2023_300.csv.gz"), 8)
SLO = Slo(0.95, ttft_s=2.0, tpot_s=0.1)
TRAFFIC = {Tier.ECONOMY: 0.3, Tier.BALANCED: 0.3, Tier.AUTO: 0.25, Tier.PREMIUM: 0.15}
PROMISES = {tier: DEFAULT_TIERS[tier].quality_share for tier in TRAFFIC}


@pytest.fixture(scope="module")
def planner() -> Planner:
    settings = ClusterConfig()
    routing = settings.routing.model_copy(update={"profile": "gemma-2"})
    return Planner(read_speeds(), profile_of(settings.model_copy(update={"routing": routing})))


def a_wish(**change: object) -> Wish:
    found = Wish(
        demand=demand_of(AZURE, 5, late_share(SLO)), slo=SLO, traffic=TRAFFIC, promises=PROMISES,
        sizes=tuple(Size), precisions=(None, Quantization.INT8), devices={"h100-80gb": None, "l4-24gb": None},
    )  # fmt: skip
    return replace(found, **change)  # type: ignore[arg-type]


def test_a_plan_is_cheaper_than_one_size_alone_and_is_kept_in_a_replay(planner: Planner) -> None:
    planned = planner.plan(a_wish())
    plan, alone = planned.plan, only(planned, Size.B27)
    assert plan is not None
    assert alone is not None
    assert plan.usd_per_hour < alone.usd_per_hour
    settings = settings_of(plan, DEFAULT_TIERS, "gemma-2")
    kept = replayed(plan, settings, AZURE, Replay(TRAFFIC, SLO))
    assert kept.share >= SLO.share
    assert kept.requests == len(AZURE)
    assert kept.quality == pytest.approx(plan.quality, abs=0.06)  # of 300 requests


def test_settings_are_the_plan(planner: Planner) -> None:
    plan = planner.plan(a_wish()).plan
    assert plan is not None
    settings = settings_of(plan, DEFAULT_TIERS, "gemma-2")
    assert set(settings.sizes) == {part.size for part in plan.parts}
    for part in plan.parts:
        size = settings.sizes[part.size]
        assert size.tensor_parallel == part.candidate.speed.degree
        assert size.engine.quantization is part.candidate.speed.quantization
        assert size.replicas.min_replicas == size.replicas.max_replicas == part.replicas
    for tier, mix in plan.mixes.items():
        assert settings.tiers[tier].quality_share == mix.threshold
        assert mix.quality >= PROMISES[tier] - 0.001


def test_what_binds_would_save_when_eased(planner: Planner) -> None:
    planned = planner.plan(a_wish(demand=replace(a_wish().demand, per_s=300.0)))
    assert planned.plan is not None
    eased = binding(planner, planned)
    assert any("premium promises 0.95" in each.what for each in eased)
    assert all(each.saved_usd_per_hour(planned.plan) > 0 for each in eased)
    saved = [each.saved_usd_per_hour(planned.plan) for each in eased]
    assert saved == sorted(saved, reverse=True)


def test_27b_in_bf16_on_40_gb_is_refused_with_what_is_nearest(planner: Planner) -> None:
    few = replace(a_wish().demand, per_s=0.1, mean_per_s=0.1)
    wish = a_wish(demand=few, sizes=(Size.B27,), precisions=(None,), devices={"a100-40gb": 1})
    planned = planner.plan(wish)
    assert planned.plan is None
    (reason,) = reasons(planner, planned)
    assert "27b in bf16 on 1 × a100-40gb: needs 56.7 GB" in reason
    assert "int8 (29.5 GB)" in reason
    near = {each.what: each.plan for each in nearest(planner, planned)}
    (part,) = near["int8 allowed"].parts
    assert (part.candidate.precision, part.devices) == ("int8", 1)
    (part,) = near["as many devices as it takes"].parts
    assert (part.candidate.precision, part.candidate.speed.degree) == ("bf16", 2)


def test_a_promise_that_the_sizes_cannot_keep_is_named(planner: Planner) -> None:
    planned = planner.plan(a_wish(sizes=(Size.B2, Size.B9)))
    assert planned.plan is None
    assert any(reason.startswith("premium promises 1.00") for reason in reasons(planner, planned))
    assert "27b served too" in [each.what for each in nearest(planner, planned)]
    whole = planner.plan(a_wish())
    assert "less than balanced, auto, premium promises" in why_not_alone(planner, whole, Size.B2)


def test_an_slo_beyond_the_devices_is_named_and_a_looser_one_found(planner: Planner) -> None:
    planned = planner.plan(a_wish(slo=Slo(0.95, ttft_s=0.001, tpot_s=0.1), devices={"l4-24gb": 8}))
    assert planned.plan is None
    assert any("keep the SLO; bound by time to the first token" in reason for reason in reasons(planner, planned))


def test_too_few_devices_are_named(planner: Planner) -> None:
    planned = planner.plan(a_wish(devices={"h100-80gb": 1}))
    assert planned.plan is None
    assert reasons(planner, planned) == [
        f"1 × h100-80gb are too few for {planned.wish.demand.per_s:.2f} requests per second"
    ]
    assert "as many devices as it takes" in [each.what for each in nearest(planner, planned)]
