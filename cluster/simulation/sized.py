"""The replicas of one size: who runs, starts and drains, and what that costs."""

from collections import Counter, deque
from collections.abc import Callable

from cluster.config import Tier
from cluster.line import KEEP
from cluster.pacing import Pacing
from cluster.simulation.fleet import SizeFleet
from cluster.simulation.job import Job
from cluster.simulation.picking import Held, Pick, Replica
from cluster.snapshot import SizeState
from model.config import Size


class Sized:
    """One size. Names of replicas never come back."""

    def __init__(self, size: Size, fleet: SizeFleet, pick: Pick, make: Callable[[str], Replica], context: int) -> None:
        self.size, self.fleet = size, fleet
        self.held: dict[str, Held] = {}  # that take requests
        self.draining: dict[str, Held] = {}
        self.starts: list[int] = []  # numbers of those on their way
        self.ongoing: Counter[Tier | None] = Counter()
        self.total = 0  # of them
        self.backlog: deque[tuple[Job, str]] = deque()  # no replica has room; with their sessions
        self.replica_s = 0.0
        self.actions: list[tuple[float, int, int]] = []  # instant, how many run and start, how many run
        self.context = context  # tokens at most
        self.busy_s = 0.0  # that a request holds a slot; older ones count less
        self._pick, self._make = pick, make
        self._made = 0
        self._seen_s = 0.0

    @property
    def starting(self) -> int:
        """Replicas on their way."""
        return len(self.starts)

    @property
    def count(self) -> int:
        """Replicas that run or start."""
        return len(self.held) + self.starting

    def state(self, pacing: Pacing) -> SizeState:
        """What the policy may read."""
        running, slots = len(self.held), self.fleet.speed.slots * len(self.held)
        pace = pacing.pace(self.size, self.total, slots)
        price, wakes = self.fleet.usd_per_mtoken, self.fleet.min_replicas == 0
        return SizeState(self.size, running, self.total, slots, self.context, price, wakes, pace, self.ongoing)

    def place(self, job: Job, session: str, now_s: float) -> Held | None:
        """Give it to a replica; without one it waits for the first that has room."""
        if self.held:
            held = self.held[self._pick(job, session, self.held, now_s)]
            if held.ongoing < self.fleet.max_ongoing:
                held.jobs.add(job)
                return held
        self.backlog.append((job, session))
        return None

    def answered(self, busy_s: float) -> None:
        """A request held a slot for so long."""
        self.busy_s = KEEP * self.busy_s + (1 - KEEP) * busy_s if self.busy_s else busy_s

    def account(self, now_s: float) -> None:
        """Replica-seconds up to now; before every change. Who starts or drains holds its devices too."""
        self.replica_s += (self.count + len(self.draining)) * (now_s - self._seen_s)
        self._seen_s = now_s

    def start(self) -> Held:
        """One more takes requests from now on."""
        name = f"{self.size}#{self._made}"
        self._made += 1
        held = self.held[name] = Held(self._make(name), self.fleet.speed.kv_tokens)
        self._pick.keep(list(self.held))
        return held

    def drain(self) -> None:
        """The one with the fewest requests takes no more, and is gone when those end."""
        name = min(self.held, key=lambda name: self.held[name].ongoing)
        held = self.held.pop(name)
        if held.jobs:
            self.draining[name] = held
        self._pick.keep(list(self.held))

    def lose(self, name: str) -> Held:
        """That one is gone at once."""
        held = self.held.pop(name)
        self._pick.keep(list(self.held))
        return held

    def left(self, held: Held, job: Job) -> None:
        """A request is over; a replica that drains ends with its last."""
        held.jobs.discard(job)
        if not held.jobs:
            self.draining.pop(held.replica.name, None)

    def noted(self, now_s: float) -> None:
        """For the curve of replicas over time."""
        self.actions.append((now_s, self.count, len(self.held)))
