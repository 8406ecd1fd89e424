"""A replica that jumps over equal steps: between two changes of its batch nothing has to be looked at.

Steps are those of `model.scheduler`: decodes first, then prompts in chunks within `max_step_tokens`, admission by slots
and by room for keys and values, preemption of the last in order. How long n equal steps take is a sum in closed form,
so an answer costs two or three events whatever its length. Left out: the smaller room that window layers need, drafts
that disagree, and that the room is counted by tokens where the real one counts blocks of 16.
"""

import heapq
from collections.abc import Callable
from math import inf, sqrt
from typing import Final

from cluster.simulation.job import Job
from cluster.simulation.prefixes import Prefixes
from cluster.speed import Speed

_FIRST_TOKENS: Final = 16  # of an answer, for which room is asked at admission: a block
_NEVER: Final = 1 << 60  # steps


class BatchReplica:
    """Continuous batching of one replica. The caller brings the clock and comes back at `due_s`."""

    def __init__(
        self, name: str, speed: Speed, slowed: Callable[[], float] = lambda: 1.0, block_tokens: int = 512
    ) -> None:
        """`slowed`: how many times longer a step takes now, where replicas share processors."""
        self.name = name
        self.due_s = inf
        self._speed, self._slowed = speed, slowed
        self._prefixes = Prefixes(block_tokens)
        self._waiting: list[Job] = []  # heap
        self._reading: list[Job] = []  # in order of admission
        self._decoding: list[tuple[int, int, Job]] = []  # heap of the step that ends it
        self._steps = 0  # that were done
        self._began_s = 0.0  # of the present run of equal steps
        self._run = 0  # its length
        self._chunk: list[tuple[Job, int]] = []  # prompt tokens of each of its steps
        self._prompt = 0  # of them together
        self._slow = 1.0
        self._context = 0  # tokens that the decoding ones look at
        self._private = 0  # tokens held by one request alone
        self._leaving = False  # somebody in the batch is gone
        self.preemptions = 0

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return len(self._reading) + len(self._decoding)

    @property
    def waiting(self) -> int:
        """Requests outside of it."""
        return sum(not job.gone for job in self._waiting)

    @property
    def busy(self) -> bool:
        """A step is under way."""
        return self.due_s < inf

    @property
    def free_kv_tokens(self) -> int:
        """Places that are empty or could be evicted."""
        return max(0, self._speed.kv_tokens - self._private - self._prefixes.held_tokens)

    def cached_names(self) -> list[int]:
        """Blocks that a prompt would find."""
        return self._prefixes.names()

    def add(self, job: Job, now_s: float) -> None:
        """It waits for the next step that has room."""
        job.left = job.prompt_tokens + job.draft_tokens
        heapq.heappush(self._waiting, job)
        if self.due_s == inf:
            self._began_s = now_s
            self._plan(now_s)
        elif self._waiting[0] is job and self._has_budget() and self._fits(job):
            self._cut(now_s)

    def leave(self, job: Job, now_s: float) -> None:
        """Nobody wants it any more; it stays until the step under way ends."""
        job.gone = True
        if self.due_s < inf:
            self._leaving = True
            self._cut(now_s)

    def lose(self) -> list[Job]:
        """The replica is gone; these were on it."""
        jobs = [*self._waiting, *self._reading, *(job for _, _, job in self._decoding)]
        self._waiting, self._reading, self._decoding = [], [], []
        self.due_s = inf
        return [job for job in jobs if not job.gone]

    def turn(self, now_s: float) -> tuple[list[Job], list[Job]]:
        """At `due_s`: whose first token was written, and who is complete."""
        self._steps += self._run
        self._context += self._run * len(self._decoding)
        self._private += self._run * len(self._decoding)
        first: list[Job] = []
        done: list[Job] = []
        for job, tokens in self._chunk:
            job.left -= tokens * self._run
            self._private += tokens * self._run
            if job.left == 0:
                self._reading.remove(job)
                self._read(job, first, done, now_s)
        while self._decoding and self._decoding[0][0] <= self._steps:
            job = heapq.heappop(self._decoding)[2]
            self._drop(job, self._tokens(job))
            done.append(job)
        if self._leaving:
            self._sweep()
        self._began_s = now_s
        self._plan(now_s)
        return [job for job in first if not job.gone], [job for job in done if not job.gone]

    def _read(self, job: Job, first: list[Job], done: list[Job], now_s: float) -> None:
        """Its prompt is computed, and with it the first token, or after a preemption the next."""
        job.written += 1 + (job.draft_tokens if not job.written else 0)
        if job.first_s == inf:
            job.first_s = now_s
            first.append(job)
        blocks = job.blocks[job.pinned :]
        self._prefixes.hold(blocks)
        self._private -= len(blocks) * job.block_tokens
        job.pinned = len(job.blocks)
        job.joined_step = self._steps
        job.joined_tokens = job.prompt_tokens + job.written
        if job.written >= job.output_tokens or job.gone:
            self._leave_batch(job, job.joined_tokens - 1)  # the last token is never computed
            done.append(job)
        else:
            self._context += job.joined_tokens
            self._private += 1
            heapq.heappush(self._decoding, (self._steps + job.output_tokens - job.written, job.number, job))

    def _tokens(self, job: Job) -> int:
        """Context of one that decodes."""
        return job.joined_tokens + self._steps - job.joined_step

    def _drop(self, job: Job, tokens: int) -> None:
        """Out of those that decode."""
        self._context -= tokens
        self._leave_batch(job, tokens)

    def _leave_batch(self, job: Job, tokens: int) -> None:
        self._private -= tokens - job.pinned * job.block_tokens
        self._prefixes.let_go(job.blocks[: job.pinned])
        job.pinned = 0

    def _sweep(self) -> None:
        """Whoever is gone leaves the batch."""
        self._leaving = False
        for job in [job for job in self._reading if job.gone]:
            self._reading.remove(job)
            self._leave_batch(job, self._read_tokens(job))
        for entry in [entry for entry in self._decoding if entry[2].gone]:
            self._decoding.remove(entry)
            self._drop(entry[2], self._tokens(entry[2]))
        heapq.heapify(self._decoding)

    def _read_tokens(self, job: Job) -> int:
        """Of one that is being read: what it holds."""
        return job.prompt_tokens + job.draft_tokens * (not job.written) + job.written - job.left

    def _plan(self, now_s: float) -> None:
        """The next run of equal steps."""
        self._admit(now_s)
        steps = self._fill()
        while (grows := len(self._decoding) + self._prompt) > self.free_kv_tokens and self.running > 1:
            self._preempt()
            steps = self._fill()
        if self._decoding:
            steps = min(steps, self._decoding[0][0] - self._steps)
        if self.running > 1:
            steps = min(steps, max(1, self.free_kv_tokens // grows))
        if steps == _NEVER:
            self.due_s, self._run = inf, 0
            return
        self._run, self._slow = steps, self._slowed()
        self.due_s = now_s + self._seconds(steps)

    def _fill(self) -> int:
        """Prompt tokens of each of the next steps, and for how many steps: one prompt that fills them, or several."""
        budget = left = self._speed.max_step_tokens - len(self._decoding)
        self._chunk = []
        for job in self._reading:
            if left <= 0:
                break
            take = min(job.left, left)
            self._chunk.append((job, take))
            left -= take
        self._prompt = budget - left if self._chunk else 0
        if not self._chunk:
            return _NEVER
        head = self._reading[0]
        return max(1, head.left // budget)

    def _admit(self, now_s: float) -> None:
        """The first of the waiting, as long as there are slots, budget and room."""
        budget = self._speed.max_step_tokens - len(self._decoding) - sum(job.left for job in self._reading)
        while self._waiting and budget > 0:
            job = self._waiting[0]
            if job.gone:
                heapq.heappop(self._waiting)
                continue
            if not self._fits(job):
                return
            heapq.heappop(self._waiting)
            job.admitted_s = min(job.admitted_s, now_s)
            self._adopt(job)
            budget -= job.left
        self._prefixes.shrink(self.free_kv_tokens - sum(job.left for job in self._reading))

    def _adopt(self, job: Job) -> None:
        found = self._prefixes.leading(job.blocks)
        cached = min(found * job.block_tokens, job.left - 1)
        if not job.written and job.first_s == inf:
            job.cached_tokens = cached
        job.pinned = found
        self._prefixes.hold(job.blocks[:found])
        job.left -= cached
        self._private += cached - found * job.block_tokens
        self._reading.append(job)

    def _fits(self, job: Job) -> bool:
        """A slot, and room to read it to its end without taking what those before it were let in for."""
        if self.running >= self._speed.slots:
            return False
        if not self.running:
            return True
        fresh = job.left - self._prefixes.leading(job.blocks) * job.block_tokens
        promised = sum(each.left + _FIRST_TOKENS for each in self._reading)
        return fresh + _FIRST_TOKENS + promised <= self.free_kv_tokens

    def _has_budget(self) -> bool:
        return self._prompt + len(self._decoding) < self._speed.max_step_tokens

    def _preempt(self) -> None:
        """The last in order gives its room back and will be read again, with what it had written."""
        last = max([*self._reading, *(job for _, _, job in self._decoding)])
        if last in self._reading:
            self._reading.remove(last)
            self._leave_batch(last, self._read_tokens(last))
        else:
            self._decoding = [entry for entry in self._decoding if entry[2] is not last]
            heapq.heapify(self._decoding)
            tokens = self._tokens(last)
            last.written = tokens - last.prompt_tokens
            self._drop(last, tokens)
        last.left = last.prompt_tokens + last.written + (last.draft_tokens if not last.written else 0)
        heapq.heappush(self._waiting, last)
        self.preemptions += 1

    def _seconds(self, steps: int) -> float:
        """That the next so many steps take: every decoding sequence looks at one token more in each."""
        speed, decoding = self._speed, len(self._decoding)
        looked = steps * self._context + decoding * steps * (steps - 1) // 2
        each_s = speed.step_s + self._prompt * speed.prefill_s_per_token + decoding * speed.decode_s_per_sequence
        return self._slow * (steps * each_s + looked * speed.decode_s_per_context_token)

    def _cut(self, now_s: float) -> None:
        """End the present run with the step under way."""
        if self._run == 1:
            return
        steps = min(self._run, max(1, self._steps_within(now_s - self._began_s)))
        while steps < self._run and self._began_s + self._seconds(steps) < now_s:
            steps += 1
        self._run = steps
        self.due_s = max(now_s, self._began_s + self._seconds(steps))

    def _steps_within(self, seconds: float) -> int:
        """How many whole steps that is, at most one too few: the root of `_seconds`."""
        one_s = self._seconds(1)
        grows = self._slow * len(self._decoding) * self._speed.decode_s_per_context_token / 2
        if grows <= 0:
            return int(seconds / one_s) if one_s > 0 else 1
        rest = one_s - grows  # seconds = grows * n^2 + rest * n
        return int((sqrt(rest * rest + 4 * grows * seconds) - rest) / (2 * grows))
