"""Turns a trace into requests that a policy can choose for: which tier, how hard, how long an answer may take.

A trace says when and how long; nothing of texts or tiers. What the policy foresees of a request (chances of a right
answer, cost) is drawn from the prompts that a routing profile was fitted on, each as a fit without it said. How long
the answer really is comes from the trace. Whether an answer is right is drawn by the chance, one draw for all sizes: a
prompt that a small size gets right is seldom one that defeats a larger one.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from cluster.config import ClusterConfig, Tier
from cluster.forecast import Forecast, profile_of
from cluster.promise_watch import PromiseWatch
from cluster.routing.choice import Offer
from cluster.routing.profile import Profile
from cluster.rules import Rules, rules_of
from cluster.simulation.ask import Ask
from cluster.snapshot import RouteFacts
from cluster.trace import TraceRequest
from model.chance import uniform
from model.config import Size

Target = Tier | Size
MIX: Mapping[Target, float] = {Tier.ECONOMY: 0.3, Tier.BALANCED: 0.3, Tier.AUTO: 0.25, Tier.PREMIUM: 0.15}
"""Shares of the requests, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """What the policy foresees of a text: chance of a right answer and cost, by size."""

    quality: Mapping[Size, float]
    cost: Mapping[Size, float]


def rules_for(config: ClusterConfig) -> tuple[Rules, Profile]:
    """As a router has them at its start. Raises `ProfileError`."""
    profile = profile_of(config)
    forecast = Forecast(profile, {size: each.usd_per_mtoken for size, each in config.sizes.items()})
    watch = PromiseWatch({tier: each.quality_share for tier, each in config.tiers.items()})
    return rules_of(config, profile, forecast, watch), profile


def prospects_of(profile: Profile) -> tuple[Prospect, ...]:
    """The profile's prompts.

    Where it has none, its predictions by rank, since what is hard is hard for all sizes, at costs in the ratio of
    parameters.
    """
    if profile.unseen is not None:
        width = len(profile.sizes)
        chances = profile.unseen.chances.astype(float).reshape(-1, width).tolist()
        costs = profile.unseen.costs.astype(float).reshape(-1, width).tolist()
        return tuple(
            Prospect(dict(zip(profile.sizes, chance, strict=True)), dict(zip(profile.sizes, cost, strict=True)))
            for chance, cost in zip(chances, costs, strict=True)
        )
    bins = {size: [each for each in profile.calibration[size] for _ in range(each.prompts)] for size in profile.sizes}
    count = min(map(len, bins.values()))
    ratio = {size: profile.parameters_e9[size] / profile.parameters_e9[profile.largest] for size in profile.sizes}
    return tuple(
        Prospect({size: each[place * len(each) // count].predicted for size, each in bins.items()}, ratio)
        for place in range(count)
    )


class Asking:
    """Equal seeds, equal requests; each depends on its number alone."""

    def __init__(
        self,
        prospects: Sequence[Prospect],
        sizes: Iterable[Size],
        mix: Mapping[Target, float] = MIX,
        timeout_s: float | None = 60.0,
        seed: int = 0,
    ) -> None:
        """`sizes` that are served; `timeout_s` after which an answer is of no use, None for never."""
        self._prospects = prospects
        self._sizes = sorted(sizes, key=list(Size).index)
        self._targets = list(mix)
        self._until = list(accumulate(share / sum(mix.values()) for share in mix.values()))
        self._timeout_s, self._seed = timeout_s, seed

    def __call__(self, requests: Iterable[TraceRequest]) -> Iterator[Ask]:
        """One at a time, so that a day of them need not be held."""
        for number, request in enumerate(requests):
            yield self._ask(number, request)

    def _ask(self, number: int, request: TraceRequest) -> Ask:
        draws = [uniform(self._seed, 3 * number + place) for place in range(3)]
        target = self._targets[min(bisect_right(self._until, draws[0]), len(self._targets) - 1)]
        prospect = self._prospects[int(draws[1] * len(self._prospects))]
        output = float(request.output_tokens)
        offers = tuple(Offer(size, prospect.quality[size], prospect.cost[size], output) for size in self._sizes)
        facts = RouteFacts(
            size=target if isinstance(target, Size) else None,
            tier=target if isinstance(target, Tier) else None,
            offers=offers,
            prompt_tokens=request.prompt_tokens,
            max_tokens=request.output_tokens,
            cascade=False,
            timeout_s=self._timeout_s,
        )
        right = frozenset(size for size in self._sizes if draws[2] < prospect.quality[size])
        lengths = dict.fromkeys(self._sizes, request.output_tokens)
        return Ask(number, request.at_s, facts, lengths, right, request.blocks, request.block_tokens)
