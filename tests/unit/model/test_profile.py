"""Where the time goes: the instruments' sums, the trace that a viewer reads, stacks without a word of anybody's."""

import asyncio
import json
import sys
import threading
from collections import Counter
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.capacity import Capacity
from model.errors import Fault
from model.instruments import PARTS, Instruments, StepRecord
from model.profile import Profile, Profiler, summary
from model.scheduler import SchedulerLoad
from model.stacks import collapsed, look, sample_stacks
from model.stats import stats_of
from model.trace import chrome_trace

TIMES = st.floats(0, 10, allow_nan=False)


def a_step(instruments: Instruments, sequences: int = 3) -> None:
    for part in PARTS:
        with instruments.part(part):
            pass
    instruments.end(40, sequences, 2, 5, 1)


def a_profile(*steps: StepRecord, began_s: float = 0.0, left_out: int = 0) -> Profile:
    return Profile("2b#0", 7, began_s, began_s + 2.0, steps, left_out, None)


def test_blocks_are_free_cached_or_used_and_guesses_right_or_wrong() -> None:
    ticks = count()
    instruments = Instruments(lambda: float(next(ticks)))
    a_step(instruments)
    a_step(instruments)
    a_step(instruments, sequences=0)  # nothing was done
    load = SchedulerLoad(3, 2, 900, 1000, 350, 200, 4, 30, 120)
    stats = stats_of(load, instruments.total, Capacity(10, 20, 1000, 1, 2))
    assert (stats.free_blocks, stats.cached_blocks, stats.used_blocks) == (700, 200, 100)
    assert stats.free_blocks + stats.cached_blocks + stats.used_blocks == stats.total_blocks
    assert (stats.accepted_draft_tokens, stats.rejected_draft_tokens) == (2, 8)
    assert (stats.steps, stats.computed_tokens, stats.output_tokens) == (2, 80, 4)
    assert stats.part_s == dict.fromkeys(PARTS, 2.0)
    assert (stats.weight_bytes, stats.kv_bytes) == (10, 20)


@given(st.lists(st.tuples(TIMES, st.tuples(*[TIMES] * len(PARTS))), max_size=5))
def test_parts_fill_their_step_and_never_leave_it(steps: list[tuple[float, tuple[float, ...]]]) -> None:
    """A viewer nests stretches by their times, so a part that ends after its step would be drawn beside it."""
    records = [StepRecord(gap + 100 * place, times, 1, 1, 1) for place, (gap, times) in enumerate(steps)]
    trace = json.loads(json.dumps(chrome_trace(a_profile(*records, began_s=0.0))))
    stretches = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert [event["name"] for event in stretches] == ["step", *PARTS] * len(records)
    for begin in range(0, len(stretches), 1 + len(PARTS)):
        step, *parts = stretches[begin : begin + 1 + len(PARTS)]
        assert parts[0]["ts"] == step["ts"] >= 0
        assert all(one["ts"] + one["dur"] == pytest.approx(two["ts"], abs=2e-3) for one, two in pairwise(parts))
        assert parts[-1]["ts"] + parts[-1]["dur"] == pytest.approx(step["ts"] + step["dur"], abs=2e-3)
    assert all(event["pid"] == 7 and "tid" in event for event in trace["traceEvents"])


def test_a_step_says_what_it_worked_on() -> None:
    trace = chrome_trace(a_profile(StepRecord(9.0, (0.001, 0.006, 0.002, 0.001), 40, 3, 2, 5, 1), began_s=9.5))
    (step,) = [event for event in trace["traceEvents"] if event["name"] == "step"]
    assert (step["ts"], step["dur"]) == (0, 10_000)
    assert step["args"] == {
        "tokens": 40, "sequences": 3, "output_tokens": 2, "draft_tokens": 5, "accepted_tokens": 1
    }  # fmt: skip
    (window,) = [event for event in trace["traceEvents"] if event["ph"] == "i"]
    assert window["ts"] == 500_000


def test_the_summary_is_of_the_window_alone() -> None:
    before, within = StepRecord(1.0, (1.0, 1.0, 1.0, 1.0), 9, 9, 9), StepRecord(5.5, (0.1, 0.6, 0.2, 0.1), 40, 4, 2)
    told = summary(a_profile(before, within, began_s=5.0, left_out=2))
    assert (told["steps"], told["tokens"], told["output_tokens"]) == (3, 40, 2)
    assert told["ms_per_step"] == pytest.approx(1000)
    assert told["busy_share"] == pytest.approx(0.5)
    assert told["part_share"] == pytest.approx({"schedule": 0.1, "forward": 0.6, "sample": 0.2, "publish": 0.1})
    idle = summary(a_profile(before, began_s=5.0))
    assert (idle["steps"], idle["ms_per_step"], idle["busy_share"], set(idle["part_share"].values())) == (0, 0, 0, {0})


async def test_a_profile_has_steps_before_and_within_and_nobody_listens_afterwards() -> None:
    instruments = Instruments()
    profiler = Profiler("2b#0", instruments)
    a_step(instruments)
    task = asyncio.create_task(profiler.run(0.2, stacks=False))
    await asyncio.sleep(0.05)
    a_step(instruments)
    refused = await profiler.run(0.2, stacks=False)
    assert isinstance(refused, Fault)
    assert refused.reason == "profile_running"
    profile = await task
    assert isinstance(profile, Profile)
    assert len(profile.steps) == 2
    assert profile.steps[0].began_s < profile.began_s < profile.steps[1].began_s < profile.ended_s
    assert instruments.listener is None


async def test_a_profile_that_nobody_waits_for_ends_and_lets_the_next_begin() -> None:
    instruments = Instruments()
    profiler = Profiler("2b#0", instruments)
    for stacks in (True, False):
        task = asyncio.create_task(profiler.run(30, stacks=stacks))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert instruments.listener is None
    assert isinstance(await profiler.run(0.01, stacks=True), Profile)


def test_stacks_name_threads_and_functions_and_nothing_they_hold() -> None:
    leave = threading.Event()

    def waits_here(secret: str) -> None:
        leave.wait()

    thread = threading.Thread(target=waits_here, args=("the prompt of a stranger",), name="lonely")
    thread.start()
    seen = sample_stacks(threading.Event(), 0.2, period_s=0.01)
    leave.set()
    thread.join()
    (stack,) = [stack for stack in seen if stack.startswith("lonely;")]
    assert "waits_here (tests/unit/model/test_profile.py);" in stack
    assert stack.index("waits_here") < stack.index("Event.wait (threading.py)")  # outermost first
    assert 2 <= seen[stack] <= 20
    assert not any("stranger" in each or "(/" in each or "sample_stacks" in each for each in seen)


def test_equal_stacks_are_counted_together() -> None:
    frame = sys._getframe()
    paths = look({1: frame, 2: frame, 3: frame}, {1: "a;b", 2: "a;b"}, without=set())
    lines = collapsed(Counter(paths))
    assert [(line.split(";")[0], number) for line, number in lines.items()] == [("a,b", 2), ("other", 1)]


@pytest.mark.timeout(20)
def test_sampling_ends_when_told() -> None:
    over = threading.Event()
    over.set()
    assert sample_stacks(over, 60) == {}
