"""`gemmule evaluate-routing --live`: what every size and tier of a running gemmule costs and keeps, on graded tasks."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path

from rich.console import Console
from rich.table import Table

from model.family.tasks.generator import evaluation_tasks
from serving.cli.evaluate import Graded, ask_all
from serving.cli.remote import Remote


@dataclass(frozen=True, slots=True)
class Kept:
    """One size or tier. Shares are of always taking the largest size; `spread` is half of a 95 % interval."""

    model: str
    right_share: float
    quality_share: float
    spread: float
    cost_share: float
    usd: float
    answered_by: dict[str, int]
    escalated: int


def live_routing(
    url: str, num_tasks: int, seed: int, concurrency: int, as_json: bool, plot: Path | None, console: Console
) -> int:
    """Ask everyone the same, and show."""
    remote = Remote(url, limit=concurrency)
    models = remote.get("/v1/models")["data"]
    sizes = sorted((m for m in models if m["kind"] == "size"), key=lambda m: float(m["usd_per_mtoken"]))
    names = [m["id"] for m in sizes] + [m["id"] for m in models if m["kind"] == "tier"]
    graded = ask_all(remote, names, evaluation_tasks(num_tasks, seed), concurrency, as_json)
    by_model = {name: [answer for answer in graded if answer.model == name] for name in names}
    rows = [_kept(name, by_model[name], by_model[sizes[-1]["id"]]) for name in names]
    if as_json:
        console.print_json(json.dumps({"tasks": num_tasks, "seed": seed, "rows": [asdict(row) for row in rows]}))
    else:
        console.print(_table(rows))
    if plot is not None:
        _plot(rows, plot)
        console.print(f"plot written to {plot}", highlight=False)
    return 0


def _kept(model: str, mine: Sequence[Graded], largest: Sequence[Graded]) -> Kept:
    most = sum(answer.right for answer in largest) or 1
    share = sum(answer.right for answer in mine) / most
    # A ratio over the same tasks: its standard error by the delta method.
    off = [mine_.right - share * other.right for mine_, other in zip(mine, largest, strict=True)]
    spread = 1.96 * sqrt(sum(each**2 for each in off)) / most
    usd = sum(answer.usd for answer in mine)
    return Kept(
        model, sum(answer.right for answer in mine) / len(mine), share, spread,
        usd / sum(answer.usd for answer in largest), usd, dict(Counter(answer.size for answer in mine)),
        sum(answer.reason == "escalated" for answer in mine),
    )  # fmt: skip


def _table(rows: Sequence[Kept]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for head in ("", "right", "of the largest's", "cost", "answered by", "escalated"):
        table.add_column(head, justify="left" if head in ("", "answered by") else "right")
    for row in rows:
        table.add_row(
            row.model, f"{row.right_share:.3f}", f"{row.quality_share:.3f} ±{row.spread:.3f}", f"{row.cost_share:.3f}",
            " ".join(f"{size}:{count}" for size, count in sorted(row.answered_by.items())), str(row.escalated or ""),
        )  # fmt: skip
    table.caption = "cost of all sizes that worked on a request; always the largest = 1"
    return table


def _plot(rows: Sequence[Kept], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for row in rows:
        axes.errorbar(row.cost_share, row.quality_share, yerr=row.spread, fmt="o", capsize=3)
        axes.annotate(row.model, (row.cost_share, row.quality_share), xytext=(6, -10), textcoords="offset points")
    axes.set(xlabel="cost, always the largest size = 1", ylabel="right answers, the largest size's = 1", xlim=(0, 1.1))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
