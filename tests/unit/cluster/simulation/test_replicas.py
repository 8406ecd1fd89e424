"""The two models of a replica: what they share, and how near the jumping one comes to the real scheduler."""

import random
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.simulation.batch import BatchReplica
from cluster.simulation.job import Job
from cluster.simulation.stepped import SteppedReplica
from cluster.speed import Speed
from model.config import Size

BLOCK = 64
FAR = 1 << 20  # a window that never closes


def a_speed(**changes: float) -> Speed:
    base = {
        "step_s": 0.01, "prefill_s_per_token": 1e-4, "decode_s_per_sequence": 1e-3, "decode_s_per_context_token": 1e-6,
        "slots": 8, "kv_tokens": 32_768, "max_step_tokens": 512,
    }  # fmt: skip
    return Speed(size=Size.B2, device="test", degree=1, quantization=None, **base | changes)  # type: ignore[arg-type]


def some_jobs(seed: int, count: int, per_s: float, conversations: int = 0) -> list[Job]:
    rng, at_s, jobs = random.Random(seed), 0.0, []
    for number in range(count):
        at_s += rng.expovariate(per_s)
        prompt, blocks = rng.randrange(10, 900), ()
        if conversations:
            begins = 1000 * (1 + rng.randrange(conversations))
            blocks = tuple(begins + place for place in range((prompt - 1) // BLOCK))
        jobs.append(Job(number, at_s, rng.choice((0, 0, 3)), prompt, rng.randrange(1, 60), blocks, BLOCK))
    return jobs


def play(replica: BatchReplica | SteppedReplica, jobs: list[Job]) -> dict[int, tuple[float, float]]:
    """Seconds to the first and to the last token of each; fails if one never ends."""
    coming, first, took = list(reversed(jobs)), {}, {}
    while coming or replica.due_s < inf:
        if coming and coming[-1].arrival_s < replica.due_s:
            job = coming.pop()
            replica.add(job, job.arrival_s)
            continue
        now_s = replica.due_s
        begun, done = replica.turn(now_s)
        first |= {job.number: now_s - job.arrival_s for job in begun}
        for job in done:
            assert job.number not in took, "a request ended twice"
            took[job.number] = (first[job.number], now_s - job.arrival_s)
    assert len(took) == len(jobs)
    assert replica.running == replica.waiting == 0
    return took


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@pytest.mark.parametrize("per_s", [1.0, 3.0, 6.0])
def test_with_room_for_keys_and_values_the_jumps_are_exact(per_s: float) -> None:
    jumped = play(BatchReplica("a", a_speed(), block_tokens=BLOCK), some_jobs(1, 80, per_s))
    stepped = play(SteppedReplica("a", a_speed(), FAR), some_jobs(1, 80, per_s))
    for number, times in jumped.items():
        assert times == pytest.approx(stepped[number], abs=1e-6)


@pytest.mark.parametrize(("kv_tokens", "conversations"), [(4000, 0), (32_768, 5), (4000, 5)])
def test_with_little_room_and_prefixes_the_quantiles_are_near(kv_tokens: int, conversations: int) -> None:
    speed = a_speed(kv_tokens=kv_tokens)
    jumped = play(BatchReplica("a", speed, block_tokens=BLOCK), some_jobs(2, 120, 2.5, conversations))
    stepped = play(SteppedReplica("a", speed, FAR), some_jobs(2, 120, 2.5, conversations))
    for which in (0, 1):
        for share in (0.5, 0.9):
            one, two = (quantile([each[which] for each in took.values()], share) for took in (jumped, stepped))
            assert one == pytest.approx(two, rel=0.15)


JOBS = st.lists(
    st.tuples(st.floats(0, 3), st.integers(0, 2), st.integers(1, 700), st.integers(1, 40), st.integers(0, 3)),
    min_size=1,
    max_size=25,
)


def made(rows: list[tuple[float, int, int, int, int]]) -> list[Job]:
    rows = sorted(rows)
    return [
        Job(number, at_s, priority, prompt, output, tuple(range(100 * name, 100 * name + (prompt - 1) // BLOCK)), BLOCK)
        for number, (at_s, priority, prompt, output, name) in enumerate(rows)
    ]


@given(JOBS, st.sampled_from([800, 1500, 32_768]), st.sampled_from([1, 3, 8]), st.sampled_from([64, 512]))
@settings(max_examples=60, deadline=None)
def test_everyone_ends_once_and_nothing_is_kept(
    rows: list[tuple[float, int, int, int, int]], kv_tokens: int, slots: int, step_tokens: int
) -> None:
    replica = BatchReplica(
        "a", a_speed(kv_tokens=kv_tokens, slots=slots, max_step_tokens=step_tokens), block_tokens=BLOCK
    )
    took = play(replica, made(rows))
    assert all(0 < first <= last for first, last in took.values())
    assert replica.free_kv_tokens == kv_tokens


@given(JOBS, st.floats(0.3, 0.9))
@settings(max_examples=40, deadline=None)
def test_a_faster_replica_is_never_done_later(rows: list[tuple[float, int, int, int, int]], share: float) -> None:
    """Work is conserved: the last answer of a replica that is busy all the time comes when all steps were done."""
    rows = [(0.0, *rest) for _, *rest in rows]  # type: ignore[misc]
    slow, fast = (
        max(last for _, last in play(BatchReplica("a", a_speed(), lambda by=by: by, BLOCK), made(rows)).values())
        for by in (1.0, share)
    )
    assert fast == pytest.approx(slow * share)


@given(JOBS, st.data())
@settings(max_examples=60, deadline=None)
def test_who_leaves_takes_nothing_along(rows: list[tuple[float, int, int, int, int]], data: st.DataObject) -> None:
    replica, jobs = BatchReplica("a", a_speed(kv_tokens=1500, slots=3), block_tokens=BLOCK), made(rows)
    leaves = {job.number: job.arrival_s + data.draw(st.floats(0, 2)) for job in jobs[::2]}
    changes = sorted(
        [(job.arrival_s, 0, job.number) for job in jobs] + [(at_s, 1, number) for number, at_s in leaves.items()]
    )
    ended: set[int] = set()
    while changes or replica.due_s < inf:
        if changes and changes[0][0] < replica.due_s:
            at_s, leaving, number = changes.pop(0)
            if leaving and number not in ended:
                replica.leave(jobs[number], at_s)
                ended.add(number)
            elif not leaving:
                replica.add(jobs[number], at_s)
            continue
        _, done = replica.turn(replica.due_s)
        assert not ended & {job.number for job in done}
        ended |= {job.number for job in done}
    assert ended == {job.number for job in jobs}
    assert replica.running == 0
    assert replica.free_kv_tokens == 1500


def test_a_lost_replica_gives_everyone_back() -> None:
    jobs = some_jobs(3, 20, 1000.0)
    for replica in (BatchReplica("a", a_speed(), block_tokens=BLOCK), SteppedReplica("a", a_speed(), FAR)):
        for job in jobs:
            replica.add(job, 0.1)
        replica.turn(replica.due_s)
        assert len(replica.lose()) == 20
        assert replica.due_s == inf
