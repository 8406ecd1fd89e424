"""Shows what was simulated: a table, a plot, values for JSON."""

from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Any

from rich.table import Table

from cluster.simulation.compared import Scenario
from cluster.simulation.result import ALL, Result


def fields(result: Result) -> dict[str, Any]:
    """For JSON."""
    summaries = {
        name: {field: None if isinstance(value, float) and isnan(value) else value for field, value in each.items()}
        for name, each in ((name, asdict(summary)) for name, summary in result.summaries().items())
    }
    return {
        "seconds": result.seconds,
        "requests": summaries,
        "sizes": {size: asdict(use) for size, use in result.use.items()},
        "fleet_usd": result.fleet_usd,
        "brown_out_switches": result.brown_out_switches,
        "failures": result.failures,
        "scaling": [
            {"at_s": at_s, "size": size, "replicas": replicas, "reason": reason}
            for at_s, size, replicas, reason in result.reasons
        ],
    }


def table(results: dict[str, Result]) -> Table:
    """A line for each policy, and one for each of its tiers."""
    made = Table(box=None, pad_edge=False, padding=(0, 2))
    heads = (
        "policy", "requests", "in time", "refused", "late", "lost", "TTFT s\np50 p99", "ITL ms\np50 p99", "quality",
        "cached", "clients\nUSD", "devices\nUSD", "replica\nhours", "scaling\nsteps turns",
    )  # fmt: skip
    for head in heads:
        made.add_column(head, justify="left" if head == "policy" else "right")
    for name, result in results.items():
        uses = result.use.values()
        for group, each in result.summaries().items():
            whole = group == ALL
            made.add_row(
                name if whole else f"  {group}", f"{each.requests:,}", f"{each.in_time_share:.2%}", f"{each.refused:,}",
                f"{each.late:,}", f"{each.lost:,}", f"{each.ttft_p50_s:.2f} {each.ttft_p99_s:.2f}",
                f"{1000 * each.itl_p50_s:.0f} {1000 * each.itl_p99_s:.0f}", f"{each.quality_share:.3f}",
                f"{each.cached_share:.1%}", f"{each.usd:,.2f}",
                *(
                    (
                        f"{result.fleet_usd:,.2f}", f"{sum(use.replica_s for use in uses) / 3600:,.1f}",
                        f"{sum(use.changes for use in uses)} {sum(use.turns for use in uses)}",
                    )
                    if whole
                    else ("", "", "")
                ),
            )  # fmt: skip
    return made


def caption(scenario: Scenario, results: dict[str, Result], took_s: float) -> str:
    """What the figures mean."""
    seconds = sum(result.seconds for result in results.values())
    speeds = ", ".join(
        f"{size} on {each.devices:g} × {each.speed.device}" for size, each in scenario.fleet.sizes.items()
    )
    return (
        f"{speeds}; quality: right answers as drawn from the routing profile, the largest size's being 1; "
        f"{seconds / 3600:,.1f} h simulated in {took_s:,.1f} s"
    )


def plot(scenario: Scenario, results: dict[str, Result], path: Path) -> None:
    """Requests per second, replicas over time, and what each policy costs and keeps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1 + len(results), 1, figsize=(8, 2 + 1.8 * len(results)), layout="constrained")
    unit, per = ("h", 3600.0) if scenario.requests[-1].at_s > 3 * 3600 else ("min", 60.0)
    instants = [each.at_s / per for each in scenario.requests]
    bins = min(200, max(10, len(instants) // 50))
    axes[0].hist(instants, bins, color="tab:gray")
    axes[0].set(ylabel="requests", title=f"{len(instants):,} requests")
    for axis, (name, result) in zip(axes[1:], results.items(), strict=True):
        for size, use in result.use.items():
            times = [at_s / per for at_s, _, _ in use.over_time] + [result.seconds / per]
            counts = [running for _, _, running in use.over_time]
            axis.step(times, [*counts, counts[-1]], where="post", label=str(size))
        every = result.summaries()[ALL]
        words = f"{name}: {every.in_time_share:.1%} in time, TTFT p99 {every.ttft_p99_s:.2f} s"
        axis.set(ylabel="replicas", title=f"{words}, devices {result.fleet_usd:,.2f} USD")
        axis.set_ylim(bottom=0)
        axis.legend(loc="upper right", fontsize=7)
    axes[-1].set_xlabel(unit)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
