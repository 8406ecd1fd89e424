"""Whatever arrives, leaves or is refuted: no block is lost, no key is another's, everybody gets on."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from model.scheduler import Scheduler
from model.sequence import NO_BLOCK, Sequence
from model.step import Span, StepPlan
from tests.fakes.kv_memory import KvMemory, a_sequence, names_of, says_the_truth, true_next

AGING_S = 4.0
FAMILIES = ([0, 1, 2, 0, 1, 2, 0, 1, 2, 0], [0, 1, 1, 1, 2, 2, 0, 0, 1, 2])  # prompts with a beginning in common


def a_scheduler(
    num_blocks: int = 64,
    block_tokens: int = 2,
    window_tokens: int = 6,
    max_running: int = 4,
    max_waiting: int = 8,
    max_step_tokens: int = 8,
    aging_s: float = AGING_S,
) -> Scheduler:
    return Scheduler(num_blocks, block_tokens, window_tokens, max_running, max_waiting, max_step_tokens, aging_s)


def blocks_of(sequence: Sequence) -> list[int]:
    return [block for block in sequence.global_blocks + sequence.window_blocks if block != NO_BLOCK]


def order_of(sequence: Sequence) -> tuple[float, int]:
    return sequence.request.priority + sequence.arrival_s / AGING_S, sequence.number


def a_draft(sequence: Sequence, num_right: int, num_wrong: int) -> tuple[int, ...]:
    """So many guesses that will be accepted, then so many that will not."""
    tokens = list(sequence.tokens)
    for _ in range(num_right):
        tokens.append(true_next(names_of(sequence.request.salt, tokens)[-1]))
    if num_wrong:
        wrong = (true_next(names_of(sequence.request.salt, tokens)[-1]) + 1) % 3
        tokens += [wrong] * num_wrong
    return tuple(tokens[len(sequence.tokens) :])


class Machine(RuleBasedStateMachine):
    """A scheduler, the memory it rules, and a record kept apart of what was computed."""

    @initialize(
        num_blocks=st.integers(4, 40),
        block_tokens=st.integers(1, 4),
        window_tokens=st.integers(1, 12),
        max_running=st.integers(1, 5),
        max_step_tokens=st.integers(1, 24),
    )
    def start(
        self, num_blocks: int, block_tokens: int, window_tokens: int, max_running: int, max_step_tokens: int
    ) -> None:
        self.scheduler = a_scheduler(num_blocks, block_tokens, window_tokens, max_running, 4, max_step_tokens)
        self.memory = KvMemory(num_blocks, block_tokens, window_tokens)
        self.block_tokens, self.num_blocks = block_tokens, num_blocks
        self.max_running, self.max_step_tokens = max_running, max_step_tokens
        self.now_s, self.number = 0.0, 0
        self.live: list[Sequence] = []
        self.computed: dict[Sequence, int] = {}  # of those that run; by this test's own count
        self.scored: dict[Sequence, set[int]] = {}
        self.seen_preemptions: Counter[Sequence] = Counter()

    @rule(
        family=st.sampled_from(FAMILIES),
        length=st.integers(1, 10),
        tail=st.lists(st.integers(0, 2), max_size=12),
        max_tokens=st.integers(1, 12),
        priority=st.integers(-2, 2),
        salt=st.sampled_from(["", "", "other"]),
        scored=st.sampled_from([False, False, True]),
    )
    def arrive(
        self,
        family: list[int],
        length: int,
        tail: list[int],
        max_tokens: int,
        priority: int,
        salt: str,
        scored: bool,
    ) -> None:
        prompt = family[:length] + tail
        sequence = a_sequence(prompt, self.number, self.now_s, max_tokens, priority, salt, scored)
        self.number += 1
        if not self.scheduler.fits(sequence):
            with pytest.raises(ValueError, match="never fit"):
                self.scheduler.add(sequence)
        elif not self.scheduler.is_full():
            self.scheduler.add(sequence)
            self.live.append(sequence)
            self.scored[sequence] = set()

    @rule(data=st.data(), seconds=st.sampled_from([0.0, 1.0, 9.0]))
    def step(self, data: st.DataObject, seconds: float) -> None:
        self.now_s += seconds
        for sequence in self.live:
            right, wrong = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 2)))
            sequence.draft = a_draft(sequence, right, wrong)
        self.run_step(data.draw(st.one_of(st.none(), st.sampled_from(self.live))) if self.live else None)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.remove(data.draw(st.sampled_from(self.live)))

    @rule()
    def forget_the_past(self) -> None:
        self.scheduler.drop_cache()

    @invariant()
    def no_block_is_lost_and_every_holder_is_counted(self) -> None:
        self.scheduler.check()
        holders = Counter(block for sequence in self.live for block in blocks_of(sequence))
        pool = self.scheduler._blocks.cache._pool
        assert [pool.holders(block) for block in range(self.num_blocks)] == [holders[b] for b in range(self.num_blocks)]
        assert self.scheduler.load().free_blocks + len(holders) == self.num_blocks
        assert self.scheduler._blocks._notes.keys() <= set(self.live), "remembers someone who left"

    @invariant()
    def shared_blocks_are_published_and_mean_the_same(self) -> None:
        meaning: dict[int, object] = {}
        for sequence in self.live:
            names = names_of(sequence.request.salt, sequence.tokens)
            for kind, table in enumerate((sequence.global_blocks, sequence.window_blocks)):
                for index, block in enumerate(table):
                    if block == NO_BLOCK:
                        continue
                    last = (index + 1) * self.block_tokens - 1
                    is_full = last < sequence.num_computed
                    mine = (kind, names[last]) if is_full else (sequence, kind, index)
                    assert meaning.setdefault(block, mine) == mine
                    assert is_full or block not in self.scheduler._blocks.cache._names

    def teardown(self) -> None:
        """With nobody new, all that is left finishes, and leaves nothing behind."""
        if not hasattr(self, "scheduler"):
            return
        for _ in range(10 + len(self.live) * sum(sequence.max_total_tokens for sequence in self.live)):
            if not self.live:
                break
            self.run_step(None)
        assert not self.live
        assert self.scheduler.plan(self.now_s) == StepPlan(())
        self.scheduler.drop_cache()
        load = self.scheduler.load()
        assert (load.running, load.waiting, load.cached_blocks) == (0, 0, 0)
        assert load.free_blocks == load.total_blocks == self.num_blocks

    def run_step(self, leaver: Sequence | None) -> None:
        """One turn of an engine's loop, in which `leaver` goes between plan and commit."""
        before = list(self.scheduler._queues.running)
        plan = self.scheduler.plan(self.now_s)
        self.check_preempted(before)
        self.check_plan(plan)
        accepted = self.memory.execute(plan)
        if leaver:
            self.remove(leaver)
        self.scheduler.commit(plan, accepted)
        for span in plan.spans:
            if span.sequence in self.live:
                self.after(span, accepted.get(span.sequence, ()))

    def check_preempted(self, before: list[Sequence]) -> None:
        """Only those behind everybody who goes on running."""
        victims = [sequence for sequence in before if sequence.preemptions > self.seen_preemptions[sequence]]
        for sequence in victims:
            assert sequence.preemptions == self.seen_preemptions[sequence] + 1
            assert sequence.num_computed == 0
            assert not blocks_of(sequence)
            self.seen_preemptions[sequence] = sequence.preemptions
            del self.computed[sequence]
        running = self.scheduler._queues.running
        assert not victims or order_of(running[-1]) < min(order_of(victim) for victim in victims)

    def check_plan(self, plan: StepPlan) -> None:
        running = self.scheduler._queues.running
        assert len(running) <= self.max_running
        assert plan.num_tokens <= self.max_step_tokens
        assert len({span.sequence for span in plan.spans}) == len(plan.spans)
        assert sorted(running, key=order_of) == running
        assert not self.live or running
        assert not running or any(span.sequence is running[0] for span in plan.spans), "the first always gets on"
        holders = Counter(block for sequence in self.live for block in blocks_of(sequence))
        for span in plan.spans:
            self.check_span(span, holders)

    def check_span(self, span: Span, holders: Counter[int]) -> None:
        sequence, end = span.sequence, span.start + len(span.tokens)
        if sequence not in self.computed:  # admitted in this plan
            assert span.start % self.block_tokens == 0
            assert not (sequence.request.sampling.prompt_logprobs is not None and span.start)
            assert sequence.preemptions or sequence.cached_tokens == span.start
            self.computed[sequence] = span.start
        assert span.start == self.computed[sequence] == sequence.num_computed
        num_confirmed = len(span.tokens) - span.num_draft
        assert num_confirmed > 0
        assert list(span.tokens[:num_confirmed]) == sequence.tokens[span.start : span.start + num_confirmed]
        assert span.tokens[num_confirmed:] == sequence.draft[: span.num_draft]
        assert span.samples == (span.start + num_confirmed == len(sequence.tokens))
        assert not span.num_draft or (span.samples and end < sequence.max_total_tokens)
        for index in range(span.start // self.block_tokens, -(-end // self.block_tokens)):
            for block in (sequence.global_blocks[index], sequence.window_blocks[index]):
                assert holders[block] == 1, "written while shared"
                assert block not in self.scheduler._blocks.cache._names, "written after it was published"
        self.check_logits(span)

    def check_logits(self, span: Span) -> None:
        end = span.start + len(span.tokens)
        wanted = set(range(end - 1 - span.num_draft, end)) if span.samples else set()
        if span.sequence.request.sampling.prompt_logprobs is not None:
            prompt = set(range(span.start, min(end, span.sequence.num_prompt - 1)))
            wanted |= prompt - self.scored[span.sequence]
        assert span.num_logits == (end - min(wanted) if wanted else 0)

    def after(self, span: Span, new_tokens: tuple[int, ...]) -> None:
        sequence = span.sequence
        kept = max(0, len(new_tokens) - 1)
        self.computed[sequence] = span.start + len(span.tokens) - span.num_draft + kept
        self.scored[sequence] |= set(range(span.start, self.computed[sequence]))
        assert sequence.num_computed == self.computed[sequence] < len(sequence.tokens) <= sequence.max_total_tokens
        assert len(sequence.global_blocks) <= -(-len(sequence.tokens) // self.block_tokens), "kept a guess's block"
        first_seen = max(0, sequence.num_computed - self.memory._window_tokens + 1) // self.block_tokens
        assert all(block == NO_BLOCK for block in sequence.window_blocks[:first_seen])
        assert NO_BLOCK not in sequence.window_blocks[first_seen:]
        if len(sequence.tokens) == sequence.max_total_tokens:
            assert says_the_truth(sequence)
            self.scheduler.finish(sequence)
            self.remove(sequence)

    def remove(self, sequence: Sequence) -> None:
        self.scheduler.abort(sequence)
        self.scheduler.abort(sequence)
        self.live.remove(sequence)
        self.computed.pop(sequence, None)
        assert not blocks_of(sequence)


Machine.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestAnyHistory = Machine.TestCase


def run(scheduler: Scheduler, now_s: float = 0.0) -> StepPlan:
    """One step, in which every span that samples gets one more 0 and accepts no guess."""
    plan = scheduler.plan(now_s)
    scheduler.commit(plan, {span.sequence: (0,) for span in plan.spans if span.samples})
    for span in plan.spans:
        if len(span.sequence.tokens) == span.sequence.max_total_tokens:
            scheduler.finish(span.sequence)
    return plan


def shares(plan: StepPlan) -> list[tuple[int, int, int]]:
    """Whose, how many tokens, how many of them guesses."""
    return [(span.sequence.number, len(span.tokens), span.num_draft) for span in plan.spans]


def test_a_prompt_is_read_in_chunks_beside_the_decodes() -> None:
    scheduler = a_scheduler(max_step_tokens=8)
    scheduler.add(a_sequence([0] * 3, number=0))
    scheduler.add(a_sequence([1] * 14, number=1))
    plans = [run(scheduler) for _ in range(3)]
    assert [shares(plan) for plan in plans] == [[(0, 3, 0), (1, 5, 0)], [(0, 1, 0), (1, 7, 0)], [(0, 1, 0), (1, 2, 0)]]
    assert [[span.num_logits for span in plan.spans] for plan in plans] == [[1, 0], [1, 0], [1, 1]]


def test_drafts_share_what_is_left_and_leave_half_to_those_who_read() -> None:
    scheduler = a_scheduler(max_step_tokens=8)
    first, second = a_sequence([0], number=0, max_tokens=20), a_sequence([1], number=1, max_tokens=20)
    for sequence in (first, second):
        scheduler.add(sequence)
    run(scheduler)
    first.draft, second.draft = (2,) * 9, (2,) * 2
    assert shares(run(scheduler)) == [(0, 4, 3), (1, 3, 2)]
    scheduler.add(a_sequence([2] * 30, number=2))
    assert shares(run(scheduler)) == [(0, 2, 1), (1, 3, 2), (2, 3, 0)]


def test_a_draft_never_passes_the_end_of_the_answer() -> None:
    scheduler = a_scheduler()
    sequence = a_sequence([0], max_tokens=4)
    scheduler.add(sequence)
    run(scheduler)
    sequence.draft = (1, 1, 1, 1, 1)
    assert shares(scheduler.plan(0.0)) == [(0, 3, 2)]


def test_a_draft_gives_way_where_blocks_are_short() -> None:
    scheduler = a_scheduler(num_blocks=36, window_tokens=100, max_running=2, max_step_tokens=16)
    guessing, reading = a_sequence([0], number=0, max_tokens=20), a_sequence([1] * 30, number=1, max_tokens=2)
    scheduler.add(guessing)
    run(scheduler)
    scheduler.add(reading)
    run(scheduler)
    guessing.draft = (2,) * 7
    assert shares(run(scheduler)) == [(0, 8, 7), (1, 8, 0)]
    assert shares(run(scheduler)) == [(0, 1, 0), (1, 7, 0)], "with its guesses there would be room for 1 of the 7"
    assert scheduler.load().preemptions == 0


def test_accepted_guesses_count_as_computed() -> None:
    scheduler = a_scheduler()
    sequence = a_sequence([0, 0, 0], max_tokens=9)
    scheduler.add(sequence)
    run(scheduler)
    sequence.draft = (1, 2, 1)
    plan = scheduler.plan(0.0)
    scheduler.commit(plan, {sequence: (1, 2, 0)})
    assert sequence.tokens == [0, 0, 0, 0, 1, 2, 0]
    assert sequence.num_computed == 6


@pytest.mark.parametrize("accepted", [(), (2, 0), (1, 2, 0)])
def test_what_is_no_prefix_of_the_draft_and_one_more_is_refused(accepted: tuple[int, ...]) -> None:
    scheduler = a_scheduler()
    sequence = a_sequence([0], max_tokens=9)
    scheduler.add(sequence)
    run(scheduler)
    sequence.draft = (1,)
    plan = scheduler.plan(0.0)
    with pytest.raises(ValueError, match="no prefix"):
        scheduler.commit(plan, {sequence: accepted})


def test_a_second_prompt_starts_where_the_first_one_led() -> None:
    scheduler = a_scheduler(max_step_tokens=32)
    first = a_sequence([0, 1, 2, 0, 1, 2, 0], number=0, max_tokens=1)
    scheduler.add(first)
    run(scheduler)
    others = [a_sequence([0, 1, 2, 0, 2, 2], number=1), a_sequence([0, 1, 2, 0, 1], number=2, salt="other tenant")]
    for sequence in others:
        scheduler.add(sequence)
    assert shares(run(scheduler)) == [(1, 2, 0), (2, 5, 0)]
    assert [sequence.cached_tokens for sequence in others] == [4, 0]
    load = scheduler.load()
    assert (load.prefix_hit_tokens, load.prefix_asked_tokens) == (4, 7 + 6 + 5)


def test_blocks_that_others_hold_are_no_reason_to_wait() -> None:
    """Alone each of the four wants 11 of 20 pairs; together they hold the same ten, and little of their own."""
    scheduler = a_scheduler(num_blocks=40, window_tokens=100, max_step_tokens=32)
    for number in range(4):
        scheduler.add(a_sequence([*[0, 1] * 10, number % 3], number, max_tokens=9))
        run(scheduler)
    assert (scheduler.load().running, scheduler.load().waiting) == (4, 0)
    assert scheduler.load().prefix_hit_tokens == 3 * 20


def test_a_prompt_that_is_scored_finds_nothing_and_is_scored_once() -> None:
    scheduler = a_scheduler(num_blocks=16, max_step_tokens=4, max_running=2)
    scheduler.add(a_sequence([0] * 6, number=0, max_tokens=1))
    for _ in range(2):
        run(scheduler)
    scored = a_sequence([0] * 6, number=1, max_tokens=9, scored=True)
    scheduler.add(scored)
    assert [(span.start, span.num_logits) for _ in range(2) for span in run(scheduler).spans] == [(0, 4), (4, 2)]
    scheduler.add(a_sequence([1] * 12, number=2, max_tokens=1, priority=-9))
    preempted = [run(scheduler) for _ in range(4)]
    assert scored.preemptions == 1
    again = [span for plan in [*preempted, *(run(scheduler) for _ in range(2))] for span in plan.spans]
    assert [(span.start, span.num_logits) for span in again if span.sequence is scored] == [(0, 0), (4, 1), (7, 1)]


def test_a_better_priority_takes_blocks_and_the_loser_resumes_from_the_cache() -> None:
    scheduler = a_scheduler(num_blocks=24, max_step_tokens=16, window_tokens=100)
    economy = a_sequence([0] * 10, number=0, max_tokens=6, priority=1)
    scheduler.add(economy)
    run(scheduler)
    scheduler.add(a_sequence([1] * 12, number=1, max_tokens=1))
    assert shares(run(scheduler)) == [(1, 12, 0)]
    assert (economy.preemptions, economy.num_computed, economy.global_blocks) == (1, 0, [])
    plan = run(scheduler)
    assert shares(plan) == [(0, 1, 0)]
    assert plan.spans[0].start == 10
    assert economy.cached_tokens == 0


def test_an_equal_that_came_later_takes_nothing() -> None:
    scheduler = a_scheduler(num_blocks=12)
    first = a_sequence([0] * 6, number=0, max_tokens=4)
    scheduler.add(first)
    run(scheduler)
    scheduler.add(a_sequence([1] * 6, number=1))
    assert shares(run(scheduler)) == [(0, 1, 0)]


def test_a_worse_priority_ages_into_its_turn_while_better_ones_keep_coming() -> None:
    scheduler = a_scheduler(max_running=1, max_waiting=1000, aging_s=10.0)
    patient = a_sequence([0], number=0, priority=3, max_tokens=1)
    scheduler.add(patient)
    steps = 0
    while patient.num_output == 0:
        steps += 1
        scheduler.add(a_sequence([1], number=steps, arrival_s=float(steps), max_tokens=1))
        run(scheduler, float(steps))
        assert steps < 40
    assert steps >= 30, "better ones went first until it was 3 x 10 s old"


def test_far_more_work_than_blocks_finishes_in_order() -> None:
    scheduler = a_scheduler(num_blocks=30, max_running=8, max_waiting=200, max_step_tokens=16)
    sequences = [
        a_sequence([number % 3] * (1 + number % 11), number, max_tokens=1 + number % 7) for number in range(150)
    ]
    for sequence in sequences:
        scheduler.add(sequence)
    steps = 0
    while scheduler.load().running + scheduler.load().waiting:
        run(scheduler)
        steps += 1
    assert all(sequence.num_output == sequence.request.sampling.max_tokens for sequence in sequences)
    assert steps < sum(sequence.max_total_tokens for sequence in sequences)
    assert scheduler.load().free_blocks == 30


def test_the_longest_sequence_that_fits_runs_alone_and_one_token_more_is_refused() -> None:
    scheduler = a_scheduler(num_blocks=20)
    capacity = scheduler.capacity_tokens
    too_long = a_sequence([0] * 3, max_tokens=capacity - 2)
    assert not scheduler.fits(too_long)
    longest = a_sequence([0] * 3, max_tokens=capacity - 3)
    scheduler.add(longest)
    while scheduler.load().running + scheduler.load().waiting:
        assert run(scheduler).spans
    assert len(longest.tokens) == capacity


@pytest.mark.parametrize("max_waiting", [0, 2])
def test_it_is_full_when_no_more_may_wait(max_waiting: int) -> None:
    scheduler = a_scheduler(max_running=2, max_waiting=max_waiting)
    for number in range(2 + max_waiting):
        assert not scheduler.is_full()
        scheduler.add(a_sequence([0], number))
    assert scheduler.is_full()


def test_a_full_context_holds_three_quarters_of_what_it_would_without_the_window() -> None:
    """8,192 tokens, a window of 4,096 and blocks of 16: 512 global blocks, and 256 or 257 of 512 for the window."""
    scheduler = a_scheduler(2048, block_tokens=16, window_tokens=4096, max_step_tokens=512)
    sequence = a_sequence([7] * 8100, max_tokens=92)
    scheduler.add(sequence)
    held = []
    while len(sequence.tokens) < 8191:
        run(scheduler)
        held.append(len(blocks_of(sequence)))
    assert max(held[-16:]) == 1024 * 3 // 4 + 1
    assert scheduler.capacity_tokens == (2048 - 257) * 16


class CountedReads(list[int]):
    """Tokens that count how many of them were read."""

    num_read = 0

    def __getitem__(self, index: Any) -> Any:
        result = super().__getitem__(index)
        CountedReads.num_read += len(result) if isinstance(result, list) else 1
        return result


def test_a_step_of_many_long_sequences_does_not_look_at_their_history() -> None:
    """Counted, not timed: each token is read once as input, and once when its block is full and gets its name."""
    scheduler = a_scheduler(32 * 2 * 80, 16, 4096, max_running=32, max_waiting=32, max_step_tokens=512)
    sequences = [a_sequence([number] * 1000, number, max_tokens=200) for number in range(32)]
    for sequence in sequences:
        sequence.tokens = CountedReads(sequence.tokens)
        scheduler.add(sequence)
    for _ in range(80):
        run(scheduler)
    assert all(sequence.num_pending == 1 for sequence in sequences)
    before = CountedReads.num_read
    for _ in range(16):
        run(scheduler)
    assert CountedReads.num_read - before == 32 * (16 + 16)
