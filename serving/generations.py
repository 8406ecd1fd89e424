"""Opens the generations of one request: one per choice, all on one size."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from cluster.config import Tier
from cluster.promise_watch import Kept
from cluster.routing.choice import Offer
from cluster.routing.features import Text
from cluster.snapshot import ClusterStatus, Decision, Page, Placed, ReplicaStats, RouteFacts, Snapshot
from cluster.trail import Trail
from model.config import Size
from model.events import Event
from model.profile import Profile
from model.request import GenerationRequest
from serving.interleave import interleave


class Router(Protocol):
    """Who places requests. The first item of a stream is `Placed`, or a `GemmuleError` is raised before any item."""

    def offers(self, text: Text, max_tokens: int) -> tuple[Offer, ...]:
        """What every served size is expected to make of a request, cheapest first; no waiting."""

    def decide(self, facts: RouteFacts) -> Decision:
        """What `route` would do now, without doing it; raises the `GemmuleError` that it would begin with."""

    def route(
        self, facts: RouteFacts, request: GenerationRequest, trail: Trail
    ) -> AsyncGenerator[Placed | Event, None]:
        """`Placed`, then events; closing the generator aborts the request everywhere. The trail learns what was done.

        Each item may be taken by another task: no timeout or task group may stay open across a `yield`.
        """

    shadow_usd: float
    """Price of answers that were looked at again, so far."""

    def promises(self) -> Mapping[Tier, Kept]:
        """What is seen to be kept of each tier's promise; cheap, no waiting."""

    def snapshot(self) -> Snapshot:
        """All served sizes now; cheap, no waiting."""

    def overview(self) -> ClusterStatus:
        """All served sizes now, without their replicas; cheap, no waiting."""

    def replicas(self) -> Mapping[Size, tuple[str, ...]]:
        """Names of the replicas of every served size; cheap, no waiting."""

    async def status(self) -> ClusterStatus:
        """Sizes, replicas and ranks."""

    async def stats(self) -> tuple[ReplicaStats, ...]:
        """Every replica in numbers; those that do not answer in time are left out."""

    @property
    def ingress(self) -> str:
        """Name of this ingress process among several; empty where it is the only one."""

    async def pages(self) -> tuple[Page, ...]:
        """What every ingress process counts, this one too; none where it is the only one."""

    async def profile(self, size: Size, replica: str, seconds: float, stacks: bool) -> Profile:
        """That replica's next seconds; raises a `GemmuleError` when it is busy with another profile, or gone."""


async def opened(
    router: Router, facts: RouteFacts, request: Callable[[int], GenerationRequest], num_choices: int, trail: Trail
) -> AsyncGenerator[tuple[int, Placed | Event], None]:
    """Items of all generations as they come, each with the index of its choice.

    The first is routed; the others follow it to its size once it is placed, so that all choices are one model's and
    find the prompt in its cache. `request` is asked when a generation is handed over, for time is running.
    """
    first = router.route(facts, request(0), trail)
    async with aclosing(first):
        placed = await anext(first)
        yield 0, placed
        if isinstance(placed, Placed):
            facts = replace(facts, size=placed.decision.size, tier=None, allow_fallback=False)
        others = [router.route(facts, request(index), trail) for index in range(1, num_choices)]
        async with aclosing(interleave([first, *others])) as items:
            async for item in items:
                yield item
