"""Between Serve's counts and the policy: what drains, how long starts took, what was decided before. Pure."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from cluster.config import ClusterConfig
from cluster.scaling.facts import Memory, SizeLoad, Target
from cluster.scaling.policy import step
from cluster.scaling.report import Count, IngressReport, load_of
from cluster.scaling.rules import scaling_rules
from cluster.scaling.verdict import Move, SizeVerdict, Verdict
from model.config import Size

_STALE_S: Final = 10.0  # after which a process that reports nothing new is no more
_MOVES: Final = 50  # that are remembered


@dataclass(frozen=True, slots=True)
class Seen:
    """Replicas of a size that Serve knows to run, by name, and how many it wants."""

    running: frozenset[str]
    target: int


class Keeper:
    """One per application. `alive` says of replicas that run no more whether their process is still there."""

    def __init__(self, alive: Callable[[str], bool]) -> None:
        self._alive = alive
        self._memory = Memory()
        self._reports = _Reports()
        self._starts: dict[Size, _Starts] = {}
        self._draining: dict[Size, frozenset[str]] = {}
        self._running: dict[Size, frozenset[str]] = {}
        self._moves: deque[Move] = deque(maxlen=_MOVES)
        self._number = 0

    @property
    def silent(self) -> frozenset[str]:
        """Ingress processes that report nothing any more."""
        return self._reports.silent

    def look(
        self, reports: Sequence[IngressReport], seen: Mapping[Size, Seen], config: ClusterConfig, now_s: float
    ) -> Verdict | None:
        """What every size shall have; None while no ingress process reports anything. `now_s` since 1970."""
        counts = {size: self._count(size, each, now_s) for size, each in seen.items() if size in config.sizes}
        fresh = self._reports.fresh(reports, now_s)
        if not fresh:
            return None
        load = load_of(fresh, counts, config, now_s)
        before = {size: count.running + count.starting for size, count in counts.items()} | dict(self._memory.targets)
        targets, self._memory = step(load, self._memory, scaling_rules(config))
        for target in targets:
            self._note(target, before[target.size], now_s)
        self._number += 1
        own_s = {size: max((of.start_s for r in fresh if (of := r.get(size))), default=0.0) for size in counts}
        verdicts = tuple(self._verdict(target, load[target.size], own_s[target.size]) for target in targets)
        return Verdict(self._number, load.budget_devices, verdicts, tuple(self._moves))

    def _count(self, size: Size, seen: Seen, now_s: float) -> Count:
        gone = self._running.get(size, frozenset()) | self._draining.get(size, frozenset())
        draining = frozenset(name for name in gone - seen.running if self._alive(name))
        self._running[size], self._draining[size] = seen.running, draining
        starts = self._starts.setdefault(size, _Starts())
        starts.see(seen.running, now_s)
        running = len(seen.running)
        return Count(running, max(0, seen.target - running), len(draining), starts.took_s)

    def _note(self, target: Target, before: int, now_s: float) -> None:
        if target.replicas == before:
            return
        self._moves.append(Move(now_s, target.size, before, target.replicas, target.reason))
        self._starts[target.size].wished(target.replicas - before, now_s)

    def _verdict(self, target: Target, load: SizeLoad, own_s: float) -> SizeVerdict:
        """`own_s` of the start were the replica's own work."""
        took_s = self._starts[target.size].took_s
        return SizeVerdict(
            size=target.size,
            target=target.replicas,
            wanted=target.wanted,
            running=load.running,
            starting=load.starting,
            draining=load.draining,
            devices=load.devices,
            reason=target.reason,
            cold_start_s=took_s,
            place_s=max(0.0, took_s - own_s) if took_s is not None and own_s else None,
        )


class _Starts:
    """From the wish for a replica until it serves."""

    def __init__(self) -> None:
        self._wished_s: deque[float] = deque()
        self._known: Set[str] = frozenset()
        self.took_s: float | None = None

    def wished(self, num: int, now_s: float) -> None:
        """So many more are asked for; fewer than none: the last wishes are taken back, as far as they are open."""
        for _ in range(-num):
            if self._wished_s:
                self._wished_s.pop()
        self._wished_s.extend([now_s] * num)

    def see(self, running: frozenset[str], now_s: float) -> None:
        """Those that serve now; the first that is new answers the first wish."""
        for _ in running - self._known:
            if self._wished_s:
                self.took_s = now_s - self._wished_s.popleft()
        self._known = running


class _Reports:
    """The newest of every process, until it falls silent."""

    def __init__(self) -> None:
        self._numbers: dict[str, tuple[int, float]] = {}  # process -> its number, and since when it has been the last
        self.silent: frozenset[str] = frozenset()

    def fresh(self, reports: Sequence[IngressReport], now_s: float) -> list[IngressReport]:
        """Those of processes that go on reporting."""
        known = self._numbers
        self._numbers = {
            report.process: known[report.process]
            if report.process in known and known[report.process][0] == report.number
            else (report.number, now_s)
            for report in reports
        }
        self.silent = frozenset(name for name, (_, since_s) in self._numbers.items() if now_s - since_s >= _STALE_S)
        return [report for report in reports if report.process not in self.silent]
