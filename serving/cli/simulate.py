"""`gemmule simulate`: a trace played to a fleet that is not there, under several policies; a table, a plot, JSON."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from cluster.config import ClusterConfig
from cluster.routing.profile import ProfileError
from cluster.simulation.asking import MIX
from cluster.simulation.compared import MEANING, Scenario, run
from cluster.simulation.fleet import Fleet, SizeFleet
from cluster.simulation.result import Result
from cluster.simulation.simulator import Options
from cluster.speeds.file import Speeds, SpeedsError, read_speeds
from cluster.speeds.lookup import device_of, speed_of
from cluster.trace import TraceRequest
from cluster.trace_shape import shorter_than, shrunk, sped_up, thinned
from cluster.traces import TraceError, arrivals, is_rates, read_rates, read_trace
from model.config import CONTEXT_TOKENS, Size
from serving.cli.simulated import caption, fields, plot, table
from serving.config import Settings

_TOLD_S: Final = 0.1  # of real time, between two moves of a progress bar


class SimulateError(ValueError):
    """What is wrong with an option, and what would be right."""


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """The command's options as typed."""

    trace: Path
    like: Path | None
    policies: str
    device: str
    speeds: str
    replicas: str
    as_configured: bool  # the engine's settings are those of a configuration file
    share: float
    faster: float
    scale: float
    hours: float | None
    begin_hours: float
    timeout_s: float | None
    failures: float
    seed: int
    json: bool
    plot: Path | None


def simulate(options: SimulateOptions, settings: Settings, console: Console) -> int:
    """Play and show; 2 for an option or a file that makes no sense."""
    errors = Console(stderr=True)
    try:
        names = _policies(options.policies)
        requests = _requests(options)
        scenario = Scenario(
            requests, settings.cluster, _fleet(options, settings.cluster), MIX, options.timeout_s,
            Options(seed=options.seed, block_tokens=requests[0].block_tokens),
        )  # fmt: skip
        results, took_s = _play(scenario, names)
    except (SimulateError, TraceError, SpeedsError, ProfileError) as error:
        errors.print(f"[red]✗[/] {error}", highlight=False, soft_wrap=True)
        return 2
    if options.json:
        console.print_json(json.dumps({name: fields(result) for name, result in results.items()}))
    else:
        console.print(table(results))
        console.print(caption(scenario, results, took_s), highlight=False)
    if options.plot:
        plot(scenario, results, options.plot)
        errors.print(f"plot written to {options.plot}", highlight=False)
    return 0


def _policies(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in MEANING]
    if unknown or not names:
        known = "; ".join(f"{name}: {meaning}" for name, meaning in MEANING.items())
        raise SimulateError(f"--policy: {', '.join(unknown) or 'none'} is unknown; choose from {known}")
    return names


def _requests(options: SimulateOptions) -> list[TraceRequest]:
    """The part of the trace that is played, in the shape that was asked for."""
    begin_s = options.begin_hours * 3600
    until_s = inf if options.hours is None else begin_s + options.hours * 3600
    if is_rates(options.trace):
        if options.like is None:
            raise SimulateError(f"{options.trace} has rates and no requests; give lengths with --like TRACE")
        rates = read_rates(options.trace).part(begin_s, until_s)
        found = arrivals(rates, read_trace(options.like), options.seed, options.share)
    else:
        whole = read_trace(options.trace)
        part = [each for each in whole if begin_s <= each.at_s < until_s]
        found = thinned(part, options.share, options.seed)
    found = shorter_than(shrunk(found, options.scale) if options.scale != 1 else found, CONTEXT_TOKENS)
    if not found:
        raise SimulateError("nothing of the trace is left; raise --share, --hours or lower --scale")
    return sped_up(found, options.faster)


def _fleet(options: SimulateOptions, config: ClusterConfig) -> Fleet:
    speeds = read_speeds(options.speeds)
    bounds = _bounds(options.replicas, config)
    sizes = {size: _size(options, config, speeds, size, *bounds[size]) for size in config.sizes}
    budget = config.scaling.budget_devices or sum(each.devices * each.max_replicas for each in sizes.values())
    return Fleet(sizes, budget, failures_per_replica_hour=options.failures)


def _size(
    options: SimulateOptions, config: ClusterConfig, speeds: Speeds, size: Size, least: int, most: int
) -> SizeFleet:
    sized = config.sizes[size]
    engine = sized.engine
    found = speed_of(speeds, size, options.device, sized.tensor_parallel, engine.quantization)
    if found is None:
        precision = engine.quantization or "16 bits"
        raise SimulateError(
            f"sizes.{size}: degree {sized.tensor_parallel} in {precision} does not fit {options.device}, or nothing is "
            "known of it; another --device, degree or quantization may"
        )
    speed, _ = found
    if options.as_configured:
        kv_tokens = speed.kv_tokens if engine.kv_memory_gb else engine.kv_tokens
        speed = replace(speed, slots=engine.max_running, kv_tokens=kv_tokens, max_step_tokens=engine.max_step_tokens)
    hour = device_of(speeds, options.device).usd_per_hour.value
    waiting = engine.max_waiting if options.as_configured else 4 * speed.slots
    return SizeFleet(
        speed, sized.usd_per_mtoken, max(1, least), least, most, hour, max_ongoing=speed.slots + waiting + 8
    )


def _bounds(text: str, config: ClusterConfig) -> dict[Size, tuple[int, int]]:
    """Of each size, as configured or as `2b=1-4,27b=2` says."""
    found = {size: (each.replicas.min_replicas, each.replicas.max_replicas) for size, each in config.sizes.items()}
    for part in filter(None, text.split(",")):
        name, _, span = part.strip().partition("=")
        least, _, most = span.partition("-")
        try:
            size, low, high = Size(name), int(least), int(most or least)
        except ValueError:
            raise SimulateError(f"--replicas: {part!r}; write 2b=1-4,27b=2") from None
        if size not in found or not 0 <= low <= high or not high:
            raise SimulateError(f"--replicas: {part!r}: {', '.join(found)} are served, least first, at least 1 at most")
        found[size] = (low, high)
    return found


def _play(scenario: Scenario, names: Sequence[str]) -> tuple[dict[str, Result], float]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    results, began_s = {}, time.perf_counter()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for name in names:
            bar = progress.add_task(name, total=scenario.requests[-1].at_s)
            moved_s = 0.0

            def told(now_s: float, bar: Any = bar) -> None:
                nonlocal moved_s
                if (real_s := time.perf_counter()) - moved_s >= _TOLD_S:
                    moved_s = real_s
                    progress.update(bar, completed=now_s)

            results[name] = run(scenario, name, told)
            progress.update(bar, completed=scenario.requests[-1].at_s)
    return results, time.perf_counter() - began_s
