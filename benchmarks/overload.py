"""More work than the cluster can do: `python -m benchmarks.overload [--seconds 20] [--json FILE]`.

A mix of tiers comes at a steady rate, open loop, each request with a deadline; the rate is a multiple of what the
cluster did in a closed loop just before. It rises and then falls again, so that every rate is measured twice and a slow
phase of the machine does not decide alone. Goodput counts answers within their deadline; a refusal costs little.
"""

import argparse
import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.family_here import Question, ask, family, question, routed
from cluster.config import ClusterConfig, Tier
from cluster.router import Router
from model.errors import Code, GemmuleError
from model.family.tasks.generator import evaluation_tasks

MIX = {Tier.ECONOMY: 0.3, Tier.BALANCED: 0.3, Tier.AUTO: 0.25, Tier.PREMIUM: 0.15}
MULTIPLES = (0.5, 1.0, 1.5, 2.0, 3.0)
IN_LOOP = 48


@dataclass(frozen=True, slots=True)
class Row:
    """One rate. Shares are of the requests sent, by tier in the order of `MIX`; lists are of the rise and the fall."""

    multiple: float
    rate_per_s: float
    goodput_per_s: float
    goodputs_per_s: list[float]  # of each time
    in_time_share: dict[str, float]
    refused_share: dict[str, float]
    late_share: dict[str, float]
    brown_out_switches: list[int]
    ended_with: list[list[str]]


@dataclass(slots=True)
class Tally:
    """What became of one tier's requests."""

    sent: int = 0
    in_time: int = 0
    refused: int = 0
    late: int = 0

    def add(self, other: "Tally") -> None:
        """Both together."""
        for name in ("sent", "in_time", "refused", "late"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True)
class Turn:
    """One rate once."""

    tallies: dict[Tier, Tally]
    switches: int
    waived: list[str]

    @property
    def in_time(self) -> int:
        """Of all tiers."""
        return sum(tally.in_time for tally in self.tallies.values())


async def run(
    router: Router, asked: Sequence[Question], rate: float, seconds: float, deadline_s: float
) -> dict[Tier, Tally]:
    """Open loop."""
    rng, tallies = random.Random(7), {tier: Tally() for tier in MIX}

    async def one(number: int, tier: Tier) -> None:
        tally, began_s = tallies[tier], time.perf_counter()
        tally.sent += 1
        try:
            await ask(router, tier, asked[number % len(asked)], number, 48, deadline_s)
        except GemmuleError as error:
            if error.fault.code is Code.OVERLOADED:
                tally.refused += 1
            else:
                tally.late += 1
            return
        if time.perf_counter() - began_s <= deadline_s:
            tally.in_time += 1
        else:
            tally.late += 1

    began_s, tasks = time.perf_counter(), []
    tiers = rng.choices(list(MIX), list(MIX.values()), k=int(rate * seconds))
    for number, tier in enumerate(tiers):
        await asyncio.sleep(max(0.0, began_s + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number, tier)))
    await asyncio.gather(*tasks)
    return tallies


async def capacity(router: Router, asked: Sequence[Question], seconds: float) -> float:
    """Answers per second in a closed loop."""
    rng, done, until_s = random.Random(3), 0, time.perf_counter() + seconds

    async def loop() -> None:
        nonlocal done
        while time.perf_counter() < until_s:
            tier = rng.choices(list(MIX), list(MIX.values()))[0]
            try:
                await ask(router, tier, rng.choice(asked), rng.randrange(1 << 40), 48)
                done += 1
            except GemmuleError:
                await asyncio.sleep(0.1)

    await asyncio.gather(*(loop() for _ in range(IN_LOOP)))
    return done / seconds


async def measure(seconds: float, deadline_s: float, console: Console) -> list[Row]:
    """All rates up and down, a pause between them."""
    turns: dict[float, list[Turn]] = {multiple: [] for multiple in MULTIPLES}
    async with family(ClusterConfig()) as (handles, prompter), routed(ClusterConfig(), handles) as router:
        asked = [question(prompter, task.messages) for task in evaluation_tasks(330, 1)]
        await capacity(router, asked, 5.0)  # warm
        most = await capacity(router, asked, 10.0)
        console.print(f"closed loop: {most:.1f} answers/s")
        for multiple in (*MULTIPLES, *reversed(MULTIPLES)):
            await asyncio.sleep(3.0)
            before = router.brown_out.switches
            tallies = await run(router, asked, most * multiple, seconds, deadline_s)
            waived = sorted(map(str, router.brown_out.waived))
            turns[multiple].append(Turn(tallies, router.brown_out.switches - before, waived))
            console.print(f"{multiple}: {turns[multiple][-1].in_time / seconds:.1f}/s in time, waived {waived}")
    return [_row(multiple, most * multiple, seconds, each) for multiple, each in turns.items()]


def _row(multiple: float, rate: float, seconds: float, turns: Sequence[Turn]) -> Row:
    tallies = {tier: Tally() for tier in MIX}
    for turn in turns:
        for tier, tally in turn.tallies.items():
            tallies[tier].add(tally)

    def shares(name: str) -> dict[str, float]:
        return {str(tier): getattr(tally, name) / max(1, tally.sent) for tier, tally in tallies.items()}

    goodputs = [turn.in_time / seconds for turn in turns]
    return Row(
        multiple, rate, sum(goodputs) / len(goodputs), goodputs, shares("in_time"), shares("refused"), shares("late"),
        [turn.switches for turn in turns], [turn.waived for turn in turns],
    )  # fmt: skip


def table(rows: Sequence[Row]) -> Table:
    """For people."""
    made = Table(box=None, pad_edge=False, padding=(0, 2))
    for head in ("load", "sent/s", "in time/s", *(f"{tier}\nin time refused" for tier in MIX), "switches"):
        made.add_column(head, justify="right")
    for row in rows:
        tiers = (f"{row.in_time_share[tier]:.0%} {row.refused_share[tier]:.0%}" for tier in MIX)
        made.add_row(
            f"{row.multiple}×",
            f"{row.rate_per_s:.1f}",
            f"{row.goodput_per_s:.1f}",
            *tiers,
            " ".join(map(str, row.brown_out_switches)),
        )
    return made


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--deadline", type=float, default=5.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = asyncio.run(measure(args.seconds, args.deadline, Console(stderr=True)))
    Console().print(table(rows))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
