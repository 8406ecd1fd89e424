"""What routing saves on the embedded family, live: `python -m benchmarks.cascade [--tasks 330] [--json FILE]`.

Every arm answers the same unseen graded tasks, greedy, through a router on a real Ray: each size alone, `auto` without
cascades, with cascades whose larger size starts anew, and with the smaller answer as a draft; then the same with a
cascade forced wherever `auto` would take a larger size. Costs are those of all sizes together, as charged.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.family_here import Handles, Question, ask, family, question, routed
from cluster.config import Cascade, CascadeConfig, ClusterConfig, Tier
from cluster.trail import Role, Trail
from model.config import Size
from model.family.tasks.generator import evaluation_tasks
from model.family.tasks.grade import grade
from model.family.tasks.task import Task

AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to answer."""

    name: str
    target: Size | Tier
    config: ClusterConfig


@dataclass(frozen=True, slots=True)
class Row:
    """One arm on all tasks; `cost_share` of always-27b, `escalated_usd` of those requests that escalated."""

    name: str
    score: float
    usd: float
    cost_share: float
    quality_share: float
    escalated: int
    escalated_usd: float
    drafted_tokens: int
    accepted_tokens: int
    rejected_tokens: int
    wall_s: float


def variant(cascade: Cascade, drafts: bool) -> ClusterConfig:
    """The default cluster with another cascade."""
    plain = ClusterConfig()
    tiers = {name: tier.model_copy(update={"cascade": cascade}) for name, tier in plain.tiers.items()}
    routing = plain.routing.model_copy(update={"cascade": CascadeConfig(drafts=drafts)})
    return plain.model_copy(update={"tiers": tiers, "routing": routing})


ARMS = (
    *(Arm(f"always {size}", size, ClusterConfig()) for size in (Size.B27, Size.B9, Size.B2)),
    Arm("auto, no cascade", Tier.AUTO, variant(Cascade.OFF, drafts=True)),
    Arm("auto, started anew", Tier.AUTO, variant(Cascade.AUTO, drafts=False)),
    Arm("auto, with drafts", Tier.AUTO, variant(Cascade.AUTO, drafts=True)),
    Arm("forced, started anew", Tier.AUTO, variant(Cascade.ON, drafts=False)),
    Arm("forced, with drafts", Tier.AUTO, variant(Cascade.ON, drafts=True)),
)


async def answers(arm: Arm, handles: Handles, asked: Sequence[Question], progress: Progress) -> list[tuple[str, Trail]]:
    """All answers of one arm, some at once."""
    gate, bar = asyncio.Semaphore(AT_ONCE), progress.add_task(arm.name, total=len(asked))
    async with routed(arm.config, handles) as router:

        async def one(number: int, each: Question) -> tuple[str, Trail]:
            async with gate:
                found = await ask(router, arm.target, each, number)
            progress.advance(bar)
            return found

        return await asyncio.gather(*(one(number, each) for number, each in enumerate(asked)))


def row(arm: Arm, tasks: Sequence[Task], found: Sequence[tuple[str, Trail]], first: Row | None, wall_s: float) -> Row:
    """Graded and added up; `first` is always-27b."""
    score = sum(grade(task, text) for task, (text, _) in zip(tasks, found, strict=True)) / len(tasks)
    usd = sum(trail.usd for _, trail in found)
    escalated = [trail for _, trail in found if any(work.role is Role.DRAFT for work in trail.works)]
    drafts = [work.usage for trail in escalated for work in trail.works if work.role is Role.DRAFT]
    finals = [trail.works[-1].usage for trail in escalated]
    return Row(
        arm.name, score, usd, usd / first.usd if first else 1.0, score / first.score if first else 1.0,
        len(escalated), sum(trail.usd for trail in escalated), sum(usage.output_tokens for usage in drafts),
        sum(usage.accepted_draft_tokens for usage in finals), sum(usage.rejected_draft_tokens for usage in finals),
        wall_s,
    )  # fmt: skip


async def measure(tasks: Sequence[Task], console: Console) -> list[Row]:
    """Every arm."""
    rows: list[Row] = []
    async with family(ClusterConfig()) as (handles, prompter):
        asked = [question(prompter, task.messages) for task in tasks]
        with Progress(console=console) as progress:
            for arm in ARMS:
                began_s = time.monotonic()
                found = await answers(arm, handles, asked, progress)
                rows.append(row(arm, tasks, found, rows[0] if rows else None, time.monotonic() - began_s))
    return rows


def table(rows: Sequence[Row]) -> Table:
    """For people."""
    made = Table(box=None, pad_edge=False, padding=(0, 2))
    for head in ("arm", "score", "of 27b's", "cost", "escalated", "their cost", "draft tokens", "accepted"):
        made.add_column(head, justify="left" if head == "arm" else "right")
    for each in rows:
        accepted = f"{each.accepted_tokens / each.drafted_tokens:.0%}" if each.accepted_tokens else ""
        made.add_row(
            each.name, f"{each.score:.3f}", f"{each.quality_share:.3f}", f"{each.cost_share:.3f}", str(each.escalated),
            f"{each.escalated_usd * 1e6:.1f} µ$", str(each.drafted_tokens or ""), accepted,
        )  # fmt: skip
    return made


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=330)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console = Console(stderr=True)
    rows = asyncio.run(measure(evaluation_tasks(args.tasks, args.seed), console))
    Console().print(table(rows))
    if args.json:
        args.json.write_text(json.dumps([asdict(each) for each in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
