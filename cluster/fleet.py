"""The replicas of every size as one ingress process sees them: how many, how busy, how fast."""

import asyncio
from collections import Counter
from collections.abc import Mapping

from ray.serve.handle import DeploymentHandle

from cluster.config import ClusterConfig, Tier
from cluster.lookout import Lookout
from cluster.pacing import Pacing
from cluster.scaling.reporter import Reporter
from cluster.scaling.verdict import Verdict
from cluster.snapshot import ClusterStatus, ReplicaLoad, ReplicaStats, ReplicaStatus, SizeState, SizeStatus
from cluster.waking import until_awake
from model.config import CONTEXT_TOKENS, Size
from model.profile import Profile


class Fleet:
    """What is known without asking, and whom to ask for the rest."""

    def __init__(
        self,
        config: ClusterConfig,
        handles: Mapping[Size, DeploymentHandle],
        names: Mapping[Size, tuple[str, bool, int]],
        before: "Fleet | None" = None,
        reporter: Reporter | None = None,
    ) -> None:
        """`names` gives checkpoint, stand-in flag and parameters of each size, known before a replica is up.

        What was seen and is under way is taken over from the fleet `before`, which new settings took the place of.
        The `reporter` knows what scaling decided; without one nobody scales but Serve.
        """
        self._config = config
        self._handles = handles
        self._names = names
        self._reporter = reporter
        self._lookout: Lookout = before._lookout if before else Lookout()
        self.ongoing: dict[Size, Counter[Tier | None]] = before.ongoing if before else {}
        """Requests that this process has under way."""
        self.pacing: Pacing = before.pacing if before else Pacing()
        for size in config.sizes:
            self.ongoing.setdefault(size, Counter())

    async def start(self) -> None:
        """Begin to watch; needs a running event loop."""
        await self._lookout.watch(self._handles)
        if self._reporter is not None:
            self._reporter.settle(self._config, self._lookout.loads, lambda size: self.ongoing[size].total())

    async def close(self) -> None:
        """Stop watching."""
        await self._lookout.close()
        if self._reporter is not None:
            self._reporter.close()

    def states(self) -> tuple[SizeState, ...]:
        """Every size now, cheapest first."""
        found = [self.state(size) for size in self._config.sizes]
        return tuple(sorted(found, key=lambda state: state.usd_per_mtoken))

    def overview(self) -> ClusterStatus:
        """Sizes as last seen (at most a second old), without their replicas; no waiting."""
        return ClusterStatus(tuple(self._size_status(size, ()) for size in self._config.sizes), self.scaling)

    async def status(self) -> ClusterStatus:
        """Sizes, replicas and ranks; asks every replica."""
        sizes = tuple(self._config.sizes)
        replicas = await asyncio.gather(*(self._lookout.statuses(size) for size in sizes))
        return ClusterStatus(tuple(map(self._size_status, sizes, replicas)), self.scaling)

    async def stats(self) -> tuple[ReplicaStats, ...]:
        """Every replica in numbers; asks each, and leaves out who does not answer."""
        found = await asyncio.gather(*(self._lookout.stats(size) for size in self._config.sizes))
        return tuple(each for size in found for each in size)

    def replicas(self) -> Mapping[Size, tuple[str, ...]]:
        """Names of the replicas of every size as last seen."""
        return {size: tuple(load.replica for load in self._lookout.loads(size)) for size in self._config.sizes}

    async def profile(self, size: Size, replica: str, seconds: float, stacks: bool) -> Profile:
        """That replica's next seconds; raises a `GemmuleError` when it is busy with another profile, or gone."""
        return await self._lookout.profile(size, replica, seconds, stacks)

    @property
    def scaling(self) -> Verdict:
        """What was decided last; empty where only Serve scales, and at the beginning."""
        return self._reporter.verdict if self._reporter else Verdict()

    def wanted(self, size: Size | None, tier: Tier | None) -> None:
        """A request came whose first choice this is, wherever it goes."""
        if self._reporter is not None and size is not None:
            self._reporter.wanted(size, tier)

    def ended(self, size: Size, tier: Tier | None) -> None:
        """A request has left a size."""
        self.ongoing[size][tier] -= 1
        if self._reporter is not None:
            self._reporter.ended(size)

    async def awake(self, size: Size) -> None:
        """Return when the size has a replica, or is one that does not sleep.

        Raises `OverloadedError` when the budget has no room for it, `NotReadyError` after `scaling.wake_timeout_s`.
        """
        state = self.state(size)
        if self._reporter is None or state.num_replicas or state.returns or not state.wakes:
            return
        self._reporter.unplaced[size] += 1
        try:
            await until_awake(lambda: self.state(size), self._config.scaling.wake_timeout_s)
        finally:
            self._reporter.unplaced[size] -= 1

    def loads(self) -> Mapping[Size, tuple[ReplicaLoad, ...]]:
        """All replicas as last seen, those that leave as well."""
        return {size: self._lookout.loads(size) for size in self._config.sizes}

    def any_outdated(self) -> bool:
        """Whether the settings ask for other replicas than run."""
        return any(load.outdated for loads in self.loads().values() for load in loads)

    def state(self, size: Size) -> SizeState:
        """One size now. One that returns or wakes counts as the one replica that will be: so many may wait for it."""
        config = self._config.sizes[size]
        all_ = self._lookout.loads(size)
        num_replicas = sum(not load.leaving for load in all_)
        verdict, may_sleep = self.scaling.get(size), config.replicas.min_replicas == 0
        asleep = may_sleep and verdict is not None and verdict.target == 0
        returns = not num_replicas and not asleep and self._lookout.returns(size)
        polled = sum(load.running + load.waiting for load in all_)
        ongoing = max(self.ongoing[size].total(), polled)
        slots = config.engine.max_running * (num_replicas or returns or may_sleep)
        return SizeState(
            size=size,
            num_replicas=num_replicas,
            ongoing=ongoing,
            slots=slots,
            max_context_tokens=CONTEXT_TOKENS,
            usd_per_mtoken=config.usd_per_mtoken,
            wakes=may_sleep,
            returns=returns,
            pace=self.pacing.pace(size, ongoing, slots),
            by_tier=dict(self.ongoing[size]),
            no_room=verdict.reason if verdict is not None and verdict.refused and not num_replicas else "",
        )

    def _size_status(self, size: Size, replicas: tuple[ReplicaStatus, ...]) -> SizeStatus:
        config = self._config.sizes[size]
        checkpoint, stand_in, parameters = self._names[size]
        state = self.state(size)
        return SizeStatus(
            size=size,
            checkpoint=checkpoint,
            stand_in=stand_in,
            parameters=parameters,
            tensor_parallel=config.tensor_parallel,
            usd_per_mtoken=config.usd_per_mtoken,
            ready=state.num_replicas > 0,
            ongoing=state.ongoing,
            replicas=replicas,
        )
