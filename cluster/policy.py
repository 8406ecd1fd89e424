"""Which size works on a request: pure functions of the request's facts, the cluster's state and the configuration."""

from collections.abc import Mapping, Sequence
from typing import Final

from cluster.config import ClusterConfig, ExpectedQuality, Tier
from cluster.snapshot import Decision, Reason, RouteFacts, Shed, SizeState, Snapshot
from model.config import Size

_BACKLOG_RETRY_S: Final = 2.0
_START_RETRY_S: Final = 5.0


def expected(quality: ExpectedQuality, difficulty: float) -> float:
    """Expected share of right answers at a difficulty in [0, 1]; linear between the configured ends."""
    return quality.easy + (quality.hard - quality.easy) * difficulty


def choose(facts: RouteFacts, now: Snapshot, config: ClusterConfig) -> Decision | Shed:
    """The size for a request, or why it is refused now.

    An explicit size is obeyed or refused, never changed. A tier takes the cheapest size whose expected quality keeps
    its promise; if that size is under pressure the tier spills to the nearest allowed size with room, larger first
    because a larger size keeps the promise too; if it has no replica the tier falls back in the same order.
    """
    quality = {state.size: expected(config.sizes[state.size].quality, facts.difficulty) for state in now.sizes}
    if facts.size is not None:
        return _explicit(facts.size, now, config, quality)
    if facts.tier is None:
        raise ValueError("a request names a size or a tier")
    tier = config.tiers[facts.tier]
    allowed = sorted((state for state in now.sizes if state.size in tier.sizes), key=lambda s: s.usd_per_mtoken)
    floor = tier.quality_share * max(quality.values())
    wanted, reason, detail = _wanted(allowed, quality, floor, facts.tier)
    for state in _nearest(allowed, wanted):
        if state.num_replicas == 0 and not state.wakes:
            continue
        if state.load >= config.routing.spill_load and state.num_replicas:
            continue
        if state is not wanted:
            reason, detail = _moved(wanted, state)
        return Decision(state.size, facts.tier, reason, detail, quality)
    return _crowded(allowed, wanted, facts, config, quality)


def _wanted(
    allowed: Sequence[SizeState], quality: Mapping[Size, float], floor: float, tier: Tier
) -> tuple[SizeState, Reason, str]:
    """The size the tier would take on an empty cluster."""
    # A hair of tolerance, so that a share of exactly 1.0 is met by the best size despite rounding.
    good = [state for state in allowed if quality[state.size] >= floor - 1e-9]
    if good:
        state = good[0]
        return (
            state,
            Reason.CHEAPEST,
            (
                f"{state.size} is the cheapest size that keeps {tier}'s promise "
                f"(expected {quality[state.size]:.2f}, needed {floor:.2f})"
            ),
        )
    state = max(allowed, key=lambda s: quality[s.size])
    return state, Reason.BEST, f"no size of {tier} is expected to reach {floor:.2f}; {state.size} comes nearest"


def _nearest(allowed: Sequence[SizeState], wanted: SizeState) -> list[SizeState]:
    """The wanted size, then larger ones from near to far, then smaller ones from near to far."""
    index = allowed.index(wanted)
    return [*allowed[index:], *reversed(allowed[:index])]


def _moved(wanted: SizeState, to: SizeState) -> tuple[Reason, str]:
    if wanted.num_replicas == 0:
        return Reason.FELL_BACK, f"{wanted.size} has no replica; {to.size} answers meanwhile"
    return Reason.SPILLED, f"{wanted.size} is under pressure (load {wanted.load:.1f}); {to.size} has room"


def _explicit(size: Size, now: Snapshot, config: ClusterConfig, quality: Mapping[Size, float]) -> Decision | Shed:
    state = now[size]
    if state.num_replicas == 0 and not state.wakes:
        return Shed(f"{size} is not ready yet", _START_RETRY_S, starting=True)
    if state.num_replicas and state.load >= config.routing.max_load:
        return Shed(f"{size} is full ({state.ongoing} requests under way)", _BACKLOG_RETRY_S, starting=False)
    return Decision(size, None, Reason.EXPLICIT, f"{size} was asked for", quality)


def _crowded(
    allowed: Sequence[SizeState],
    wanted: SizeState,
    facts: RouteFacts,
    config: ClusterConfig,
    quality: Mapping[Size, float],
) -> Decision | Shed:
    """Everything allowed is under pressure: queue at the least loaded size below the hard limit, else refuse."""
    up = [state for state in allowed if state.num_replicas]
    if not up:
        return Shed(f"no size of {facts.tier} is ready yet", _START_RETRY_S, starting=True)
    best = min(up, key=lambda state: state.load)
    if best.load >= config.routing.max_load:
        return Shed(f"every size of {facts.tier} is full", _BACKLOG_RETRY_S, starting=False)
    if best is wanted:
        detail = f"every size is under pressure; {best.size} has the shortest queue and is the one wanted"
        return Decision(best.size, facts.tier, Reason.CHEAPEST, detail, quality)
    detail = f"every size is under pressure; {best.size} has the shortest queue"
    return Decision(best.size, facts.tier, Reason.SPILLED, detail, quality)
