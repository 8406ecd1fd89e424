"""The cheapest plan by trying everything, written without a look at `cluster.planning.search`."""

from itertools import product
from math import ceil

from cluster.planning.problem import Problem


def everything(problem: Problem) -> list[tuple[float, float, float, int]]:
    """Of every plan that there is: dollars an hour, less bits, less quality, devices."""
    found = []
    for served, choices in problem.mixes.items():
        tiers = list(problem.traffic)
        for asked in product(*(choices.get(tier, ()) for tier in tiers)):
            demand = dict.fromkeys(served, 0.0)
            quality = 0.0
            for tier, mix in zip(tiers, asked, strict=True):
                quality += problem.traffic[tier] * mix.quality
                for size in served:
                    demand[size] += problem.per_s * problem.traffic[tier] * mix.shares[size]
            for replicas in product(*(problem.candidates.get(size, ()) for size in served)):
                usd, bits, used = 0.0, 0.0, dict.fromkeys(problem.devices, 0)
                for size, candidate in zip(served, replicas, strict=True):
                    count = max(1, ceil(demand[size] / candidate.per_s - 1e-9))
                    usd += count * candidate.usd_per_hour
                    bits += candidate.bits / len(served)
                    used[candidate.speed.device] += count * candidate.speed.degree
                if all(most is None or used[kind] <= most for kind, most in problem.devices.items()):
                    found.append((round(usd, 6), -bits, -round(quality, 6), sum(used.values())))
    return found
