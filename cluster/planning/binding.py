"""Why a plan is not cheaper, and what is nearest where there is none: the same wish with one thing eased. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from cluster.config import Tier
from cluster.planning.candidates import precision_name
from cluster.planning.planner import Planned, Planner, Wish, precisions_beyond
from cluster.planning.problem import FleetPlan
from model.config import Size

_EASED_TIMES: Final = 1.5
_LOOSER_TIMES: Final = (1.5, 2.0, 3.0, 5.0, 10.0)
_EASED_PROMISE: Final = 0.05
_SAVED_USD: Final = 0.005  # an hour; less is nothing


@dataclass(frozen=True, slots=True)
class Eased:
    """One thing eased, in words, and the plan that this allows."""

    what: str
    plan: FleetPlan

    def saved_usd_per_hour(self, plan: FleetPlan) -> float:
        """Against the plan without."""
        return plan.usd_per_hour - self.plan.usd_per_hour


def binding(planner: Planner, planned: Planned) -> list[Eased]:
    """What would make the plan cheaper if it were eased a little, from what saves most on."""
    plan = planned.plan
    if plan is None:
        return []
    found = [
        Eased(what, eased)
        for what, wish in _little(planned.wish)
        if (eased := planner.plan(wish).plan) is not None and plan.usd_per_hour - eased.usd_per_hour > _SAVED_USD
    ]
    return sorted(found, key=lambda each: each.plan.usd_per_hour)


def nearest(planner: Planner, planned: Planned) -> list[Eased]:
    """Plans for a wish that has none, with as little eased as makes one: one thing, else several together."""
    found: list[Eased] = []
    for steps in _ladders(planner, planned.wish):
        for what, wish in steps:
            plan = planner.plan(wish).plan
            if plan is not None:
                found.append(Eased(what, plan))
                break
    return found or _everything(planner, planned.wish)


def reasons(planner: Planner, planned: Planned) -> list[str]:
    """Why there is no plan, in sentences."""
    wish, found = planned.wish, []
    for size in wish.sizes:
        if not planned.problem.candidates[size]:
            found += [
                f"{size} in {precision_name(each.quantization)} on {each.degree} × {each.device}: {each.why}"
                for each in planned.misfits[size]
            ]
    able = tuple(size for size in wish.sizes if planned.problem.candidates[size])
    for tier in wish.traffic:
        if able and not any(planned.problem.mixes[able].get(tier, ())):
            most, names = planner.mixes.best(able), " and ".join(able)
            found.append(f"{tier} promises {wish.promises[tier]:.2f} of the quality, {names} keep {most:.2f} at most")
    if not found:
        has = ", ".join(f"{most} × {kind}" for kind, most in wish.devices.items() if most is not None)
        found.append(f"{has} are too few for {wish.demand.per_s:.2f} requests per second")
    return found


def _little(wish: Wish) -> Iterator[tuple[str, Wish]]:
    yield from _times(wish, _EASED_TIMES)
    for tier, promised in wish.promises.items():
        if promised > 0 and tier in wish.traffic:
            eased = max(0.0, promised - _EASED_PROMISE)
            yield f"{tier} promises {eased:.2f} of the quality, not {promised:.2f}", _promising(wish, tier, eased)
    if any(most is not None for most in wish.devices.values()):
        yield "as many devices as it takes", _unlimited(wish)
    fewer = precisions_beyond(wish.precisions)
    if fewer != wish.precisions:
        yield f"{precision_name(fewer[-1])} allowed", replace(wish, precisions=fewer)
    if wish.demand.mean_per_s < wish.demand.per_s:
        demand = replace(wish.demand, per_s=wish.demand.mean_per_s)
        yield "replicas that follow the load without delay, on average", replace(wish, demand=demand)


def _ladders(planner: Planner, wish: Wish) -> Iterator[list[tuple[str, Wish]]]:
    steps, precisions = [], wish.precisions
    while (fewer := precisions_beyond(precisions)) != precisions:
        steps.append((f"{precision_name(fewer[-1])} allowed", replace(wish, precisions=fewer)))
        precisions = fewer
    yield steps
    yield [("as many devices as it takes", _unlimited(wish))]
    yield [each for factor in _LOOSER_TIMES for each in _times(wish, factor)]
    most = planner.mixes.best(wish.sizes)
    kept = {tier: min(promised, most) for tier, promised in wish.promises.items()}
    yield [(f"no tier promises more than {most:.2f} of the quality", replace(wish, promises=kept))]
    larger = tuple(size for size in planner.profile.sizes if size not in wish.sizes)
    if larger:
        yield [(f"{' and '.join(larger)} served too", replace(wish, sizes=(*wish.sizes, *larger)))]


def _everything(planner: Planner, wish: Wish) -> list[Eased]:
    """As many devices and as few bits as it takes, and times as loose as need be."""
    free = _unlimited(wish)
    while (fewer := precisions_beyond(free.precisions)) != free.precisions:
        free = replace(free, precisions=fewer)
    free = replace(free, sizes=planner.profile.sizes)
    for factor in (1.0, *_LOOSER_TIMES):
        plan = planner.plan(replace(free, slo=wish.slo.looser(factor))).plan
        if plan is not None:
            times = f", times {factor:g} × as long" if factor > 1 else ""
            return [Eased(f"every size, int4 allowed, as many devices as it takes{times}", plan)]
    return []


def _times(wish: Wish, factor: float) -> Iterator[tuple[str, Wish]]:
    for name, words in (("ttft_s", "first token"), ("tpot_s", "each output token"), ("e2e_s", "the whole answer")):
        now = getattr(wish.slo, name)
        if now is not None:
            slo = replace(wish.slo, **{name: now * factor})
            yield f"{words} within {now * factor:g} s, not {now:g} s", replace(wish, slo=slo)


def _promising(wish: Wish, tier: Tier, promised: float) -> Wish:
    return replace(wish, promises={**wish.promises, tier: promised})


def _unlimited(wish: Wish) -> Wish:
    return replace(wish, devices=dict.fromkeys(wish.devices))


def why_not_alone(planner: Planner, planned: Planned, size: Size) -> str:
    """Why one size alone makes no plan, in words."""
    if not planned.problem.candidates.get(size):
        return "fits none of the devices within the SLO"
    tiers = [tier for tier in planned.wish.traffic if not planned.problem.mixes[(size,)].get(tier)]
    if tiers:
        kept = planner.mixes.best((size,))
        return f"keeps {kept:.2f} of the quality, less than {', '.join(tiers)} promises"
    return "takes more devices than there are"
