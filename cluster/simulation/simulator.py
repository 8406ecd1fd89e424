"""The loop: arrivals, choices, replicas, ticks, starts, failures, all in the order of one virtual clock."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, pairwise
from math import inf, log
from typing import Any, Final

from cluster.brownout import BrownOut
from cluster.chooser import Chooser
from cluster.config import ReplicaChoice
from cluster.pacing import Pacing, Run
from cluster.policy import choose
from cluster.routing.pricing import usd
from cluster.rules import Rules
from cluster.scaling.rules import ScalingRules
from cluster.simulation.ask import Ask
from cluster.simulation.batch import BatchReplica
from cluster.simulation.fleet import Fleet
from cluster.simulation.job import Job
from cluster.simulation.picking import ByPowerOfTwo, ByPrefix, Held, Pick, Replica
from cluster.simulation.result import End, Outcomes, Result, SizeUse
from cluster.simulation.scaler import LOOK_S, Scaler
from cluster.simulation.sized import Sized
from cluster.simulation.stepped import SteppedReplica, request_of
from cluster.snapshot import Decision, Snapshot
from model.chance import uniform
from model.config import Size
from model.events import Usage

_TICK_S: Final = 0.5  # as in `cluster.router`


@dataclass(frozen=True, slots=True)
class Options:
    """How it is simulated, and with what beside the rules."""

    exact: bool = False  # every step of the real scheduler, in place of jumps
    block_tokens: int = 512
    scaling: ScalingRules | None = None  # None: replicas stay as many as they are
    seed: int = 0
    told: Callable[[float], None] | None = None  # the virtual clock, for a progress bar


@dataclass(slots=True, eq=False)
class _Open:
    """A request under way."""

    ask: Ask
    size: Size | None = None
    held: Held | None = None
    job: Job | None = None
    run: Run | None = None
    first_s: float = inf
    retried: bool = False
    without: frozenset[Size] = frozenset()  # sizes that failed it
    usd: float = 0.0


def simulate(asks: Iterable[Ask], fleet: Fleet, rules: Rules, options: Options = Options()) -> Result:
    """Everything that becomes of requests in order of arrival. Equal arguments give equal results."""
    return Simulator(fleet, rules, options).run(asks)


class Simulator:
    """For one run."""

    def __init__(self, fleet: Fleet, rules: Rules, options: Options) -> None:
        self._fleet, self._rules, self._options = fleet, rules, options
        self._pacing = Pacing()
        self._brown_out = BrownOut(rules.tiers, rules.routing.brown_out)
        ordered = sorted(fleet.sizes, key=lambda size: fleet.sizes[size].usd_per_mtoken)
        self._sizes = {size: self._sized(size) for size in ordered}
        self._largest = ordered[-1]
        scaling = options.scaling
        self._scaler = Scaler(scaling, rules, list(self._sizes.values()), fleet.budget_devices) if scaling else None
        self._events: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._count = count()
        self._open: dict[int, _Open] = {}
        self._jobs: dict[Job, _Open] = {}
        self._more = True  # to arrive
        self._busy = 0.0  # processors
        self._failures = self._preemptions = 0
        self._reasons: list[tuple[float, Size, int, str]] = []
        self.outcomes = Outcomes()
        self.now_s = 0.0

    def run(self, asks: Iterable[Ask]) -> Result:
        """To the last answer."""
        for sized in self._sizes.values():
            for _ in range(sized.fleet.replicas):
                self._began(sized)
            sized.noted(0.0)
        self._next(iter(asks))
        self._at(_TICK_S, self._tick, None)
        if self._scaler is not None:
            self._at(LOOK_S, self._scale, self._scaler)
        for failure in self._fleet.failures:
            self._at(failure.at_s, self._fail, failure.size)
        self._plan_failure(0)
        events, number = self._events, 0
        while events and (self._more or self._open):
            self.now_s, _, call, what = heapq.heappop(events)
            call(what)
            number += 1
        return self._result(number)

    # arrivals ------------------------------------------------------------------------------------------------------

    def _next(self, asks: Iterator[Ask]) -> None:
        ask = next(asks, None)
        self._more = ask is not None
        if ask is not None:
            self._at(ask.at_s, self._arrive, (ask, asks))

    def _arrive(self, what: tuple[Ask, Iterator[Ask]]) -> None:
        ask, asks = what
        self._next(asks)
        opened = self._open[ask.number] = _Open(ask)
        if self._scaler is not None:
            self._scaler.see(ask, self.now_s)
        if ask.facts.timeout_s is not None:
            self._at(ask.at_s + ask.facts.timeout_s, self._late, opened)
        self._decide(opened)

    def _snapshot(self, without: frozenset[Size] = frozenset()) -> Snapshot:
        states = [sized.state(self._pacing) for size, sized in self._sizes.items() if size not in without]
        return Snapshot(tuple(states), self._brown_out.waived)

    def _decide(self, opened: _Open) -> None:
        ask, snapshot = opened.ask, self._snapshot(opened.without)
        decision = choose(ask.facts, snapshot, self._rules) if snapshot.sizes else None
        if not isinstance(decision, Decision):
            self._end(opened, End.LOST if opened.retried else End.REFUSED)
            return
        self._send(opened, decision, snapshot)

    def _send(self, opened: _Open, decision: Decision, snapshot: Snapshot) -> None:
        ask, sized = opened.ask, self._sizes[decision.size]
        facts = ask.facts
        output = max(1, min(ask.output_tokens[decision.size], decision.max_output_tokens or facts.max_tokens))
        priority = self._rules.priority(facts.tier, ask.priority)
        full = None if self._options.exact else max(0, facts.prompt_tokens - 1) // ask.block_tokens
        job = Job(ask.number, self.now_s, priority, facts.prompt_tokens, output, ask.blocks[:full], ask.block_tokens)
        if self._options.exact:
            job.request = request_of(job)
        length = min(decision.offer(decision.size).output_tokens, facts.max_tokens)
        opened.run = self._pacing.begin(snapshot[decision.size], facts.prompt_tokens, length, self.now_s)
        opened.size, opened.job = decision.size, job
        sized.ongoing[facts.tier] += 1
        sized.total += 1
        self._jobs[job] = opened
        self._place(sized, job, ask.session)

    def _place(self, sized: Sized, job: Job, session: str) -> None:
        held = sized.place(job, session, self.now_s)
        if held is not None:
            self._jobs[job].held = held
            self._touch(held.replica, lambda: held.replica.add(job, self.now_s), sized)

    # replicas ------------------------------------------------------------------------------------------------------

    def _sized(self, size: Size) -> Sized:
        fleet = self._fleet.sizes[size]

        others = sum(each.busy_processors for other, each in self._fleet.sizes.items() if other is not size) or 1.0

        def slowed() -> float:
            """Of a step that begins now: replicas share the processors, itself included."""
            if fleet.crowded is None:
                return max(1.0, (self._busy + fleet.busy_processors) / self._fleet.processors)
            return 1 + (fleet.crowded - 1) * self._busy / others

        def make(name: str) -> Replica:
            if self._options.exact:
                return SteppedReplica(name, fleet.speed, self._fleet.window_tokens, slowed)
            return BatchReplica(name, fleet.speed, slowed, self._options.block_tokens)

        return Sized(size, fleet, self._pick(size), make, self._fleet.max_context_tokens)

    def _pick(self, size: Size) -> Pick:
        routing, speed = self._rules.routing, self._fleet.sizes[size].speed
        if routing.replica_choice is ReplicaChoice.POWER_OF_TWO:
            return ByPowerOfTwo(self._options.seed)
        if self._options.exact:
            return ByPrefix(Chooser(speed.slots, routing.queue_tokens))
        return ByPrefix(Chooser(speed.slots, routing.queue_tokens, self._options.block_tokens))

    def _touch(self, replica: Replica, change: Callable[[], Any], sized: Sized) -> Any:
        """Change a replica and come back when it is due."""
        before, takes = replica.due_s, sized.fleet.busy_processors
        self._busy -= takes if replica.busy else 0
        found = change()
        self._busy += takes if replica.busy else 0
        if replica.due_s != before and replica.due_s < inf:
            self._at(replica.due_s, self._turn, (replica, sized))
        return found

    def _turn(self, what: tuple[Replica, Sized]) -> None:
        replica, sized = what
        if replica.due_s != self.now_s:
            return  # it was changed meanwhile
        first, done = self._touch(replica, lambda: replica.turn(self.now_s), sized)
        shown_s = self.now_s + self._fleet.hop_s
        for job in first:
            opened = self._jobs[job]
            opened.first_s = min(opened.first_s, shown_s)
            if opened.run is not None:
                opened.run.seen(shown_s)
        for job in done:
            self._answered(self._jobs[job], shown_s)

    def _answered(self, opened: _Open, shown_s: float) -> None:
        job, run = opened.job, opened.run
        if job is not None and run is not None:
            run.seen(shown_s)
            self._pacing.end(run, Usage(job.prompt_tokens, job.output_tokens, job.cached_tokens))
            self._sizes[run.size].answered(self.now_s - job.admitted_s)
        self._end(opened, End.ANSWERED)

    def _off(self, opened: _Open) -> None:
        """It is not on its size any more."""
        job, size = opened.job, opened.size
        if job is None or size is None:
            return
        sized = self._sizes[size]
        sized.ongoing[opened.ask.facts.tier] -= 1
        sized.total -= 1
        del self._jobs[job]
        if opened.held is not None:
            sized.left(opened.held, job)
        opened.usd += usd(sized.fleet.usd_per_mtoken, job.prompt_tokens, self._written(opened))
        opened.job = opened.held = opened.run = None
        while sized.backlog and sized.held:
            waiting, session = sized.backlog.popleft()
            if waiting in self._jobs:
                before = len(sized.backlog)
                self._place(sized, waiting, session)
                if len(sized.backlog) > before:
                    sized.backlog.rotate(1)
                    return

    def _written(self, opened: _Open) -> float:
        job = opened.job
        return 0.0 if job is None or opened.first_s == inf else float(job.output_tokens)

    def _end(self, opened: _Open, end: End) -> None:
        ask, job = opened.ask, opened.job
        cached, size = job.cached_tokens if job else 0, opened.size
        replica = opened.held.replica.name if opened.held else ""
        self._off(opened)
        del self._open[ask.number]
        shown_s = self.now_s + (self._fleet.hop_s if end is End.ANSWERED else 0.0)
        self.outcomes.add(ask, end, size, opened.first_s, shown_s, cached, opened.usd, self._largest, replica)

    def _late(self, opened: _Open) -> None:
        if self._open.get(opened.ask.number) is not opened:
            return
        held, job, size = opened.held, opened.job, opened.size
        if held is not None and job is not None and size is not None:
            self._touch(held.replica, lambda: held.replica.leave(job, self.now_s), self._sizes[size])
        self._end(opened, End.LATE)

    # time ----------------------------------------------------------------------------------------------------------

    def _at(self, when_s: float, call: Callable[[Any], None], what: Any) -> None:
        heapq.heappush(self._events, (when_s, next(self._count), call, what))

    def _tick(self, _: None) -> None:
        """Promises are waived and kept again with time."""
        loads = [
            sized.total / (sized.fleet.speed.slots * len(sized.held)) for sized in self._sizes.values() if sized.held
        ]
        self._brown_out.see(self.now_s, max(loads, default=0.0))
        if self._options.told is not None:
            self._options.told(self.now_s)
        self._at(self.now_s + _TICK_S, self._tick, None)

    def _scale(self, scaler: Scaler) -> None:
        """Start, call off or drain replicas as the scaling policy wishes."""
        for target in scaler.targets(self.now_s):
            sized = self._sizes[target.size]
            if target.replicas == sized.count:
                continue
            self._reasons.append((self.now_s, target.size, target.replicas, target.reason))
            sized.account(self.now_s)
            while sized.count < target.replicas:
                self._start(sized)
            while sized.count > target.replicas:
                if sized.starts:
                    sized.starts.pop()
                else:
                    sized.drain()
            sized.noted(self.now_s)
        self._at(self.now_s + LOOK_S, self._scale, scaler)

    def _began(self, sized: Sized) -> None:
        sized.account(self.now_s)
        sized.start()

    def _fail(self, size: Size) -> None:
        """A replica of that size is lost; a new one starts in its place."""
        sized = self._sizes[size]
        if not sized.held:
            return
        names = sorted(sized.held)
        name = names[int(uniform(self._options.seed, 1_000_000 + self._failures) * len(names))]
        self._failures += 1
        sized.account(self.now_s)
        held = sized.lose(name)
        self._busy -= sized.fleet.busy_processors if held.replica.busy else 0
        for job in held.replica.lose():
            self._lost(self._jobs[job])
        self._start(sized)

    def _lost(self, opened: _Open) -> None:
        """Before its first token it is tried once more, a tier without the size that failed; after that it is over."""
        size, again = opened.size, not opened.retried and opened.first_s == inf
        self._off(opened)
        if size is None or not again:
            self._end(opened, End.LOST)
            return
        opened.retried = True
        if opened.ask.facts.tier is not None:
            opened.without = frozenset({size})
        self._decide(opened)

    def _plan_failure(self, number: int) -> None:
        """The next of a Poisson process over all replicas."""
        per_hour = self._fleet.failures_per_replica_hour
        replicas = [(size, len(sized.held)) for size, sized in self._sizes.items()]
        total = sum(each for _, each in replicas)
        if not per_hour or not total:
            return
        wait_s = -log(1 - uniform(self._options.seed, 2_000_000 + 2 * number)) * 3600 / (per_hour * total)
        place = uniform(self._options.seed, 2_000_001 + 2 * number) * total
        for size, each in replicas:
            place -= each
            if place < 0:
                self._at(self.now_s + wait_s, self._fail_by_chance, (size, number))
                return

    def _fail_by_chance(self, what: tuple[Size, int]) -> None:
        self._fail(what[0])
        self._plan_failure(what[1] + 1)

    def _start(self, sized: Sized) -> None:
        """One more, after its cold start."""
        sized.account(self.now_s)
        number = next(self._count)
        sized.starts.append(number)
        sized.noted(self.now_s)
        self._at(self.now_s + sized.fleet.speed.start_s, self._started, (sized, number))

    def _started(self, what: tuple[Sized, int]) -> None:
        sized, number = what
        if number not in sized.starts:
            return  # it was called off
        sized.account(self.now_s)
        sized.starts.remove(number)
        sized.start()
        sized.noted(self.now_s)
        waiting = list(sized.backlog)
        sized.backlog.clear()
        for job, session in waiting:
            if job in self._jobs:
                self._place(sized, job, session)

    # result --------------------------------------------------------------------------------------------------------

    def _result(self, events: int) -> Result:
        use = {}
        for size, sized in self._sizes.items():
            sized.account(self.now_s)
            wished = [count for _, count, _ in sized.actions]
            steps = [after - before for before, after in pairwise(wished) if after != before]
            turns = sum((one > 0) != (two > 0) for one, two in pairwise(steps))
            device_s = sized.replica_s * sized.fleet.devices
            cost = device_s / 3600 * sized.fleet.usd_per_device_hour
            use[size] = SizeUse(
                sized.replica_s, device_s, cost, max(wished), min(wished), len(steps), turns, sized.actions
            )
        return Result(
            self.now_s, self.outcomes, use, self._brown_out.switches, self._preemptions, self._failures, events,
            self._reasons,
        )  # fmt: skip
