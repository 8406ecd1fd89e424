"""How often an answer keeps its quote. `gemmule serve`, then `python benchmarks/quoting.py`; some minutes on two cores.

Every task is quoted first and asked right after it. Tasks the sizes have not seen, greedy, by turns for each size and
for tiers. A quote does not count the way to the service and back. So time is given twice: as the client saw it, and
less what the quote itself took, which goes the same way and runs nothing.
"""

import argparse
import statistics
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from random import Random
from typing import Any

from model.family.tasks.generator import evaluation_tasks
from model.family.tasks.task import Task
from serving.cli.remote import DEFAULT_URL, Remote


@dataclass(frozen=True, slots=True)
class Kept:
    """One answer beside its quote."""

    model: str
    same_size: bool
    escalated: bool
    measured: bool  # the quote had times
    took_s: float
    way_s: float  # what the quote took
    p50_s: float
    p90_s: float
    within_cost: bool


def one(remote: Remote, model: str, task: Task, max_tokens: int) -> Kept:
    """Quote, ask, compare."""
    body = {"model": model, "messages": list(task.messages), "temperature": 0, "max_tokens": max_tokens}
    began_s = time.monotonic()
    quote = remote.post("/v1/quote", body)
    way_s = time.monotonic() - began_s
    size = next(each for each in quote["sizes"] if each["size"] == quote["chosen"])
    began_s = time.monotonic()
    answer = remote.post("/v1/chat/completions", body)
    took_s = time.monotonic() - began_s
    p50, p90 = size["time_p50_s"], size["time_p90_s"]
    route: dict[str, Any] = answer["gemmule"]
    escalated = route["reason"] == "escalated"
    return Kept(
        model=model,
        same_size=route["size"] == quote["chosen"],
        escalated=escalated,
        measured=p90 is not None,
        took_s=took_s,
        way_s=way_s,
        p50_s=p50 or 0.0,
        p90_s=p90 or 0.0,
        within_cost=route["cost_usd"] <= size["max_cost_usd"],
    )


def asked(remote: Remote, models: Sequence[str], tasks: Sequence[Task], max_tokens: int, at_once: int) -> list[Kept]:
    """One task after the other, or several side by side."""
    with ThreadPoolExecutor(at_once) as pool:
        pairs = zip(cycle(models), tasks, strict=False)
        return list(pool.map(lambda pair: one(remote, *pair, max_tokens), pairs))


def line(name: str, rows: Iterable[Kept]) -> str:
    """Shares of answers within their quote, escalated ones too, and what else a quote says."""
    every = list(rows)
    timed = [row for row in every if row.measured]
    if not timed:
        return f"{name:8} no quote had a time"

    def kept(p50_s: float, p90_s: float) -> str:
        return f"{p50_s / len(timed):.1%} and {p90_s / len(timed):.1%}"

    net = kept(
        sum(row.took_s - row.way_s <= row.p50_s for row in timed),
        sum(row.took_s - row.way_s <= row.p90_s for row in timed),
    )
    raw = kept(sum(row.took_s <= row.p50_s for row in timed), sum(row.took_s <= row.p90_s for row in timed))
    way_s, took_s = (statistics.median(part) for part in zip(*((r.way_s, r.took_s) for r in timed), strict=True))
    others = [row for row in every if not row.escalated]
    same, cost = sum(row.same_size for row in others), sum(row.within_cost for row in others)
    return (
        f"{name:8} N={len(timed):4} within p50 and p90: {net}, with the way {raw}; median {took_s * 1e3:.0f} ms, way "
        f"{way_s * 1e3:.0f} ms; escalated {len(every) - len(others)}, of the others "
        f"{len(others)} size as quoted {same}, at most max_cost_usd {cost}"
    )


def main() -> None:
    """Learn on some answers, measure on others."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--url", default=DEFAULT_URL)
    options.add_argument("--models", default="2b,9b,27b,economy,auto,premium")
    options.add_argument("-n", type=int, default=200)
    options.add_argument("--learn", type=int, default=120)
    options.add_argument("--at-once", type=int, default=1)
    options.add_argument("--max-tokens", type=int, default=96)
    options.add_argument("--seed", type=int, default=7)
    given = options.parse_args()
    remote = Remote(given.url, limit=given.at_once)
    tasks = evaluation_tasks(given.learn + given.n, given.seed)
    Random(given.seed).shuffle(tasks)  # they come by kind and level in turns, as the models do
    models = given.models.split(",")
    asked(remote, ["2b", "9b", "27b"], tasks[: given.learn], given.max_tokens, given.at_once)
    rows = asked(remote, models, tasks[given.learn :], given.max_tokens, given.at_once)
    for model in models:
        print(line(model, (row for row in rows if row.model == model)))
    print(line("all", rows))


if __name__ == "__main__":
    main()
