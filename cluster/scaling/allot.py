"""Which size gets the next device of the budget. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from cluster.scaling.demand import Demand
from cluster.scaling.rules import ScalingRules
from cluster.scaling.worth import Worth
from model.config import Size

_STAY: Final = 1.25  # what a replica that is there counts beside one that is not: noise shall not move devices about
_DIGITS: Final = 9


def allotted(
    demands: Sequence[Demand], needs: Mapping[Size, int], held: Mapping[Size, int], devices: float, rules: ScalingRules
) -> dict[Size, int]:
    """Replicas of each size: what all need if that fits the budget, else minima and one by one where it buys most.

    Each further replica goes where it adds the most worth of answers and kept promises per device, among equals where
    it saves the most money per device.
    """
    takes = {demand.load.size: demand.load.devices for demand in demands}
    if sum(needs[size] * takes[size] for size in takes) <= devices + 1e-9:
        return dict(needs)
    num = {demand.load.size: min(demand.load.min_replicas, needs[demand.load.size]) for demand in demands}
    left = devices - sum(num[size] * takes[size] for size in takes)
    worth = Worth(demands, rules)
    while True:
        able = [size for size in takes if num[size] < needs[size] and takes[size] <= left + 1e-9]
        if not able:
            return num
        best = max(able, key=lambda size: _gain(worth, num, size, takes[size], held))
        num[best] += 1
        left -= takes[best]


def _gain(
    worth: Worth, num: dict[Size, int], size: Size, devices: float, held: Mapping[Size, int]
) -> tuple[float, float]:
    """Of one more replica, per device."""
    more = num | {size: num[size] + 1}
    stays = _STAY if num[size] < held.get(size, 0) else 1.0
    promises = (worth.promises(more) - worth.promises(num)) * stays / devices
    return round(promises, _DIGITS), round((worth.usd(more) - worth.usd(num)) * stays / devices, _DIGITS)
