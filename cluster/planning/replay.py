"""A plan put to the test: the trace through the policies that serve, on simulated replicas. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from cluster.config import ClusterConfig, Tier
from cluster.planning.capacity import Slo
from cluster.planning.problem import FleetPlan
from cluster.simulation.asking import Asking, Target, prospects_of, rules_for
from cluster.simulation.fleet import Fleet, SizeFleet
from cluster.simulation.result import SIZES, End, Outcomes
from cluster.simulation.simulator import Options, simulate
from cluster.trace import TraceRequest
from model.config import CONTEXT_TOKENS, Size


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a plan's promises. Shares are of all requests; times are over those answered."""

    requests: int
    share: float  # answered within every time of the SLO
    by_size: Mapping[Size, float]  # the same, of the requests that the size answered
    not_answered: int
    ttft_p95_s: float
    tpot_p95_s: float
    quality: float  # right answers, over those that the largest size of the profile would have given
    answered_by: Mapping[Size, float]


@dataclass(frozen=True, slots=True)
class Replay:
    """How a plan is replayed."""

    mix: Mapping[Tier, float]
    slo: Slo
    cached: bool = True  # prompts that share blocks find them cached
    seed: int = 0
    told: Callable[[float], None] | None = None


def replayed(plan: FleetPlan, settings: ClusterConfig, requests: Iterable[TraceRequest], how: Replay) -> Kept:
    """The outcome for everyone whose request fits the context."""
    rules, profile = rules_for(settings)
    fitting = (each for each in requests if each.prompt_tokens + each.output_tokens <= CONTEXT_TOKENS)
    if not how.cached:
        fitting = (replace(each, blocks=()) for each in fitting)
    mix: dict[Target, float] = {tier: share for tier, share in how.mix.items()}  # noqa: C416 - its keys are wider
    asking = Asking(prospects_of(profile), settings.sizes, mix, timeout_s=None, seed=how.seed)
    sizes = {part.size: SizeFleet(
        part.candidate.speed, settings.sizes[part.size].usd_per_mtoken, part.replicas,
        max_ongoing=part.candidate.speed.slots + settings.sizes[part.size].engine.max_waiting + 8,
    ) for part in plan.parts}  # fmt: skip
    result = simulate(asking(fitting), Fleet(sizes), rules, Options(seed=how.seed, told=how.told))
    return kept(result.outcomes, how.slo)


def kept(outcomes: Outcomes, slo: Slo) -> Kept:
    """Counted over all that came."""
    ttft, total, output, size, end = (
        np.asarray(column) for column in (
            outcomes.ttft_s, outcomes.total_s, outcomes.output_tokens, outcomes.size, outcomes.end
        )
    )  # fmt: skip
    answered = end == End.ANSWERED
    tpot = np.where(output > 1, (total - ttft) / np.maximum(1, output - 1), 0.0)
    within = answered & _within(ttft, slo.ttft_s) & _within(tpot, slo.tpot_s) & _within(total, slo.e2e_s)
    by_size = {each: size == place for place, each in enumerate(SIZES)}
    right, best = np.asarray(outcomes.right), np.asarray(outcomes.best)
    return Kept(
        requests=len(end),
        share=float(within.mean()),
        by_size={each: float(within[mine].mean()) for each, mine in by_size.items() if mine.any()},
        not_answered=int((~answered).sum()),
        ttft_p95_s=float(np.quantile(ttft[answered], 0.95)),
        tpot_p95_s=float(np.quantile(tpot[answered], 0.95)),
        quality=float(right.sum() / max(1, best.sum())),
        answered_by={each: float(mine.mean()) for each, mine in by_size.items() if mine.any()},
    )


def _within(seconds: NDArray[np.float64], limit_s: float | None) -> NDArray[np.bool_]:
    return np.asarray(seconds <= (inf if limit_s is None else limit_s), np.bool_)
