"""`gemmule distill`: a student learns a teacher's token distribution; progress, resumable, a report at the end."""

import json
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from model.errors import CheckpointError
from model.source import parse_source, resolve


def distill(teacher: str, options: dict[str, Any], console: Console) -> int:
    """Train and say what came out; 1 when teacher, student or data cannot be used."""
    # The training code brings torch along, so it is loaded by this command alone.
    from model.family.distill import DistillProgress, DistillSettings
    from model.family.distill import distill as run

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    try:
        folder = resolve(parse_source(teacher), None, None)
        with Progress(*columns, console=console) as progress:
            bars: dict[str, Any] = {}

            def show(now: DistillProgress) -> None:
                if now.phase not in bars:
                    bars[now.phase] = progress.add_task(now.phase, total=now.total, note="")
                progress.update(bars[now.phase], completed=now.done, note=now.point.note if now.point else "")

            report = run(DistillSettings(teacher=folder, **options), show)
    except (CheckpointError, ValueError, OSError) as error:
        console.print(f"[red]✗[/] {error}", highlight=False)
        return 1
    console.print_json(json.dumps(asdict(report), default=str))
    console.print(f"student written to {options['out']}", highlight=False)
    return 0
