"""Which size works on a request: pure functions of the request's facts, the cluster's state and the rules."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Final

from cluster.config import Cascade, TierConfig
from cluster.limits import affordable, expected_s, in_time, output_tokens_within
from cluster.routing.choice import Offer, Plan, best, plan, worth
from cluster.rules import Rules
from cluster.snapshot import Decision, Pace, Reason, RouteFacts, Shed, SizeState, Snapshot, Unaffordable
from model.config import Size

_BACKLOG_RETRY_S: Final = 2.0
_START_RETRY_S: Final = 5.0
_NO_ROOM_RETRY_S: Final = 30.0
_LONGEST_RETRY_S: Final = 60.0
_SHARED: Final = 0.5  # of the largest size, while promises are waived; the rest is for those whose promise stands
_IN_TIME: Final = 0.75  # of a deadline, in a queue: who comes later and goes first is not known yet


def choose(facts: RouteFacts, now: Snapshot, rules: Rules) -> Decision | Shed | Unaffordable:
    """The size for a request, or why it is refused now.

    An explicit size is obeyed or refused, and changed only where the request allows it. A tier takes the plan that is
    worth most at its promise's rate of exchange, among what the request's limits leave: a cost limit leaves the
    cheaper sizes, a deadline the larger ones that make it. If the size wanted is under pressure the tier spills to the
    nearest allowed one with room, larger first because that keeps the promise too; if it has no replica the tier falls
    back in the same order. A size that sleeps, or whose replica is being replaced, is waited for: by who asks for it by
    name, and by a tier that nobody else can answer.
    """
    if facts.size is not None:
        return _explicit(facts, facts.size, now, rules)
    if facts.tier is None:
        raise ValueError("a request names a size or a tier")
    tier = rules.tiers[facts.tier]
    states = [state for state in now.sizes if state.size in tier.sizes]
    allowed = {state.size for state in states}
    offers = affordable([offer for offer in facts.offers if offer.size in allowed], facts, rules.unit_usd)
    if not offers:
        return _unaffordable(facts, facts.offers[0], rules)
    wanted = _wanted(facts, tier, offers, now, rules)
    within = [state for state in states if any(offer.size is state.size for offer in offers)]
    if now.waived and wanted.exchange_rate == inf and any(state.num_replicas for state in within[:-1]):
        within = [
            state for state in within if state is not now.sizes[-1] or state.load < _SHARED * rules.routing.spill_load
        ]
    placed = _placed(facts, wanted, within, rules)
    return _accepted(placed, facts, now, rules) if isinstance(placed, Decision) else placed


def first_choice(facts: RouteFacts, now: Snapshot, rules: Rules) -> Size | None:
    """The size a request would get if all were up, free, and no promise waived; None when it can pay for none."""
    if facts.size is not None or facts.tier is None:
        return facts.size
    tier = rules.tiers[facts.tier]
    served = {state.size for state in now.sizes}
    offers = [offer for offer in facts.offers if offer.size in tier.sizes and offer.size in served]
    offers = affordable(offers, facts, rules.unit_usd)
    return _wanted(facts, tier, offers, replace(now, waived=frozenset()), rules).size if offers else None


def exchange_rate(facts: RouteFacts, tier: TierConfig, waived: bool, rules: Rules) -> float:
    """What a chance of a right answer may cost for this request; infinite where nothing is promised."""
    share = tier.quality_share if facts.limits.min_quality is None else facts.limits.min_quality
    if share <= 0 or (waived and facts.limits.min_quality is None):
        return inf
    return rules.rate(facts.tier, share, _cascades(facts, tier, rules))


def _cascades(facts: RouteFacts, tier: TierConfig, rules: Rules) -> bool:
    """Limits leave no room for a second size: what it costs and takes is known too late."""
    bound = facts.limits.max_cost_usd is not None or facts.limits.deadline_s is not None
    may = facts.cascade and tier.cascade is not Cascade.OFF and not bound
    return may and rules.routing.cascade.max_sizes > 1 and bool(rules.judges)


def _wanted(facts: RouteFacts, tier: TierConfig, offers: Sequence[Offer], now: Snapshot, rules: Rules) -> Decision:
    """What the tier would take on an empty cluster."""
    waived = facts.tier in now.waived
    rate = exchange_rate(facts, tier, waived, rules)
    found = _plan(facts, tier, offers, rate, now, rules)
    timely = in_time(offers, found.first, facts, now)
    if timely is not found.first:
        found = Plan(timely, None, found.worth)
    reason = Reason.CHEAPEST
    free = best([offer for offer in facts.offers if offer.size in tier.sizes], rate)
    if waived and facts.limits.min_quality is None:
        reason = Reason.BROWNED_OUT
    elif timely is not free.size and not found.then:
        reason = Reason.LIMITED
    decision = Decision(found.first, facts.tier, reason, "", facts.offers, found.then, rate)
    return replace(decision, detail=_words(decision, facts))


def _plan(
    facts: RouteFacts, tier: TierConfig, offers: Sequence[Offer], rate: float, now: Snapshot, rules: Rules
) -> Plan:
    if rate == inf or not _cascades(facts, tier, rules):
        return plan(offers, rate)

    def has_room(size: Size) -> bool:
        state = now[size]
        return bool(state.num_replicas) and state.load < rules.routing.spill_load

    def foreseen(small: Offer, large: Offer) -> float:
        judge = rules.judges.get(small.size)
        if judge is None or large.size not in judge.rescue or not has_room(large.size):
            return -inf
        return judge.foreseen(small, large, rate)

    if tier.cascade is Cascade.AUTO:
        return plan(offers, rate, foreseen)
    alone, first = plan(offers, rate), offers[0]
    forced = first.size is not alone.first and foreseen(first, next(o for o in offers if o.size is alone.first)) > -inf
    return Plan(first.size, alone.first, alone.worth) if forced else alone


def _placed(facts: RouteFacts, wanted: Decision, states: Sequence[SizeState], rules: Rules) -> Decision | Shed:
    """Where there is room for it."""
    by_size = {state.size: state for state in states}
    target = by_size[wanted.size]
    for state in _nearest(states, target):
        if state.num_replicas == 0:
            continue
        if rules.load(state, facts.tier) >= rules.routing.spill_load:
            continue
        return wanted if state is target else _moved(wanted, target, state)
    return _crowded(facts, wanted, states, rules)


def _nearest(states: Sequence[SizeState], wanted: SizeState) -> list[SizeState]:
    """The wanted size, then larger ones from near to far, then smaller ones from near to far."""
    index = states.index(wanted)
    return [*states[index:], *reversed(states[:index])]


def _moved(wanted: Decision, target: SizeState, to: SizeState) -> Decision:
    if target.num_replicas == 0:
        reason, detail = Reason.FELL_BACK, f"{target.size} has no replica; {to.size} answers meanwhile"
    else:
        reason = Reason.SPILLED
        detail = f"{target.size} is under pressure (load {target.load:.1f}); {to.size} has room"
    return replace(wanted, size=to.size, reason=reason, detail=detail, then=None)


def _explicit(facts: RouteFacts, size: Size, now: Snapshot, rules: Rules) -> Decision | Shed | Unaffordable:
    state = now[size]
    if not affordable([facts.offer(size)], facts, rules.unit_usd):
        return _unaffordable(facts, facts.offer(size), rules)
    asked = Decision(size, None, Reason.EXPLICIT, f"{size} was asked for", facts.offers)
    if facts.allow_fallback:
        offers = affordable(facts.offers, facts, rules.unit_usd)
        placed = _placed(facts, asked, [now[offer.size] for offer in offers], rules)
    elif state.num_replicas == 0 and state.no_room:
        placed = Shed(f"{size} sleeps and gets no replica now: {state.no_room}", _NO_ROOM_RETRY_S, starting=False)
    elif state.num_replicas == 0 and not (state.wakes or state.returns):
        placed = Shed(f"{size} is not ready yet", _START_RETRY_S, starting=True)
    elif state.slots and rules.load(state, None) >= rules.routing.max_load:
        placed = Shed(f"{size} is full ({state.ongoing} requests under way)", _BACKLOG_RETRY_S, starting=False)
    else:
        placed = asked
    return _accepted(placed, facts, now, rules) if isinstance(placed, Decision) else placed


def _crowded(facts: RouteFacts, wanted: Decision, states: Sequence[SizeState], rules: Rules) -> Decision | Shed:
    """Everything allowed is under pressure: queue at the least loaded size below the hard limit, else refuse."""
    whose = facts.tier or "the request"
    up = [state for state in states if state.num_replicas] or [state for state in states if state.returns]
    if not up:
        if (woken := _woken(wanted, states, facts, rules)) is not None:
            return woken
        return Shed(f"no size of {whose} is ready yet", _START_RETRY_S, starting=True)
    least = min(up, key=lambda state: rules.load(state, facts.tier))
    if rules.load(least, facts.tier) >= rules.max_load(facts.tier):
        if (woken := _woken(wanted, states, facts, rules)) is not None:
            return woken
        return Shed(f"every size of {whose} is full", _BACKLOG_RETRY_S, starting=False)
    if least.returns:
        if least.size is wanted.size:
            return replace(wanted, detail=f"{least.size} is being replaced; the request waits for it", then=None)
        detail = f"no other size has a replica; the request waits for {least.size}, which is being replaced"
        return replace(wanted, size=least.size, reason=Reason.FELL_BACK, detail=detail, then=None)
    detail = f"every size is under pressure; {least.size} has the shortest queue"
    if least.size is wanted.size:
        return replace(wanted, detail=f"{detail} and is the one wanted", then=None)
    return replace(wanted, size=least.size, reason=Reason.SPILLED, detail=detail, then=None)


def _woken(wanted: Decision, states: Sequence[SizeState], facts: RouteFacts, rules: Rules) -> Decision | None:
    """On the nearest size that sleeps and is woken by being wanted; the request waits for it, unless too many do."""
    by_size = {state.size: state for state in states}
    asleep = next(
        (
            state
            for state in _nearest(states, by_size[wanted.size])
            if not state.num_replicas and state.wakes and not state.no_room
            if not state.slots or rules.load(state, facts.tier) < rules.max_load(facts.tier)
        ),
        None,
    )
    if asleep is None:
        return None
    if asleep.size is wanted.size:
        return replace(wanted, detail=f"{wanted.size} sleeps; the request waits until it is up", then=None)
    detail = f"no size has room; the request waits until {asleep.size} is up"
    return replace(wanted, size=asleep.size, reason=Reason.FELL_BACK, detail=detail, then=None)


def _accepted(decision: Decision, facts: RouteFacts, now: Snapshot, rules: Rules) -> Decision | Shed:
    """Refused if it stands in a queue and would surely be late: an answer that comes too late costs and serves nobody.

    A cost limit also limits the answer, so that it holds whatever was predicted.
    """
    state, load = now[decision.size], rules.load(now[decision.size], facts.tier)
    took_s = expected_s(decision.offer(decision.size), facts, now, load / state.load if state.load else 1.0)
    if facts.timeout_s is not None and took_s is not None and load >= rules.routing.spill_load:
        likely_s = took_s * _strays(state.pace, dearest=rules.standing(facts.tier) == 1.0)
        over_s = likely_s - _IN_TIME * facts.timeout_s
        if over_s > 0:
            late = (
                f"{decision.size} would take about {likely_s:.1f} s, too long for the {facts.timeout_s:.1f} s allowed"
            )
            return Shed(late, min(max(1.0, over_s), _LONGEST_RETRY_S), starting=False)
    most = output_tokens_within(facts, state.usd_per_mtoken)
    return decision if most is None or most >= facts.max_tokens else replace(decision, max_output_tokens=most)


def _strays(pace: Pace | None, dearest: bool) -> float:
    """How much longer than expected an answer takes in a queue: half of them, or where dearer ones step in, most."""
    known = None if pace is None else pace.p50 if dearest else pace.p90
    return max(1.0, known or 1.0)


def _unaffordable(facts: RouteFacts, cheapest: Offer, rules: Rules) -> Unaffordable:
    needs = cheapest.cost * rules.unit_usd
    limit = facts.limits.max_cost_usd or 0.0
    return Unaffordable(
        f"max_cost: {limit:.3g} USD is too little for an answer, {cheapest.size} is expected to cost {needs:.3g}; "
        "raise it, or shorten the request"
    )


def _words(decision: Decision, facts: RouteFacts) -> str:
    """The reason for a person to read."""
    offers = ", ".join(f"{o.size} {o.quality:.2f} at {o.cost:.2f}" for o in decision.offers)
    chances = f"chance of a right answer and cost: {offers}"
    size, whose = decision.size, facts.tier
    if decision.reason is Reason.BROWNED_OUT:
        return f"{whose}'s promise is waived while there is too much to do: {size} is the cheapest; {chances}"
    if decision.reason is Reason.LIMITED:
        return f"{size} is what the request's limits leave; {chances}"
    if decision.then is not None:
        return f"{size} answers first, {decision.then} takes over if that looks weak; {chances}"
    if decision.exchange_rate == inf:
        return f"{size} is the cheapest, and {whose} promises no quality; {chances}"
    gain = max((worth(o, decision.exchange_rate) for o in decision.offers if o.size is not size), default=0.0)
    lead = worth(decision.offer(size), decision.exchange_rate) - gain
    return f"{size} is worth most at {whose}'s promise, by {lead:.2f}; {chances}"
