"""A plan as a picture: the load over time against what is carried, and the cost beside one size alone."""

from pathlib import Path
from typing import Final

from cluster.planning.planner import Wish
from cluster.planning.problem import FleetPlan
from model.config import Size
from serving.cli.plan_words import Alone

_COLORS: Final = {Size.B2: "tab:green", Size.B9: "tab:blue", Size.B27: "tab:purple"}


def plot(plan: FleetPlan, wish: Wish, alone: Alone, path: Path) -> None:
    """PNG or SVG, by the file's name."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (load, cost) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained", width_ratios=(2, 1))
    demand = wish.demand
    hours = [place * demand.window_s / 3600 for place in range(len(demand.per_window))]
    load.step(hours, demand.per_window, where="post", linewidth=0.8, label=f"requests, in {demand.window_s:.0f} s each")
    load.axhline(demand.per_s, color="tab:red", label=f"planned for: {demand.per_s:.2f}/s")
    load.axhline(demand.mean_per_s, color="grey", linestyle=":", label=f"mean: {demand.mean_per_s:.2f}/s")
    load.set(xlabel="hours", ylabel="requests per second", ylim=(0, None))
    load.legend(loc="lower right")
    columns = {"plan": plan} | {f"{size} alone": other for size, other in alone.items() if not isinstance(other, str)}
    for place, other in enumerate(columns.values()):
        below = 0.0
        for part in other.parts:
            cost.bar(place, part.usd_per_hour, bottom=below, color=_COLORS[part.size])
            words = f"{part.size}\n{part.replicas}×{part.candidate.speed.degree}"
            cost.text(place, below + part.usd_per_hour / 2, words, ha="center", va="center", fontsize=8, color="white")
            below += part.usd_per_hour
        cost.text(place, below, f"{below:.2f}", ha="center", va="bottom", fontsize=9)
    cost.set(xticks=range(len(columns)), xticklabels=list(columns), ylabel="USD per hour")
    cost.margins(y=0.1)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
