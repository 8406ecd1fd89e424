"""Replays requests on a virtual clock: our own choice and our own schedulers, with measured seconds for each step.

Only the tensors, the network and the rivalry for processors are thought up, so what is found cached is what the same
requests would find in a cluster that sends them the same way.
"""

import heapq
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from cluster.chooser import Chooser, Seen, prompt_of
from cluster.replica_report import ReplicaReport
from model.capacity import BLOCK_TOKENS
from model.config import EngineConfig
from model.contract import EngineLoad
from model.request import GenerationRequest
from model.scheduler import Scheduler
from model.sequence import Sequence as Running
from model.step import StepPlan

_REPORT_S: Final = 1.0  # as in `cluster.build`
_AGING_S: Final = 10.0  # of no importance while all have one priority
_ANY_TOKEN: Final = 3


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request and when it comes. Its answer is as long as it allows."""

    at_s: float
    request: GenerationRequest


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds as measured on the machine that is meant."""

    step_s: float  # each step, whatever is in it
    prefill_s: float  # each token of a prompt
    decode_s: float  # each token of an answer
    hop_s: float  # from the client to the engine and back
    processors: float  # that all replicas share; one can use one


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request."""

    replica: str
    prompt_tokens: int
    cached_tokens: int
    ttft_s: float


class Pick(Protocol):
    """Chooses the replica of a request."""

    def __call__(self, number: int, request: GenerationRequest, seen: Sequence[Seen], now_s: float) -> str:
        """Name of the replica; `number` counts the requests."""


class ByPrefix:
    """What `ReplicaRouter` does."""

    def __init__(self, chooser: Chooser) -> None:
        self._chooser = chooser

    def __call__(self, number: int, request: GenerationRequest, seen: Sequence[Seen], now_s: float) -> str:
        """The first in order, and it is sent at once."""
        replica = self._chooser.order(number, prompt_of(request), seen, now_s)[0]
        self._chooser.sent(number, replica, now_s)
        return replica


class Draw(Protocol):
    """`random.Random`, which pure code does not import."""

    def sample(self, population: Sequence[Seen], k: int) -> list[Seen]:
        """So many of them, in any order."""


class ByPowerOfTwo:
    """What Serve's own router does."""

    def __init__(self, rng: Draw) -> None:
        self._rng = rng

    def __call__(self, number: int, request: GenerationRequest, seen: Sequence[Seen], now_s: float) -> str:  # noqa: ARG002
        """The shorter queue of two."""
        chosen: Seen = min(self._rng.sample(seen, min(2, len(seen))), key=lambda each: each.ongoing or 0)
        return chosen.replica


@dataclass(eq=False, slots=True)
class _Replica:
    name: str
    scheduler: Scheduler
    ongoing: int = 0
    plan: StepPlan | None = None  # being computed
    stats: dict[str, Any] = field(default_factory=dict)  # as last reported

    def report(self) -> None:
        load = self.scheduler.load()
        room = EngineLoad(
            load.running, load.waiting, load.free_blocks * BLOCK_TOKENS // 2, load.total_blocks * BLOCK_TOKENS // 2
        )
        self.stats = ReplicaReport.of(room, *self.scheduler.marks()).fields()


class Replay:
    """One size with some replicas, empty at first; for one run."""

    def __init__(self, replicas: int, engine: EngineConfig, window_tokens: int, costs: Costs, pick: Pick) -> None:
        self._costs, self._pick = costs, pick
        self._replicas = {f"r{i}": _Replica(f"r{i}", _scheduler(engine, window_tokens)) for i in range(replicas)}
        self._events: list[tuple[float, int, Any]] = []  # instant, number, what
        self._count = itertools.count()
        self._came_s: dict[Running, float] = {}
        self._outcomes: dict[int, Outcome] = {}

    def run(self, arrivals: Iterable[Arrival]) -> list[Outcome]:
        """One outcome for each, in the same order."""
        waiting = list(arrivals)
        for number, arrival in enumerate(waiting):
            self._at(arrival.at_s, (number, arrival))
        last_report_s = 0.0
        while self._events:
            now_s, _, what = heapq.heappop(self._events)
            if now_s - last_report_s >= _REPORT_S:
                last_report_s = now_s
                for replica in self._replicas.values():
                    replica.report()
            if isinstance(what, _Replica):
                self._end_step(what, now_s)
            else:
                self._arrive(*what)
        return [self._outcomes[number] for number in range(len(waiting))]

    def _at(self, when_s: float, what: Any) -> None:
        heapq.heappush(self._events, (when_s, next(self._count), what))

    def _arrive(self, number: int, arrival: Arrival) -> None:
        seen = [Seen(each.name, each.ongoing, each.stats) for each in self._replicas.values()]
        replica = self._replicas[self._pick(number, arrival.request, seen, arrival.at_s)]
        total = len(arrival.request.prompt_token_ids) + arrival.request.sampling.max_tokens
        sequence = Running(arrival.request, number, arrival.at_s, total)
        self._came_s[sequence] = arrival.at_s
        replica.scheduler.add(sequence)
        replica.ongoing += 1
        if replica.plan is None:
            self._begin_step(replica, arrival.at_s)

    def _begin_step(self, replica: _Replica, now_s: float) -> None:
        plan = replica.scheduler.plan(now_s)
        replica.plan = plan if plan.spans else None
        if replica.plan is None:
            return
        decodes = sum(span.sequence.num_output > 0 for span in plan.spans)
        work_s = self._costs.step_s + (plan.num_tokens - decodes) * self._costs.prefill_s
        work_s += decodes * self._costs.decode_s
        busy = sum(each.plan is not None for each in self._replicas.values())
        self._at(now_s + work_s * max(1.0, busy / self._costs.processors), replica)

    def _end_step(self, replica: _Replica, now_s: float) -> None:
        plan = replica.plan
        if plan is None:
            raise RuntimeError("a step ended that did not begin")
        replica.plan = None
        replica.scheduler.commit(plan, {span.sequence: (_ANY_TOKEN,) for span in plan.spans if span.samples})
        for span in plan.spans:
            if span.samples:
                self._token(replica, span.sequence, now_s)
        self._begin_step(replica, now_s)

    def _token(self, replica: _Replica, sequence: Running, now_s: float) -> None:
        if sequence.num_output == 1:
            ttft_s = now_s - self._came_s[sequence] + self._costs.hop_s
            outcome = Outcome(replica.name, sequence.num_prompt, sequence.cached_tokens, ttft_s)
            self._outcomes[sequence.number] = outcome
        if len(sequence.tokens) >= sequence.max_total_tokens:
            replica.scheduler.finish(sequence)
            replica.ongoing -= 1


def _scheduler(engine: EngineConfig, window_tokens: int) -> Scheduler:
    return Scheduler(
        num_blocks=2 * -(-engine.kv_tokens // BLOCK_TOKENS),
        block_tokens=BLOCK_TOKENS,
        window_tokens=window_tokens,
        max_running=engine.max_running,
        max_waiting=engine.max_waiting,
        max_step_tokens=engine.max_step_tokens,
        aging_s=_AGING_S,
    )
