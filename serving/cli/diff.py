"""`gemmule diff`: which kind of upgrade a change is and what it costs, before anything moves."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from cluster.change import Change, Kind, Step, changes_of, devices, steps_of
from cluster.config import ClusterConfig
from model.config import Size
from serving.cli.apply import table
from serving.cli.chart_diff import Chart, ChartError, chart_changes
from serving.cli.remote import Remote
from serving.config import ConfigError, from_tree, read_mapping

_HOLDING: Final = ": settings, or values of the chart"
_OVERLAPPING: Final = (Kind.RESHAPE, Kind.EVERYTHING)
EXIT: Final = {
    Kind.LIVE: 0,
    Kind.LATER: 0,
    Kind.SCALE: 0,
    Kind.REPLACE: 10,
    Kind.RESHAPE: 10,
    Kind.EVERYTHING: 10,
    Kind.SECOND_CLUSTER: 20,
    Kind.IGNORED: 30,
    Kind.REFUSED: 30,
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Devices are GPUs, or ranks where sizes run on CPUs."""

    devices_now: float
    devices_peak: float
    steps: list[Step]


def diff(before: Path, after: Path, chart: Path, url: str | None, as_json: bool, console: Console) -> int:
    """Exit status of the heaviest kind: 0 nothing ends, 10 replicas are replaced, 20 a second cluster, 30 in vain.

    2 is for what cannot be read. Raises `RemoteError`.
    """
    running, start_s = _measured(url) if url else ({}, {})
    try:
        old, new = (read_mapping(path, _HOLDING) for path in (before, after))
        if _is_values(old) != _is_values(new):
            raise ConfigError("one file holds chart values, the other settings; compare two of one kind")
        if _is_values(old):
            drawn = Chart(chart)
            changes = chart_changes(old, new, drawn)
            old, new = drawn.whole(old)["config"], drawn.whole(new)["config"]
        else:
            changes = changes_of(*(from_tree(tree).model_dump(mode="json") for tree in (old, new)))
        cost = cost_of(changes, from_tree(old).cluster, from_tree(new).cluster, running, start_s)
    except (ConfigError, ChartError) as error:
        console.print(f"[red]✗[/] {error}", highlight=False)
        return 2
    if as_json:
        console.print_json(data={"changes": [asdict(each) for each in changes], **asdict(cost)})
    else:
        _print(changes, cost, console)
    return max((EXIT[each.kind] for each in changes), default=0)


def cost_of(
    changes: list[Change],
    old: ClusterConfig,
    new: ClusterConfig,
    running: Mapping[Size, int],
    start_s: Mapping[Size, float],
) -> Cost:
    """Devices while the change is under way, and the steps of it."""
    now = devices(old, running)
    if any(each.kind is Kind.SECOND_CLUSTER for each in changes):  # all that changes comes with it
        return Cost(now, now + devices(new, running), [])
    steps = steps_of(changes, new, running, start_s)
    beside = {each.size for each in changes if each.kind in _OVERLAPPING}
    extra = sum(new.sizes[step.size].devices for step in steps if step.size in beside or None in beside)
    return Cost(now, max(now, devices(new, running)) + extra, steps)


def _is_values(tree: Mapping[str, Any]) -> bool:
    return bool(tree) and not tree.keys() & {"server", "cluster", "traffic"}


def _measured(url: str) -> tuple[dict[Size, int], dict[Size, float]]:
    """Replicas that run, and the longest of their starts."""
    sizes = Remote(url).get("/v1/status")["sizes"]
    running = {Size(each["size"]): len(each["replicas"]) for each in sizes}
    starts = {Size(each["size"]): [one["start_s"].get("all", 0.0) for one in each["replicas"]] for each in sizes}
    return running, {size: max(found) for size, found in starts.items() if found}


def _print(changes: list[Change], cost: Cost, console: Console) -> None:
    if not changes:
        console.print("nothing differs")
        return
    console.print(table(changes))
    console.print(f"devices: {cost.devices_now:g} now, {cost.devices_peak:g} at most while it changes")
    if not cost.steps:
        return
    rows = Table(box=None, pad_edge=False, padding=(0, 2))
    for column in ("then, one after another", "replicas", "each away", "meanwhile"):
        rows.add_column(column)
    for step in cost.steps:
        away = "unknown; --url measures" if step.away_s is None else f"about {step.away_s:.0f} s + its last answers"
        rows.add_row(step.size, str(step.replicas), away, _meanwhile(step))
    console.print(rows)


def _meanwhile(step: Step) -> str:
    if not step.waits:
        return "the size's other replicas answer"
    waiting = [tier for tier, sizes in step.cover.items() if not sizes]
    cover = sorted({size for sizes in step.cover.values() for size in sizes}, key=lambda size: (len(size), size))
    said = f"tiers are answered by {', '.join(cover)}" if cover else "nobody else can answer"
    return f"{said}; who asks for {', '.join([step.size, *waiting])} waits"
