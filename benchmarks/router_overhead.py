"""What routing adds to a request: `python -m benchmarks.router_overhead [--rate 50] [--seconds 20] [--json FILE]`.

One stream of arrivals at a steady rate; each request goes by turns through the router (forecast, decision, trail) or
straight to the handle of the size that the router would take. Both ask for one token of a short prompt, so what differs
is the router. The time is that to the first event. Also the decision alone, for a text seen before.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.family_here import Handles, Question, family, question, routed
from cluster.config import ClusterConfig, Tier
from cluster.policy import choose
from cluster.router import Router
from cluster.snapshot import RouteFacts
from cluster.trail import Trail
from model.config import Size
from model.events import TokenEvent
from model.request import GenerationRequest, RequestId, SamplingParams

WARM = 40
DECISIONS = 2000


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds to the first token, and of a decision."""

    rate_per_s: float
    requests: int
    straight_p50_s: float
    straight_p99_s: float
    routed_p50_s: float
    routed_p99_s: float
    decision_p50_s: float
    decision_p99_s: float

    @property
    def added_p50_s(self) -> float:
        """By the router."""
        return self.routed_p50_s - self.straight_p50_s

    @property
    def added_p99_s(self) -> float:
        """By the router."""
        return self.routed_p99_s - self.straight_p99_s


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def facts_of(router: Router, asked: Question) -> RouteFacts:
    """As an ingress makes them."""
    offers = router.offers(asked.text, 1)
    return RouteFacts(None, Tier.ECONOMY, offers, len(asked.token_ids), 1, stream=True, timeout_s=30.0)


async def measure(rate: float, seconds: float) -> Result:
    """Both ways, by turns."""
    async with family(ClusterConfig()) as (handles, prompter), routed(ClusterConfig(), handles) as router:
        texts = ["What is the capital of France?", "What day is two days after Monday?", "Spell the word tree."]
        asked = [question(prompter, [{"role": "user", "content": text}]) for text in texts]
        took: dict[bool, list[float]] = {False: [], True: []}

        async def one(number: int) -> None:
            each, through = asked[number % len(asked)], bool(number % 2)
            spent_s = await (_routed if through else _straight)(router, handles, each, number)
            if number >= WARM:
                took[through].append(spent_s)

        began_s, tasks = time.perf_counter(), []
        for number in range(int(rate * seconds) + WARM):
            await asyncio.sleep(max(0.0, began_s + number / rate - time.perf_counter()))
            tasks.append(asyncio.create_task(one(number)))
        await asyncio.gather(*tasks)
        decisions = _decisions(router, asked)
    straight, through = took[False], took[True]
    return Result(
        rate, len(straight) + len(through), statistics.median(straight), percentile(straight, 0.99),
        statistics.median(through), percentile(through, 0.99),
        statistics.median(decisions), percentile(decisions, 0.99),
    )  # fmt: skip


def _request(asked: Question, number: int) -> GenerationRequest:
    return GenerationRequest(RequestId(f"r{number}"), asked.token_ids, SamplingParams(1, temperature=0.0), 30.0)


async def _routed(router: Router, _handles: Handles, asked: Question, number: int) -> float:
    began_s = time.perf_counter()
    first_s = 0.0
    stream = router.route(facts_of(router, asked), _request(asked, number), Trail())
    async for item in stream:
        if isinstance(item, TokenEvent) and not first_s:
            first_s = time.perf_counter() - began_s
    return first_s or time.perf_counter() - began_s


async def _straight(_router: Router, handles: Handles, asked: Question, number: int) -> float:
    began_s = time.perf_counter()
    first_s = 0.0
    async for item in handles[Size.B2].options(stream=True).generate.remote(_request(asked, number)):
        if isinstance(item, TokenEvent) and not first_s:
            first_s = time.perf_counter() - began_s
    return first_s or time.perf_counter() - began_s


def _decisions(router: Router, asked: Sequence[Question]) -> list[float]:
    """The forecast of a text seen before, a snapshot, the choice."""
    took = []
    for number in range(DECISIONS):
        began_s = time.perf_counter()
        offers = router.offers(asked[number % len(asked)].text, 64)
        facts = RouteFacts(None, Tier.AUTO, offers, 20, 64, stream=True, timeout_s=30.0)
        choose(facts, router.snapshot(), router.rules)
        took.append(time.perf_counter() - began_s)
    return took


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = asyncio.run(measure(args.rate, args.seconds))
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for head in ("first token, ms", "p50", "p99"):
        table.add_column(head, justify="right")
    for name, low, high in (
        ("straight to the replica", found.straight_p50_s, found.straight_p99_s),
        ("through the router", found.routed_p50_s, found.routed_p99_s),
        ("added", found.added_p50_s, found.added_p99_s),
        ("a decision, cached text", found.decision_p50_s, found.decision_p99_s),
    ):
        table.add_row(name, f"{low * 1e3:.3f}", f"{high * 1e3:.3f}")
    Console().print(table)
    if args.json:
        args.json.write_text(json.dumps(asdict(found), indent=1) + "\n")


if __name__ == "__main__":
    main()
