"""Waiting and running sequences -> what the next step computes; pure: no clock, no chance, no tensor."""

from collections.abc import Mapping
from dataclasses import dataclass

from model.kv_blocks import KvBlocks, Prefix
from model.queues import Queues
from model.sequence import Sequence
from model.step import Span, StepPlan
from model.step_builder import StepBuilder


@dataclass(frozen=True, slots=True)
class SchedulerLoad:
    """How busy a scheduler is; the last three count from its start."""

    running: int
    waiting: int
    free_blocks: int  # empty, or cached and held by nobody
    total_blocks: int
    cached_blocks: int  # can be found by a prefix, held or not
    idle_blocks: int  # those of them that nobody holds
    preemptions: int
    prefix_hit_tokens: int
    prefix_asked_tokens: int  # prompt tokens that were looked up


class Scheduler:
    """Continuous batching: prefill in chunks beside decode, at most `max_step_tokens` a step.

    The order of `Queues` decides everything. Once admitted, the first in order gets on with every step, and nobody is
    ever preempted for someone behind it: that is why nothing starves and nothing goes in circles.
    """

    def __init__(
        self,
        num_blocks: int,
        block_tokens: int,
        window_tokens: int,
        max_running: int,
        max_waiting: int,
        max_step_tokens: int,
        aging_s: float,
    ) -> None:
        if max_running < 1 or max_step_tokens < 1 or aging_s <= 0:
            raise ValueError(
                f"max_running {max_running}, max_step_tokens {max_step_tokens}, aging_s {aging_s}: too low"
            )
        self._blocks = KvBlocks(num_blocks, block_tokens, window_tokens)
        self._max_running, self._max_waiting = max_running, max_waiting
        self._max_step_tokens = max_step_tokens
        self._queues = Queues(aging_s)
        self._preemptions = self._hit_tokens = self._asked_tokens = 0

    @property
    def capacity_tokens(self) -> int:
        """The longest sequence, prompt and answer together, that the pool can carry."""
        return self._blocks.capacity_tokens

    def at_once(self, num_tokens: int) -> int:
        """Requests of that length, prompt and answer together, whose blocks fit at once; `max_running` not counted."""
        return self._blocks.at_once(num_tokens)

    def fits(self, sequence: Sequence) -> bool:
        """It could run if it were alone. Drafts ask for nothing more: they never pass `max_total_tokens`."""
        return sequence.num_prompt > 0 and _most_tokens(sequence) <= self.capacity_tokens

    def is_full(self) -> bool:
        """As many wait as may, those not counted that could run at once."""
        return len(self._queues) >= self._max_running + self._max_waiting

    def add(self, sequence: Sequence) -> None:
        """Let it wait for its turn; one without tokens gets its prompt's."""
        if not self.fits(sequence):
            raise ValueError(f"{_most_tokens(sequence)} tokens never fit; the pool carries {self.capacity_tokens}")
        if not sequence.tokens:
            sequence.tokens.extend(sequence.request.prompt_token_ids)
        self._queues.add(sequence)

    def plan(self, now_s: float) -> StepPlan:  # noqa: ARG002  (the order of two sequences is the same at every instant)
        """What to compute next; empty only if nobody is here. Each plan is committed before the next is made."""
        step = StepBuilder(self._max_step_tokens)
        decodes = [sequence for sequence in self._queues.running if sequence.num_pending == 1]
        prefills = [sequence for sequence in self._queues.running if sequence.num_pending != 1]
        # Decodes first: a prefill can wait a step, a reader in the middle of a sentence notices.
        for sequence in decodes:
            self._advance(step, sequence)
        self._guess(step, decodes, others=bool(prefills or (self._queues.waiting and self._has_slot())))
        for sequence in prefills:
            self._advance(step, sequence)
        while self._admit_first(step):
            pass
        return step.build()

    def commit(self, plan: StepPlan, accepted: Mapping[Sequence, tuple[int, ...]]) -> None:
        """The step was computed. `accepted` has, where a span samples, the guesses that agreed and one token more."""
        here = set(self._queues.running)
        for span in plan.spans:
            if span.sequence in here:  # else it left while the step ran
                self._settle(span, accepted[span.sequence] if span.samples else ())

    def finish(self, sequence: Sequence) -> None:
        """It is done; at any moment, and a second time is the same as once."""
        if self._queues.remove(sequence):
            self._blocks.forget(sequence)

    def abort(self, sequence: Sequence) -> None:
        """Nobody wants it any more; otherwise like `finish`."""
        self.finish(sequence)

    def load(self) -> SchedulerLoad:
        """Facts for whoever routes."""
        return SchedulerLoad(
            running=len(self._queues.running),
            waiting=len(self._queues.waiting),
            free_blocks=self._blocks.cache.num_available,
            total_blocks=self._blocks.num_blocks,
            cached_blocks=self._blocks.cache.num_published,
            idle_blocks=self._blocks.cache.num_idle,
            preemptions=self._preemptions,
            prefix_hit_tokens=self._hit_tokens,
            prefix_asked_tokens=self._asked_tokens,
        )

    def marks(self) -> tuple[list[int], bool]:
        """What the cache tells of itself to routers (`Marks.newest`)."""
        return self._blocks.cache.marks.newest()

    def drop_cache(self) -> None:
        """Forget every cached block that nobody holds."""
        self._blocks.cache.drop()

    def check(self) -> None:
        """Raise RuntimeError if a block is lost; costs a look at the whole pool, so for idle moments."""
        self._blocks.cache.check()

    def _advance(self, step: StepBuilder, sequence: Sequence) -> None:
        """As many of its confirmed tokens as budget and blocks allow."""
        if not step.left or sequence in step.losers:
            return
        if self._blocks.reach(sequence) < sequence.num_computed + min(step.left, sequence.num_pending):
            for guesser in step.cut_drafts():
                self._blocks.trim(guesser)
        if self._make_room(step, sequence):
            count = min(step.left, sequence.num_pending, self._blocks.reach(sequence) - sequence.num_computed)
            self._blocks.extend(sequence, sequence.num_computed + count)
            step.give(sequence, count)

    def _make_room(self, step: StepBuilder, sequence: Sequence) -> bool:
        """Blocks for one more token of a running sequence, if need be from those behind it.

        A sequence that finds no room keeps what it has and pauses: someone ahead may end before it needs the blocks.
        """
        while self._blocks.reach(sequence) <= sequence.num_computed:
            last = self._queues.running[-1]
            if last is sequence:
                return False
            self._preempt(step, last)
        return True

    def _guess(self, step: StepBuilder, decodes: list[Sequence], others: bool) -> None:
        """Drafts, in even shares; at most half of what is left while others wait for a part of the step."""
        takers = [sequence for sequence in decodes if sequence.draft and step.has(sequence)]
        spare = step.left // 2 if others else step.left
        for place, sequence in enumerate(takers):
            share = min(
                spare // (len(takers) - place),
                len(sequence.draft),
                sequence.max_total_tokens - len(sequence.tokens) - 1,  # the token after the draft is certain to come
                self._blocks.reach(sequence) - len(sequence.tokens),
            )
            if share > 0:
                self._blocks.extend(sequence, len(sequence.tokens) + share)
                step.give_draft(sequence, share)
                spare -= share

    def _admit_first(self, step: StepBuilder) -> bool:
        """Let the first of the waiting run. If it cannot, neither may those behind it, or it would wait for ever."""
        if not self._queues.waiting or not step.left or not self._has_slot():
            return False
        sequence = self._queues.waiting[0]
        if sequence in step.losers:
            return False
        prefix = self._blocks.find(sequence)
        if not self._has_room(sequence, prefix) and not self._clear_room(step, sequence):
            return False
        self._queues.admit_first()
        self._blocks.adopt(sequence, prefix)
        self._count_hit(sequence)
        self._advance(step, sequence)
        return True

    def _has_slot(self) -> bool:
        return len(self._queues.running) < self._max_running

    def _has_room(self, sequence: Sequence, prefix: Prefix) -> bool:
        """It can be read to its end without taking a block that the running ones will need soon.

        Letting it in with less would only have it preempted, and read again, a few steps later.
        """
        need = self._wanted(sequence) - self._blocks.blocks_in_use(prefix)
        return need + self._promised(self._queues.running) <= self._blocks.cache.num_available

    def _clear_room(self, step: StepBuilder, sequence: Sequence) -> bool:
        """Preempt running ones behind it, the last first, if that is sure to give it the room."""
        short = self._wanted(sequence) + self._promised(self._queues.running) - self._blocks.cache.num_available
        victims = []
        for other in reversed(self._queues.running):
            if short <= 0 or self._queues.order(other) < self._queues.order(sequence):
                break
            short -= self._promised([other]) + self._blocks.private_blocks(other)
            victims.append(other)
        if short > 0:
            return False
        for victim in victims:
            self._preempt(step, victim)
        return True

    def _wanted(self, sequence: Sequence) -> int:
        """Blocks for the tokens it has and a block of answer."""
        num_tokens = len(sequence.tokens) + self._blocks.block_tokens
        return self._blocks.peak_blocks(min(num_tokens, _most_tokens(sequence)))

    def _promised(self, sequences: list[Sequence]) -> int:
        """Blocks that these were let in for and do not hold yet."""
        return sum(max(0, self._wanted(sequence) - self._blocks.held_blocks(sequence)) for sequence in sequences)

    def _count_hit(self, sequence: Sequence) -> None:
        if sequence.preemptions or sequence.request.sampling.prompt_logprobs is not None:
            return
        sequence.cached_tokens = sequence.num_computed
        self._hit_tokens += sequence.cached_tokens
        self._asked_tokens += sequence.num_prompt

    def _preempt(self, step: StepBuilder, sequence: Sequence) -> None:
        """Take all its blocks. It will be computed again from the start, or from what the cache still has by then."""
        step.remove(sequence)
        self._queues.preempt(sequence)
        self._blocks.release(sequence)
        sequence.preemptions += 1
        self._preemptions += 1

    def _settle(self, span: Span, new_tokens: tuple[int, ...]) -> None:
        """Take over what one span brought."""
        sequence = span.sequence
        guesses = span.tokens[len(span.tokens) - span.num_draft :]
        num_agreed = len(new_tokens) - 1 if span.samples else 0
        if num_agreed < 0 or new_tokens[:num_agreed] != guesses[:num_agreed]:
            raise ValueError(f"accepted {new_tokens} is no prefix of the draft {guesses} and one token more")
        sequence.tokens.extend(new_tokens)
        sequence.num_computed = span.start + len(span.tokens) - span.num_draft + num_agreed
        sequence.num_scored = max(sequence.num_scored, min(sequence.num_computed, sequence.num_prompt))
        self._blocks.settle(sequence)


def _most_tokens(sequence: Sequence) -> int:
    """The longest that it can become; a prompt that is only scored may fill it all."""
    return max(sequence.max_total_tokens, sequence.num_prompt)
