"""`gemmule evaluate`: grades a running gemmule on unseen tasks, greedy, through its front door."""

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from model.family.tasks.generator import evaluation_tasks
from model.family.tasks.grade import grade
from model.family.tasks.task import LEVELS, Task
from serving.cli.remote import Remote

_MAX_TOKENS: Final = 96  # the longest right answer is far shorter


@dataclass(frozen=True, slots=True)
class Graded:
    """One answer and what it took."""

    model: str
    kind: str
    level: int
    right: bool
    size: str
    output_tokens: int
    usd: float  # of all sizes that worked on it
    reason: str  # why this size


@dataclass(frozen=True, slots=True)
class Score:
    """One model's row: shares in [0, 1]."""

    model: str
    checkpoint: str
    num_tasks: int
    right_share: float
    by_kind: dict[str, float]
    by_level: dict[str, float]
    sizes: dict[str, int]  # size -> answers it gave
    usd_per_1000: float


def evaluate(
    url: str,
    num_tasks: int,
    seed: int,
    models: Sequence[str],
    concurrency: int,
    as_json: bool,
    plot: Path | None,
    console: Console,
) -> int:
    """Ask, grade, print; 1 when an answer could not be had."""
    remote = Remote(url, limit=concurrency)
    status = remote.get("/v1/status")
    sizes = {size["size"]: size for size in status["sizes"]}
    asked = list(models) or list(sizes)
    tasks = evaluation_tasks(num_tasks, seed)
    graded = ask_all(remote, asked, tasks, concurrency, as_json)
    scores = [_score(model, graded, sizes) for model in asked]
    if as_json:
        console.print_json(json.dumps({"seed": seed, "scores": [asdict(score) for score in scores]}))
    else:
        console.print(_table(scores))
    if plot is not None:
        _plot(scores, plot)
        console.print(f"plot written to {plot}", highlight=False)
    return 0


def ask_all(
    remote: Remote,
    models: Sequence[str],
    tasks: Sequence[Task],
    concurrency: int,
    quiet: bool,
) -> list[Graded]:
    """Every task of every model, with a bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    graded: list[Graded] = []
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        for model in models:
            bar = progress.add_task(f"asking {model}", total=len(tasks))
            with ThreadPoolExecutor(concurrency) as pool:
                for answer in pool.map(lambda task, m=model: _ask(remote, m, task), tasks):
                    graded.append(answer)
                    progress.advance(bar)
    return graded


def _ask(remote: Remote, model: str, task: Task) -> Graded:
    body = {"model": model, "messages": list(task.messages), "temperature": 0, "max_tokens": _MAX_TOKENS}
    answer = remote.post_patiently("/v1/chat/completions", body)
    text = answer["choices"][0]["message"]["content"]
    told, tokens = answer["gemmule"], answer["usage"]["completion_tokens"]
    right = grade(task, text)
    return Graded(model, str(task.kind), task.level, right, told["size"], tokens, told["cost_usd"], told["reason"])


def _score(model: str, graded: Sequence[Graded], sizes: dict[str, Any]) -> Score:
    mine = [answer for answer in graded if answer.model == model]
    kinds = sorted({answer.kind for answer in mine})
    used = Counter(answer.size for answer in mine)
    return Score(
        model=model,
        checkpoint=sizes[model]["checkpoint"] if model in sizes else "",
        num_tasks=len(mine),
        right_share=_share(mine),
        by_kind={kind: _share([a for a in mine if a.kind == kind]) for kind in kinds},
        by_level={str(level): _share([a for a in mine if a.level == level]) for level in LEVELS},
        sizes=dict(sorted(used.items())),
        usd_per_1000=1000 * sum(answer.usd for answer in mine) / max(1, len(mine)),
    )


def _share(answers: Sequence[Graded]) -> float:
    return sum(answer.right for answer in answers) / len(answers) if answers else 0.0


def _table(scores: Sequence[Score]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("share right on unseen tasks")
    for score in scores:
        table.add_column(f"{score.model}\n{score.checkpoint}", justify="right")
    table.add_row("[bold]all[/]", *(f"[bold]{score.right_share:.3f}[/]" for score in scores))
    for level in LEVELS:
        table.add_row(f"level {level}", *(f"{score.by_level[str(level)]:.2f}" for score in scores))
    for kind in scores[0].by_kind:
        table.add_row(kind, *(f"{score.by_kind[kind]:.2f}" for score in scores))
    table.add_row("tasks", *(str(score.num_tasks) for score in scores))
    table.add_row("USD per 1,000 answers", *(f"{score.usd_per_1000:.4f}" for score in scores))
    table.add_row("answered by", *(" ".join(f"{s}:{n}" for s, n in score.sizes.items()) for score in scores))
    return table


def _plot(scores: Sequence[Score], path: Path) -> None:
    """Quality against cost, a point per model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for score in scores:
        axes.scatter(score.usd_per_1000, score.right_share, s=60)
        axes.annotate(score.model, (score.usd_per_1000, score.right_share), xytext=(6, 4), textcoords="offset points")
    axes.set(xlabel="USD per 1,000 answers", ylabel="share right", ylim=(0, 1), xscale="log")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
