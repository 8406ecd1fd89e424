"""Whatever arrives, leaves or is refuted: no block is lost, no key is another's, everybody gets on."""

from collections import Counter

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
        before = list(self.scheduler._running)
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
        running = self.scheduler._running
        assert not victims or order_of(running[-1]) < min(order_of(victim) for victim in victims)

    def check_plan(self, plan: StepPlan) -> None:
        running = self.scheduler._running
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


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyHistory = Machine.TestCase
