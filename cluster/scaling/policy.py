"""How many replicas each size shall have, at what pace, and why: one step of a pure function.

Demand says what each size needs, the budget what it may have, and the pace keeps noise from moving replicas: a wish for
more has to stand for a while, a wish for fewer for longer, and after a step down that had to be undone twice as long.
"""

from collections.abc import Mapping
from typing import Final

from cluster.scaling.allot import allotted
from cluster.scaling.demand import Demand, demands, needed, slots_that_fit
from cluster.scaling.facts import Load, Memory, SizeLoad, Target
from cluster.scaling.rules import ScalingRules
from model.config import Size

_LONGEST_CALM: Final = 16  # times the configured delay


def step(load: Load, memory: Memory, rules: ScalingRules) -> tuple[tuple[Target, ...], Memory]:
    """What every size shall have now, cheapest first; never more devices than the budget, whatever starts or drains.

    A size without a replica gets its first without delay. A device that another size waits for is given up without
    delay, one that nobody waits for only after calm. The memory belongs to the next step.
    """
    held = {size.size: memory.targets.get(size.size, size.running + size.starting) for size in load.sizes}
    asked = demands(load, rules)
    needs = {each.load.size: needed(each, held[each.load.size], load.now_s, rules) for each in asked}
    shares = allotted(asked, needs, held, load.budget_devices, rules)
    pace = _Pace(load, memory, held, shares, rules)
    targets = pace.targets()
    told = tuple(
        Target(
            size, targets[size], needs[size], _words(each, held[size], needs[size], shares[size], targets[size], rules)
        )
        for each in asked
        for size in [each.load.size]
    )
    return told, pace.remembered(targets)


class _Pace:
    """One step's way from what is to what is wished for."""

    def __init__(
        self, load: Load, memory: Memory, held: Mapping[Size, int], shares: Mapping[Size, int], rules: ScalingRules
    ) -> None:
        self._load, self._memory, self._held, self._rules, self._share = load, memory, held, rules, shares
        self._wish = {size: self._steadied(size, shares[size]) for size in held}
        self._since_s = {size: self._stands_since(size) for size in held}

    def targets(self) -> dict[Size, int]:
        """Within the budget."""
        now = {size: self._clipped(size) for size in self._held}
        for size in self._held:
            if self._wish[size] < now[size] and self._is_calm(size):
                now[size] = self._wish[size]
        if self._devices(now) > self._load.budget_devices + 1e-9:  # it was cut, or a minimum raised
            now = {size: min(now[size], self._share[size]) for size in now}
        rising = [size for size in now if self._wish[size] > now[size] and self._due(size)]
        self._make_room(now, rising)
        for size in rising:
            while now[size] < self._wish[size] and self._fits(now, size):
                now[size] += 1
        return now

    def remembered(self, targets: Mapping[Size, int]) -> Memory:
        """For the next step; a wish that was granted is none any more."""
        memory, now_s = self._memory, self._load.now_s
        open_ = [size for size in targets if self._wish[size] != targets[size]]
        lowered = [size for size in targets if targets[size] < self._held[size]]
        raised = [size for size in targets if targets[size] > self._held[size]]
        calm = dict(memory.calm_s)
        for size in raised:
            calm_s = self._calm_s(size)
            soon = now_s - memory.lowered_s.get(size, float("-inf")) < 2 * calm_s
            first_s = self._rules.downscale_delay_s[size]
            calm[size] = min(_LONGEST_CALM * first_s, 2 * calm_s) if soon else first_s
        return Memory(
            targets=dict(targets),
            wish={size: self._wish[size] for size in open_},
            since_s={size: self._since_s[size] for size in open_},
            calm_s=calm,
            lowered_s=dict(memory.lowered_s) | dict.fromkeys(lowered, now_s),
        )

    def _steadied(self, size: Size, wish: int) -> int:
        """Of several wishes for fewer in a row the highest counts."""
        before, held = self._memory.wish.get(size), self._held[size]
        return max(wish, before) if before is not None and before < held and wish < held else wish

    def _stands_since(self, size: Size) -> float:
        before, held, wish = self._memory.wish.get(size), self._held[size], self._wish[size]
        same = before is not None and (before - held) * (wish - held) > 0
        return self._memory.since_s[size] if same else self._load.now_s

    def _stood(self, size: Size, seconds: float) -> bool:
        return self._load.now_s - self._since_s[size] >= seconds

    def _due(self, size: Size) -> bool:
        return self._held[size] == 0 or self._stood(size, self._rules.upscale_delay_s[size])

    def _is_calm(self, size: Size) -> bool:
        """Not while a replica starts: most of its price is paid. Who is to sleep was calm for long enough."""
        return not self._load[size].starting and self._stood(size, self._calm_s(size) if self._wish[size] else 0.0)

    def _calm_s(self, size: Size) -> float:
        return self._memory.calm_s.get(size, self._rules.downscale_delay_s[size])

    def _clipped(self, size: Size) -> int:
        of = self._load[size]
        return min(of.max_replicas, max(of.min_replicas, self._held[size]))

    def _make_room(self, now: dict[Size, int], rising: list[Size]) -> None:
        """Sizes that are to have fewer give up as many devices as the rising ones lack."""
        lacking = sum((self._wish[size] - now[size]) * self._load[size].devices for size in rising)
        lacking -= self._load.budget_devices - self._devices(now)
        for size in now:
            while lacking > 1e-9 and now[size] > self._share[size] and size not in rising:
                now[size] -= 1
                lacking -= self._load[size].devices

    def _fits(self, now: Mapping[Size, int], size: Size) -> bool:
        more = {**now, size: now[size] + 1}
        return self._taken(more) <= self._load.budget_devices + 1e-9

    def _devices(self, num: Mapping[Size, int]) -> float:
        return sum(num[size] * self._load[size].devices for size in num)

    def _taken(self, num: Mapping[Size, int]) -> float:
        """Devices, with those that replicas to be ended or draining still have."""
        return sum(held_by(self._load[size], num[size]) for size in num)


def held_by(size: SizeLoad, target: int) -> float:
    """Devices that a size takes with this target until what is more than that has gone."""
    return (max(target, size.running + size.starting) + size.draining) * size.devices


def _words(each: Demand, held: int, need: int, share: int, target: int, rules: ScalingRules) -> str:
    """The reason for a person to read."""
    seen = _seen(each, rules)
    if share < need:
        return f"{seen}; {need} needed, other sizes keep more promises with the devices of the budget"
    if target < share:
        return f"{seen}; {share} wanted, soon"
    if target > share:
        return f"{seen}; {share} would do, once that has stood for a while"
    moved = "" if target == held else f" instead of {held}"
    return f"{seen}; {target}{moved}"


def _seen(each: Demand, rules: ScalingRules) -> str:
    size = each.load
    asks = sum(size.wanted_per_s.values())
    if not asks and not size.queued:
        return f"nobody asks for {size.size} now"
    grows = f", {size.trend_per_s2 * 60:+.2f}/s a minute" if size.trend_per_s2 > 0 else ""
    queue = f", {size.queued:.0f} waiting" if size.queued else ""
    room = f"{rules.target_load:.0%} of {slots_that_fit(size):.0f} slots"
    return (
        f"{asks:.2f} requests/s{grows}{queue}, each holds a slot for {each.busy_s:.2f} s: {each.replicas:.2f} replicas "
        f"at {room}"
    )
