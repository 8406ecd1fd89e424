"""Which replica of a size gets a job: what serves, and what it is compared with."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final, Protocol

from cluster.chooser import Chooser, Prompt, Seen, prompt_of
from cluster.replica_choice import PromptFacts
from cluster.replica_report import ReplicaReport
from cluster.simulation.batch import BatchReplica
from cluster.simulation.job import Job
from cluster.simulation.stepped import SteppedReplica
from model.chance import uniform
from model.contract import EngineLoad
from model.marks import MAX_MARKS

REPORT_S: Final = 1.0
"""As in `cluster.build`."""

Replica = BatchReplica | SteppedReplica


class Held:
    """A replica as its size holds it: requests there, and what it last told of itself."""

    def __init__(self, replica: Replica, kv_tokens: int) -> None:
        self.replica = replica
        self.jobs: set[Job] = set()
        self._kv_tokens = kv_tokens
        self._stats: Mapping[str, Any] = {}
        self._told_s = -REPORT_S

    @property
    def ongoing(self) -> int:
        """Requests there."""
        return len(self.jobs)

    def told(self, now_s: float) -> Mapping[str, Any]:
        """Its last report, made anew when somebody asks and it is time."""
        if now_s - self._told_s >= REPORT_S:
            self._told_s = now_s
            replica = self.replica
            load = EngineLoad(self.ongoing, 0, replica.free_kv_tokens, self._kv_tokens)
            if isinstance(replica, SteppedReplica):
                names, complete = replica.marks()
            else:
                names = replica.cached_names()
                names, complete = names[-MAX_MARKS:], len(names) <= MAX_MARKS
            self._stats = ReplicaReport.of(load, names, complete).fields()
        return self._stats


class Pick(Protocol):
    """Chooses the replica of a job."""

    def __call__(self, job: Job, session: str, held: Mapping[str, Held], now_s: float) -> str:
        """Name of one of these; there is at least one."""

    def keep(self, names: Sequence[str]) -> None:
        """Only these are left."""


class ByPrefix:
    """What `ReplicaRouter` does, with its own `Chooser`."""

    def __init__(self, chooser: Chooser) -> None:
        self._chooser = chooser

    def __call__(self, job: Job, session: str, held: Mapping[str, Held], now_s: float) -> str:
        """The first in order, and it is sent at once."""
        chooser, prompt = self._chooser, self._prompt(job, session)
        names = [name for name in chooser.candidates(job, prompt) or held if name in held] or list(held)
        seen = [Seen(name, held[name].ongoing, held[name].told(now_s)) for name in names]
        replica = chooser.order(job, prompt, seen, now_s)[0]
        chooser.sent(job, replica, now_s)
        return replica

    def keep(self, names: Sequence[str]) -> None:
        """Forget the others."""
        self._chooser.keep(names)

    def _prompt(self, job: Job, session: str) -> Prompt:
        if job.request is not None:
            return prompt_of(job.request)
        return Prompt(PromptFacts(job.prompt_tokens, session, job.blocks[-1] if job.blocks else job.number), job.blocks)


class ByPowerOfTwo:
    """What Serve's own router does: the shorter queue of two at random."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._draws = count()
        self._names: Sequence[str] = ()

    def __call__(self, job: Job, session: str, held: Mapping[str, Held], now_s: float) -> str:  # noqa: ARG002
        """A tie goes to the first that was drawn."""
        number, names = len(self._names), self._names
        first = int(uniform(self._seed, next(self._draws)) * number)
        if number == 1:
            return names[0]
        second = int(uniform(self._seed, next(self._draws)) * (number - 1))
        return min(names[first], names[second + (second >= first)], key=lambda name: held[name].ongoing)

    def keep(self, names: Sequence[str]) -> None:
        """Drawn from these."""
        self._names = list(names)
