"""What the scaling policy is told of simulated sizes, and what it then wishes for."""

from collections.abc import Sequence
from typing import Final

from cluster.config import Tier
from cluster.policy import choose
from cluster.rules import Rules
from cluster.scaling.arrivals import Arrivals
from cluster.scaling.facts import Load, Memory, SizeLoad, Target
from cluster.scaling.policy import step
from cluster.scaling.rules import ScalingRules
from cluster.simulation.ask import Ask
from cluster.simulation.sized import Sized
from cluster.snapshot import Decision, SizeState, Snapshot

LOOK_S: Final = 1.0


class Scaler:
    """For one run. Counts what is wanted, and remembers what the policy asks it to."""

    def __init__(self, rules: ScalingRules, routing: Rules, sized: Sequence[Sized], budget_devices: float) -> None:
        """`sized`, cheapest first."""
        self._rules, self._routing, self._sized, self._budget_devices = rules, routing, sized, budget_devices
        self._arrivals = Arrivals(rules.window_s, 0.0)
        self._memory = Memory(targets={each.size: each.fleet.replicas for each in sized})
        self._idle = Snapshot(tuple(_idle(each) for each in sized))

    def see(self, ask: Ask, now_s: float) -> None:
        """A request came: its first choice is what it would get in an empty cluster."""
        found = choose(ask.facts, self._idle, self._routing)
        if isinstance(found, Decision):
            self._arrivals.see(found.size, ask.facts.tier, now_s)

    def targets(self, now_s: float) -> tuple[Target, ...]:
        """What every size shall have."""
        load = Load(now_s, self._budget_devices, tuple(self._load(each, now_s) for each in self._sized))
        told, self._memory = step(load, self._memory, self._rules)
        return told

    def _load(self, sized: Sized, now_s: float) -> SizeLoad:
        speed, fleet = sized.fleet.speed, sized.fleet
        free = min((held.replica.free_kv_tokens for held in sized.held.values()), default=speed.kv_tokens)
        queued = sum(max(0, held.ongoing - speed.slots) for held in sized.held.values()) + len(sized.backlog)
        return SizeLoad(
            size=sized.size,
            devices=fleet.devices,
            running=len(sized.held),
            starting=sized.starting,
            min_replicas=fleet.min_replicas,
            max_replicas=fleet.max_replicas,
            slots=speed.slots,
            ongoing=sized.total,
            queued=queued,
            kv_used_share=1 - free / speed.kv_tokens,
            wanted_per_s=self._arrivals.per_s(sized.size, now_s),
            trend_per_s2=self._arrivals.trend_per_s2(sized.size, now_s),
            busy_s=sized.busy_s,
            cold_start_s=speed.start_s,
            usd_per_mtoken=fleet.usd_per_mtoken,
            last_asked_s=self._arrivals.last_s(sized.size),
            draining=len(sized.draining),
        )


def _idle(sized: Sized) -> SizeState:
    nobody: dict[Tier | None, int] = {}
    price = sized.fleet.usd_per_mtoken
    return SizeState(sized.size, 1, 0, 1, sized.context, price, by_tier=nobody)
