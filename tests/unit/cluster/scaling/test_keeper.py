"""Reports and Serve's counts become verdicts: draining replicas, starts, silent processes."""

from dataclasses import replace

import pytest

from cluster.config import AutoscaleConfig, ClusterConfig, ScalingConfig, Tier
from cluster.scaling.keeper import Keeper, Seen
from cluster.scaling.occupancy import Occupancy, busy_s
from cluster.scaling.report import Count, IngressReport, SizeReport, load_of
from cluster.scaling.verdict import Verdict
from model.config import Size

DEFAULT = ClusterConfig()
CONFIG = DEFAULT.model_copy(
    update={
        "scaling": ScalingConfig(budget_devices=6),
        "sizes": {
            size: each.model_copy(
                update={
                    "replicas": AutoscaleConfig(min_replicas=0, max_replicas=4, upscale_delay_s=0),
                    "tensor_parallel": 1,
                }
            )
            for size, each in DEFAULT.sizes.items()
        },
    }
)
QUIET = SizeReport(Size.B9, (), 0.0, 0, 0, None, 0.0, 0.0, 0, 0.0, 0.0)


def a_report(number: int, process: str = "a", *, of: SizeReport = QUIET) -> IngressReport:
    return IngressReport(process, number, (of,))


def asked(per_s: float) -> SizeReport:
    """A size that is asked for, its requests a second long."""
    return replace(QUIET, wanted_per_s=((Tier.AUTO, per_s),), idle_s=0.0, slot_s=60.0, num_ended=60.0)


def seen(*running: str, target: int | None = None) -> dict[Size, Seen]:
    return {Size.B9: Seen(frozenset(running), len(running) if target is None else target)}


def nine(verdict: Verdict | None) -> tuple[int, int, int, int]:
    assert verdict is not None
    of = verdict.get(Size.B9)
    assert of is not None
    return of.target, of.running, of.starting, of.draining


def test_reports_of_several_processes_are_one_load() -> None:
    one = replace(asked(1.0), waiting=3, unplaced=1, kv_used_share=0.2, ongoing=4)
    two = replace(asked(2.5), waiting=2, unplaced=2, kv_used_share=0.3, ongoing=5, idle_s=7.0)
    counts = {Size.B9: Count(2, 1, 0, None)}
    load = load_of([a_report(1, "a", of=one), a_report(1, "b", of=two)], counts, CONFIG, 100.0)[Size.B9]
    assert load.wanted_per_s == {Tier.AUTO: 3.5}
    assert (load.ongoing, load.queued, load.kv_used_share, load.last_asked_s) == (9, 3 + 3, 0.3, 100.0)
    assert load.busy_s == pytest.approx(60 / 120)  # slots are seen by both, each ended its own


def test_silence_decides_nothing() -> None:
    keeper = Keeper(lambda _name: False)
    assert keeper.look([], seen("x"), CONFIG, 0.0) is None
    assert keeper.look([a_report(1)], seen("x"), CONFIG, 0.0) is not None
    assert keeper.look([a_report(1)], seen("x"), CONFIG, 11.0) is None
    assert keeper.silent == {"a"}
    assert keeper.look([a_report(2)], seen("x"), CONFIG, 12.0) is not None


def test_who_runs_no_more_drains_until_its_process_is_gone() -> None:
    alive = {"x", "y"}
    keeper = Keeper(alive.__contains__)
    keeper.look([a_report(1)], seen("x", "y"), CONFIG, 0.0)
    assert nine(keeper.look([a_report(2)], seen("x"), CONFIG, 1.0))[1:] == (1, 0, 1)
    assert nine(keeper.look([a_report(3)], seen("x"), CONFIG, 2.0))[1:] == (1, 0, 1)
    alive.remove("y")
    assert nine(keeper.look([a_report(4)], seen("x"), CONFIG, 3.0))[1:] == (1, 0, 0)


def test_a_start_is_timed_from_the_wish_and_each_step_told() -> None:
    keeper = Keeper(lambda _name: False)
    verdict = keeper.look([a_report(1, of=asked(0.1))], seen(), CONFIG, 100.0)
    assert nine(verdict) == (1, 0, 0, 0)
    assert verdict is not None
    assert [(move.size, move.before, move.after) for move in verdict.moves] == [(Size.B9, 0, 1)]
    verdict = keeper.look([a_report(2, of=asked(0.1))], seen(target=1), CONFIG, 103.0)
    assert nine(verdict) == (1, 0, 1, 0)
    verdict = keeper.look([a_report(3, of=asked(0.1))], seen("x"), CONFIG, 107.5)
    assert verdict is not None
    assert (of := verdict.get(Size.B9)) is not None
    assert of.cold_start_s == 7.5
    assert of.place_s is None  # no report said yet what of it was the replica's own
    verdict = keeper.look([a_report(4, of=replace(asked(0.1), start_s=5.0))], seen("x"), CONFIG, 108.0)
    assert verdict is not None
    assert (of := verdict.get(Size.B9)) is not None
    assert of.place_s == 2.5
    assert len(verdict.moves) == 1


def test_a_size_that_the_settings_lack_is_left_alone() -> None:
    settings = CONFIG.model_copy(update={"sizes": {Size.B9: CONFIG.sizes[Size.B9]}})
    verdict = Keeper(lambda _name: False).look(
        [a_report(1)], seen("x") | {Size.B2: Seen(frozenset("y"), 1)}, settings, 0.0
    )
    assert verdict is not None
    assert [each.size for each in verdict.sizes] == [Size.B9]


def test_queues_do_not_make_a_size_slow() -> None:
    """Four slots at work and two requests ended a second: two seconds each, however long they waited."""
    seen_, now_s = Occupancy(60.0), 0.0
    for tick in range(400):
        now_s = tick * 0.25
        seen_.running(Size.B9, 4, now_s)
        if tick % 2:
            seen_.ended(Size.B9, now_s)
    known = busy_s(seen_.slot_s(Size.B9), seen_.num_ended(Size.B9))
    assert known == pytest.approx(2.0, rel=0.02)
    seen_.running(Size.B9, 0, now_s)
    seen_.running(Size.B9, 0, now_s + 300)
    assert busy_s(seen_.slot_s(Size.B9), seen_.num_ended(Size.B9)) == pytest.approx(known)
    assert busy_s(seen_.slot_s(Size.B2), seen_.num_ended(Size.B2)) == 0.0


def test_a_wish_that_was_taken_back_is_not_timed() -> None:
    keeper, one = Keeper(lambda _name: False), CONFIG.model_copy(update={"scaling": ScalingConfig(budget_devices=1)})
    none = Seen(frozenset(), 0)
    both = {Size.B9: none, Size.B27: none}
    keeper.look([a_report(1, of=asked(0.1))], both, one, 0.0)
    other = replace(asked(9.0), size=Size.B27, wanted_per_s=((Tier.PREMIUM, 9.0),))
    report = IngressReport("a", 2, (replace(QUIET, idle_s=one.scaling.sleep_after_s), other))
    assert nine(keeper.look([report], both | {Size.B9: Seen(frozenset(), 1)}, one, 5.0))[0] == 0
    keeper.look([a_report(3, of=asked(0.1))], both, one, 100.0)
    verdict = keeper.look([a_report(4, of=asked(0.1))], both | {Size.B9: Seen(frozenset("x"), 1)}, one, 104.0)
    assert verdict is not None
    assert (of := verdict.get(Size.B9)) is not None
    assert of.cold_start_s == 4.0
