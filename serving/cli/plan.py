"""`gemmule plan`: from a trace, devices and an SLO to the cheapest fleet; tables, JSON, chart values, a plot."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cluster.config import ClusterConfig
from cluster.forecast import profile_of
from cluster.planning.binding import Eased, binding, nearest, reasons, why_not_alone
from cluster.planning.demand import Demand, demand_of, demand_of_rates
from cluster.planning.planner import Planned, Planner, Wish, late_share, only
from cluster.planning.replay import Kept, Replay, replayed
from cluster.planning.settings import settings_of
from cluster.routing.profile import Profile, ProfileError
from cluster.speeds.file import SpeedsError, read_speeds
from cluster.trace import TraceRequest
from cluster.traces import TraceError, arrivals, is_rates, read_rates, read_trace
from serving.cli import plan_options as typed
from serving.cli import plan_words as words
from serving.cli.plan_options import OptionError, PlanOptions
from serving.cli.plan_plot import plot
from serving.cli.plan_values import values_of
from serving.config import Settings

_MOST_REPLAYED: Final = 3_000_000  # requests


def plan(options: PlanOptions, settings: Settings, console: Console) -> int:
    """Plan and show; 1 when nothing keeps the promises, 2 for an option or a file that is no good."""
    errors = Console(stderr=True)
    try:
        with errors.status("planning"):
            planner, wish = _asked(options, settings)
            planned = planner.plan(wish)
            eased = nearest(planner, planned) if planned.plan is None else binding(planner, planned)
    except (OptionError, TraceError, SpeedsError, ProfileError, ValueError) as error:
        errors.print(f"[red]✗[/] {error}", highlight=False, soft_wrap=True)
        return 2
    if planned.plan is None:
        return _refused(planner, planned, eased, options, console)
    fleet = settings_of(planned.plan, settings.cluster.tiers, _profile_name(settings.cluster))
    alone: words.Alone = {size: only(planned, size) or why_not_alone(planner, planned, size) for size in wish.sizes}
    checked = _checked(planned, fleet, options) if options.check else None
    if options.json:
        found = words.as_json(planned, planner.speeds, alone, eased)
        console.print_json(json.dumps(found if checked is None else {**found, "replay": asdict(checked)}))
    else:
        _show(planned, planner, alone, eased, console)
        if checked is not None:
            console.print(words.kept_line(checked, wish.slo), highlight=False)
    if options.values:
        written = values_of(planned.plan, fleet, planner.speeds)
        options.values.write_text(_heading(options) + yaml.safe_dump(written, sort_keys=False), encoding="utf-8")
        console.print(f"chart values written to {options.values}", highlight=False)
    if options.plot:
        plot(planned.plan, wish, alone, options.plot)
        console.print(f"plot written to {options.plot}", highlight=False)
    return 0


def _asked(options: PlanOptions, settings: Settings) -> tuple[Planner, Wish]:
    speeds = typed.priced(read_speeds(options.speeds), options.prices)
    slo, traffic = typed.read_slo(options.slo), typed.read_mix(options.mix)
    sizes = typed.read_sizes(options.sizes)
    wish = Wish(
        demand=_demand(options, late_share(slo)),
        slo=slo,
        traffic=traffic,
        promises={tier: settings.cluster.tiers[tier].quality_share for tier in traffic},
        sizes=sizes,
        precisions=typed.read_precisions(options.precision),
        devices=typed.read_gpus(options.gpus, speeds),
    )
    return Planner(speeds, _profile(settings.cluster)), wish


def _profile_name(cluster: ClusterConfig) -> str:
    """Plans are for the real sizes, unless a routing profile is named."""
    return cluster.routing.profile or "gemma-2"


def _profile(cluster: ClusterConfig) -> Profile:
    routing = cluster.routing.model_copy(update={"profile": _profile_name(cluster)})
    return profile_of(cluster.model_copy(update={"routing": routing}))


def _demand(options: PlanOptions, late: float) -> Demand:
    if not is_rates(options.trace):
        return demand_of(read_trace(options.trace), options.window_s, late, options.scale)
    if options.lengths is None:
        raise OptionError(f"--lengths: {options.trace} has rates only; name a trace whose requests are as long")
    return demand_of_rates(read_rates(options.trace), read_trace(options.lengths), late, options.scale)


def _checked(planned: Planned, fleet: ClusterConfig, options: PlanOptions) -> Kept:
    """The trace, or one drawn from the rates, through the simulator; a bar shows the virtual clock."""
    if planned.plan is None:
        raise RuntimeError("nothing to check")
    requests, wish = _requests(options), planned.wish
    columns = (TextColumn("replaying {task.completed:.0f} of {task.total:.0f} s"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("replay", total=requests[-1].at_s)

        def told(now_s: float) -> None:
            progress.update(bar, completed=now_s)

        return replayed(planned.plan, fleet, requests, Replay(wish.traffic, wish.slo, told=told))


def _requests(options: PlanOptions) -> Sequence[TraceRequest]:
    if not is_rates(options.trace):
        if options.scale != 1:
            raise OptionError("--check: a trace is replayed as it is; leave --scale at 1")
        return read_trace(options.trace)
    rates, like = read_rates(options.trace), read_trace(options.lengths or options.trace)
    table_s = rates.until_s / len(rates.per_s)
    if sum(rates.per_s) * table_s * options.scale > _MOST_REPLAYED:
        raise OptionError(f"--check: more than {_MOST_REPLAYED:,} requests; lower --scale")
    return arrivals(rates, like, seed=0, share=options.scale)


def _show(planned: Planned, planner: Planner, alone: words.Alone, eased: list[Eased], console: Console) -> None:
    if planned.plan is None:
        raise RuntimeError("nothing to show")
    console.print(words.demand_line(planned.wish), highlight=False)
    console.print(words.sizes_table(planned.plan))
    console.print(words.tiers_table(planned.plan, planned.wish))
    for line in words.alone_lines(planned.plan, alone):
        console.print(line, highlight=False)
    console.print("[bold]cheaper if[/]")
    for line in words.binding_lines(planned.plan, eased):
        console.print(f"  {line}", highlight=False)
    for line in words.warnings(planned.plan, planner.speeds):
        console.print(f"[yellow]![/] {line}", highlight=False)


def _refused(planner: Planner, planned: Planned, eased: list[Eased], options: PlanOptions, console: Console) -> int:
    if options.json:
        found = words.as_json(planned, planner.speeds, {}, eased)
        console.print_json(json.dumps({**found, "reasons": reasons(planner, planned)}))
        return 1
    errors = Console(stderr=True)
    errors.print("[red]✗[/] no plan keeps this:", highlight=False)
    for reason in reasons(planner, planned):
        errors.print(f"  {reason}", highlight=False, soft_wrap=True)
    errors.print("nearest:" if eased else "nothing near would do either", highlight=False)
    for each in eased:
        line = f"  {each.what}: {words.summary(each.plan)}, {each.plan.usd_per_hour:.2f} USD/h"
        errors.print(line, highlight=False, soft_wrap=True)
    return 1


def _heading(options: PlanOptions) -> str:
    command = f"gemmule plan --trace {options.trace.name} --gpus {options.gpus} --slo {options.slo}"
    warning = "Speeds of GPUs are calculated, never measured: check before you buy. Add image, secrets and ways in."
    return f"# From `{command}`.\n# {warning}\n"
