"""A replica with the real scheduler and prefix cache: every step is looked at, so it is exact and slow.

Only the tensors are thought up, so what is found cached is what the same requests would find in a cluster.
"""

from collections.abc import Callable
from math import inf
from typing import Final

from cluster.simulation.job import AGING_S, Job
from cluster.speed import Speed
from cluster.trace import TraceRequest
from cluster.trace_prompts import token_ids
from model.capacity import BLOCK_TOKENS
from model.request import GenerationRequest, RequestId, SamplingParams
from model.scheduler import Scheduler
from model.sequence import Sequence
from model.step import StepPlan

_ANY_TOKEN: Final = 3
_WAITING: Final = 1 << 30  # the simulator refuses, not this


def request_of(job: Job) -> GenerationRequest:
    """Token ids for a request of a trace."""
    asked = TraceRequest(job.arrival_s, job.prompt_tokens, job.output_tokens, job.blocks, job.block_tokens)
    ids, sampling = token_ids(job.number, asked), SamplingParams(job.output_tokens, ignore_eos=True)
    return GenerationRequest(RequestId(f"r{job.number}"), ids, sampling, inf, priority=job.priority)


class SteppedReplica:
    """One replica. The caller brings the clock and comes back at `due_s`."""

    def __init__(
        self,
        name: str,
        speed: Speed,
        window_tokens: int,
        slowed: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """`slowed`: how many times longer a step takes now, where replicas share processors."""
        self.name = name
        self.due_s = inf
        self._speed, self._slowed = speed, slowed
        self._scheduler = Scheduler(
            num_blocks=2 * -(-speed.kv_tokens // BLOCK_TOKENS),
            block_tokens=BLOCK_TOKENS,
            window_tokens=window_tokens,
            max_running=speed.slots,
            max_waiting=_WAITING,
            max_step_tokens=speed.max_step_tokens,
            aging_s=AGING_S,
        )
        self._jobs: dict[Sequence, Job] = {}
        self._sequences: dict[Job, Sequence] = {}
        self._plan: StepPlan | None = None

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return self._scheduler.load().running

    @property
    def waiting(self) -> int:
        """Requests outside of it."""
        return self._scheduler.load().waiting

    @property
    def busy(self) -> bool:
        """A step is under way."""
        return self._plan is not None

    @property
    def free_kv_tokens(self) -> int:
        """Places that are empty or could be evicted."""
        return self._scheduler.load().free_blocks * BLOCK_TOKENS // 2

    @property
    def preemptions(self) -> int:
        """Since the start."""
        return self._scheduler.load().preemptions

    def marks(self) -> tuple[list[int], bool]:
        """What it tells of its cache (`model.marks`)."""
        return self._scheduler.marks()

    def add(self, job: Job, now_s: float) -> None:
        """It waits for the next step that has room."""
        request = job.request or request_of(job)
        total = len(request.prompt_token_ids) + job.output_tokens
        sequence = Sequence(request, job.number, job.arrival_s, total)
        self._jobs[sequence], self._sequences[job] = job, sequence
        self._scheduler.add(sequence)
        if self._plan is None:
            self._begin(now_s)

    def leave(self, job: Job, now_s: float) -> None:  # noqa: ARG002  (what is under way ends as it would have)
        """Nobody wants it any more."""
        job.gone = True
        sequence = self._sequences.pop(job)
        self._scheduler.abort(sequence)
        del self._jobs[sequence]

    def lose(self) -> list[Job]:
        """The replica is gone; these were on it."""
        jobs = list(self._sequences)
        self._jobs, self._sequences, self._plan, self.due_s = {}, {}, None, inf
        return jobs

    def turn(self, now_s: float) -> tuple[list[Job], list[Job]]:
        """At `due_s`: whose first token was written, and who is complete."""
        plan, first, done = self._plan, [], []
        if plan is None:
            raise RuntimeError("a step ended that did not begin")
        self._scheduler.commit(plan, {span.sequence: (_ANY_TOKEN,) for span in plan.spans if span.samples})
        for span in plan.spans:
            job = self._jobs.get(span.sequence)
            if not span.samples or job is None:
                continue
            if span.sequence.num_output == 1:
                job.first_s, job.cached_tokens = now_s, span.sequence.cached_tokens
                first.append(job)
            if len(span.sequence.tokens) >= span.sequence.max_total_tokens:
                self._scheduler.finish(span.sequence)
                del self._jobs[span.sequence], self._sequences[job]
                done.append(job)
        self._begin(now_s)
        return first, done

    def _begin(self, now_s: float) -> None:
        plan = self._scheduler.plan(now_s)
        self._plan = plan if plan.spans else None
        if self._plan is None:
            self.due_s = inf
            return
        for span in plan.spans:
            job = self._jobs[span.sequence]
            job.admitted_s = min(job.admitted_s, now_s)
        decodes = [span.sequence for span in plan.spans if span.sequence.num_output > 0 and len(span.tokens) == 1]
        context = sum(len(sequence.tokens) for sequence in decodes)
        self.due_s = now_s + self._slowed() * self._speed.seconds(plan.num_tokens - len(decodes), len(decodes), context)
