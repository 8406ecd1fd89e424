"""Policies that are worth comparing on one trace, by name. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from cluster.config import ClusterConfig, ReplicaChoice
from cluster.scaling.rules import scaling_rules
from cluster.simulation.asking import Asking, Target, prospects_of, rules_for
from cluster.simulation.fleet import Fleet
from cluster.simulation.result import Result
from cluster.simulation.simulator import Options, simulate
from cluster.trace import TraceRequest
from model.config import Size


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that is alike for all policies."""

    requests: list[TraceRequest]
    config: ClusterConfig
    fleet: Fleet
    mix: Mapping[Target, float]
    timeout_s: float | None
    options: Options


def _auto(scenario: Scenario) -> Scenario:
    """As configured, and replicas follow the load."""
    return replace(scenario, options=replace(scenario.options, scaling=scaling_rules(scenario.config)))


def _fixed(scenario: Scenario) -> Scenario:
    """As many replicas as each size may have, all the time."""
    sizes = {size: replace(each, replicas=each.max_replicas) for size, each in scenario.fleet.sizes.items()}
    return replace(scenario, fleet=replace(scenario.fleet, sizes=sizes))


def _power_of_two(scenario: Scenario) -> Scenario:
    """As `fixed`, the replica of a size chosen as Ray Serve does."""
    fixed = _fixed(scenario)
    routing = fixed.config.routing.model_copy(update={"replica_choice": ReplicaChoice.POWER_OF_TWO})
    return replace(fixed, config=fixed.config.model_copy(update={"routing": routing}))


def _one_size(scenario: Scenario, place: int) -> Scenario:
    fixed = _fixed(scenario)
    ordered = sorted(fixed.fleet.sizes, key=lambda size: fixed.fleet.sizes[size].usd_per_mtoken)
    return replace(fixed, mix={ordered[place]: 1.0})


POLICIES: Final[Mapping[str, Callable[[Scenario], Scenario]]] = {
    "auto": _auto,
    "fixed": _fixed,
    "power-of-two": _power_of_two,
    "largest": lambda scenario: _one_size(scenario, -1),
    "cheapest": lambda scenario: _one_size(scenario, 0),
}
MEANING: Final = {
    "auto": "as configured, replicas follow the load",
    "fixed": "as configured, always as many replicas as there may be",
    "power-of-two": "as fixed, replicas chosen by Ray Serve's power of two",
    "largest": "as fixed, everything on the largest size",
    "cheapest": "as fixed, everything on the cheapest size",
}


def run(scenario: Scenario, policy: str, told: Callable[[float], None] | None = None) -> Result:
    """One policy on the scenario."""
    chosen = POLICIES[policy](scenario)
    rules, profile = rules_for(chosen.config)
    sizes: list[Size] = list(chosen.fleet.sizes)
    options = replace(chosen.options, told=told)
    asking = Asking(prospects_of(profile), sizes, chosen.mix, chosen.timeout_s, options.seed)
    return simulate(asking(chosen.requests), chosen.fleet, rules, options)
