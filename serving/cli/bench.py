"""`gemmule bench engine`: our engine against its peers; a progress bar, a table, a plot, a list of rows."""

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from model.bench.bench import Bench, BenchSettings, Report
from model.bench.engines import OURS, PEERS, BenchError
from model.bench.roof import BITS
from model.bench.rounds import Row, Run, ratios
from model.bench.shapes import SHAPES
from model.bench.workload import PRESETS

_LEFT_FREE_BYTES: Final = 2 * 2**30  # of what is free now, for everything else on the machine

QUIET_PERCENT: Final = 15.0  # engines whose threads spin at barriers lose most: llama.cpp a hundredfold on a toy


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """The command's options as typed."""

    shape: str
    dtype: str
    concurrency: str
    against: str
    workload: str
    rounds: int
    threads: int | None
    memory_gib: float | None
    peers: Path
    cache: Path
    json: Path | None
    plot: Path | None


def bench_engine(options: BenchOptions, console: Console) -> int:
    """Measure and show; 2 for an option that makes no sense, 1 when something asked for could not be measured."""
    errors = Console(stderr=True)
    try:
        settings = _settings(options)
    except ValueError as error:
        errors.print(f"[red]✗[/] {error}", highlight=False)
        return 2
    busy_percent = psutil.cpu_percent(interval=1.0)
    if busy_percent > QUIET_PERCENT:
        busy = f"{busy_percent:.0f} % of this machine's processors are busy with something else: figures will be off"
        errors.print(f"[yellow]![/] {busy}", highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends us must not leave paused engines behind
    try:
        report = _run(settings)
    except BenchError as error:
        errors.print(f"[red]✗[/] {error}", highlight=False)
        return 1
    for note in report.notes:
        errors.print(f"[yellow]![/] {note}", highlight=False, soft_wrap=True)
    if report.rows:
        _show(report, options, console)
    return 1 if report.notes else 0


def _settings(options: BenchOptions) -> BenchSettings:
    _expect("--shape", options.shape, SHAPES)
    _expect("--dtype", options.dtype, tuple(BITS))
    _expect("--workload", options.workload, tuple(PRESETS))
    against = tuple(name.strip() for name in options.against.split(",") if name.strip())
    for name in against:
        _expect("--against", name, PEERS)
    try:
        concurrency = tuple(sorted({int(number) for number in options.concurrency.split(",")}))
    except ValueError:
        concurrency = ()
    if not concurrency or not all(1 <= number <= 256 for number in concurrency):
        raise ValueError(f"--concurrency: {options.concurrency!r} is no list of numbers from 1 to 256, such as 1,8,32")
    free = psutil.virtual_memory().available - _LEFT_FREE_BYTES
    threads = options.threads or len(os.sched_getaffinity(0))
    return BenchSettings(
        run=Run(options.shape, options.dtype, options.workload, threads),
        concurrency=concurrency,
        against=against,
        rounds=options.rounds,
        peers=options.peers,
        cache=options.cache,
        memory_bytes=int(options.memory_gib * 2**30) if options.memory_gib else free,
    )


def _expect(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{option}: {value!r} is unknown; choose from {', '.join(allowed)}")


def _run(settings: BenchSettings) -> Report:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("starting", total=None)

        def show(words: str, done: int, total: int) -> None:
            progress.update(bar, description=words, completed=done, total=total or None)

        report = Bench(settings, show).run()
        progress.update(bar, description="measured", completed=progress.tasks[0].total or 0)
    return report


def _show(report: Report, options: BenchOptions, console: Console) -> None:
    console.print(table(report.rows))
    first = report.rows[0]
    console.print(
        f"{first.shape} in {first.dtype}, workload {first.workload}, {first.threads} threads, {first.rounds} rounds by "
        f"turns; {first.cpu}: reads {first.read_bytes_per_s / 1e9:.1f} GB/s, computes "
        f"{first.flops_per_s / 1e9:.0f} GFLOP/s",
        highlight=False,
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in report.rows], indent=1) + "\n")
        console.print(f"rows written to {options.json}", highlight=False)
    if options.plot:
        plot(report.rows, options.plot)
        console.print(f"plot written to {options.plot}", highlight=False)


def table(rows: Sequence[Row]) -> Table:
    """A line per engine and concurrency."""
    made = Table(box=None, pad_edge=False, padding=(0, 2))
    heads = (
        "at once",
        "engine",
        "tokens/s",
        f"{OURS} is",
        "TTFT s\np50 p90 p99",
        "ITL ms\np50 p90 p99",
        "of roof",
        "reads",
    )
    for head in heads:
        made.add_column(head, justify="left" if head == "engine" else "right")
    faster = ratios(rows)
    for row in rows:
        ratio = faster.get((row.engine, row.concurrency))
        made.add_row(
            str(row.concurrency),
            f"{row.engine} {row.version}",
            f"{row.output_tokens_per_s:.2f} ±{row.spread / 2:.0%}",
            "" if ratio is None else f"[{'green' if ratio >= 1 else 'red'}]{ratio:.2f}×[/]",
            " ".join(f"{value:.2f}" for value in (row.ttft_p50_s, row.ttft_p90_s, row.ttft_p99_s)),
            " ".join(f"{value * 1000:.0f}" for value in (row.itl_p50_s, row.itl_p90_s, row.itl_p99_s)),
            f"{row.share_of_roof:.0%}",
            f"{row.read_share:.0%}",
        )
    return made


def plot(rows: Sequence[Row], path: Path) -> None:
    """Throughput as bars, a group per concurrency, and the machine's own limit as a line over each group."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    engines = list(dict.fromkeys(row.engine for row in rows))
    groups = list(dict.fromkeys(row.concurrency for row in rows))
    width = 0.8 / len(engines)
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for index, engine in enumerate(engines):
        mine = [row for row in rows if row.engine == engine]
        places = [groups.index(row.concurrency) - 0.4 + (index + 0.5) * width for row in mine]
        bars: Any = axes.bar(places, [row.output_tokens_per_s for row in mine], width * 0.92, label=engine)
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    for index, group in enumerate(groups):
        row = next(row for row in rows if row.concurrency == group)
        limit = row.output_tokens_per_s * row.wall_s / row.ideal_s
        axes.hlines(limit, index - 0.4, index + 0.4, colors="black", label="" if index else "the machine's limit")
    axes.set(xticks=range(len(groups)), xticklabels=[str(group) for group in groups], xlabel="requests at once")
    axes.set(ylabel="output tokens per second", title=f"{rows[0].shape}, {rows[0].dtype}, {rows[0].workload} workload")
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(engines) + 1)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
