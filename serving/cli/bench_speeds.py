"""`gemmule bench speeds`: times the engine's steps here and writes a file of speeds."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cluster.config import SizeConfig
from cluster.planning.settings import CPU
from cluster.speeds.file import Device, Figure, Mark, Row, Speeds
from cluster.speeds.fit import Coefficients, TimedStep, fit_steps
from model.config import Size
from model.errors import CheckpointError
from model.source import parse_source, resolve
from serving.cli.bench import QUIET_PERCENT
from serving.config import Settings

_TIMEOUT_S: Final = 600


@dataclass(frozen=True, slots=True)
class SpeedOptions:
    """The command's options as typed."""

    out: Path
    rounds: int
    usd_per_hour: float
    json: bool


class MeasureError(Exception):
    """One sentence: which size could not be measured, and why."""


def bench_speeds(options: SpeedOptions, settings: Settings, console: Console) -> int:
    """Every configured size in one process each, one after the other; 1 when one cannot be measured."""
    errors, rows = Console(stderr=True), []
    busy_percent = psutil.cpu_percent(interval=1.0)
    if busy_percent > QUIET_PERCENT:
        busy = f"{busy_percent:.0f} % of this machine's processors are busy with something else: figures will be off"
        errors.print(f"[yellow]![/] {busy}", highlight=False)
    try:
        with Progress(console=errors) as progress:
            for size, config in progress.track(settings.cluster.sizes.items(), description="timing steps"):
                rows.append(_row(size, config, options.rounds))
    except (MeasureError, CheckpointError, ValueError) as error:
        errors.print(f"[red]✗[/] {error}", highlight=False, soft_wrap=True)
        return 1
    about = f"Measured by `gemmule bench speeds` on {_machine()}."
    speeds = Speeds(about=about, devices={CPU: _device(options)}, measured=tuple(rows))
    speeds.save(options.out)
    if options.json:
        console.print_json(speeds.model_dump_json())
    else:
        console.print(_table(rows))
        console.print(f"speeds written to {options.out}", highlight=False)
    if any(config.tensor_parallel > 1 for config in settings.cluster.sizes.values()):
        several = "sizes with several ranks were measured with one: ranks talk through Ray"
        errors.print(f"[yellow]![/] {several}", highlight=False)
    return 0


def _row(size: Size, config: SizeConfig, rounds: int) -> Row:
    source = parse_source(config.source)
    asked: dict[str, Any] = {
        "folder": str(resolve(source, config.revision, os.environ.get("HF_TOKEN"))),
        "config": config.engine.model_dump_json(),
        "threads": config.threads_per_rank,
        "rounds": rounds,
    }
    found = _measured(size, asked)
    steps = [TimedStep(**each) for each in found["observations"]]
    fitted: Coefficients = fit_steps(steps)
    command = f"gemmule {version('gemmule')} bench speeds, {rounds} rounds"
    where = f"{_machine()}, {config.threads_per_rank} threads, {datetime.now(UTC).date().isoformat()}"
    return Row(
        size=size, device=CPU, degree=1, dtype=config.engine.dtype, quantization=config.engine.quantization,
        **asdict(fitted), slots=config.engine.max_running, kv_tokens=config.engine.kv_tokens,
        max_step_tokens=config.engine.max_step_tokens, cold_start_s=found["start_s"], checkpoint=config.source,
        steps=len(steps),
        source=f"{command}, {where}",
    )  # fmt: skip


def _measured(size: Size, asked: dict[str, Any]) -> dict[str, Any]:
    """In a process of its own, which may bring torch."""
    command = [sys.executable, "-m", "model.bench.steps", json.dumps(asked)]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise MeasureError(f"{size}: not measured within {_TIMEOUT_S} s; ask for fewer --rounds") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no words"])[-1]
        raise MeasureError(f"{size}: cannot be measured: {last[:300]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _device(options: SpeedOptions) -> Device:
    memory = psutil.virtual_memory().total
    return Device(
        memory_bytes=Figure(value=memory, mark=Mark.MEASURED, source="psutil"),
        usd_per_hour=Figure(value=options.usd_per_hour, mark=Mark.EXAMPLE, source="--usd-per-hour, or its default"),
    )


def _machine() -> str:
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{len(os.sched_getaffinity(0))} × {names[0] if names else 'an unknown processor'}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for name in ("size", "a step ms", "+ prompt token µs", "+ sequence µs", "+ context token µs", "off by", "start s"):
        table.add_column(name, justify="left" if name == "size" else "right")
    for row in rows:
        table.add_row(
            row.size, f"{row.step_s * 1e3:.2f}", f"{row.prefill_s_per_token * 1e6:.1f}",
            f"{row.decode_s_per_sequence * 1e6:.0f}", f"{row.decode_s_per_context_token * 1e6:.3f}",
            f"{row.error_share:.0%}", f"{sum(row.cold_start_s.values()):.1f}",
        )  # fmt: skip
    return table
