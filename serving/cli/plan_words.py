"""A plan for people: tables, sentences, and the same as JSON."""

from collections.abc import Sequence
from typing import Any, Final

from rich.table import Table

from cluster.planning.binding import Eased
from cluster.planning.capacity import Slo
from cluster.planning.planner import Planned, Wish
from cluster.planning.problem import FleetPlan
from cluster.planning.replay import Kept
from cluster.speeds.file import Mark, Speeds
from model.config import Size

_FEW: Final = 0.005  # too few requests to speak of

Alone = dict[Size, FleetPlan | str]
"""Of each size its cheapest plan alone, or why there is none."""


def sizes_table(plan: FleetPlan) -> Table:
    """What runs."""
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for name in ("size", "device", "ranks", "precision", "replicas", "gets/s", "each carries/s", "bound by", "USD/h"):
        table.add_column(name, justify="left" if name in ("size", "device", "precision", "bound by") else "right")
    for part in plan.parts:
        speed = part.candidate.speed
        table.add_row(
            part.size, speed.device, str(speed.degree), part.candidate.precision, str(part.replicas),
            f"{part.per_s:.2f}", f"{part.candidate.per_s:.2f}", part.candidate.bound, f"{part.usd_per_hour:.2f}",
        )  # fmt: skip
    table.add_row("", "", "", "", "", "", "", "", f"[bold]{plan.usd_per_hour:.2f}[/]")
    return table


def tiers_table(plan: FleetPlan, wish: Wish) -> Table:
    """What tiers ask for, and who answers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    sizes = [part.size for part in plan.parts]
    for name in ("tier", "of the requests", "promised", "threshold", "kept", *sizes):
        table.add_column(name, justify="left" if name == "tier" else "right")
    for tier, mix in plan.mixes.items():
        table.add_row(
            tier, f"{wish.traffic[tier]:.0%}", f"{wish.promises[tier]:.2f}", f"{mix.threshold:.2f}",
            f"{mix.quality:.3f}", *(f"{mix.shares[size]:.0%}" for size in sizes),
        )  # fmt: skip
    return table


def alone_lines(plan: FleetPlan, alone: Alone) -> list[str]:
    """Against one size alone."""
    lines = []
    for size, other in alone.items():
        if isinstance(other, str):
            lines.append(f"{size} alone: {other}")
        else:
            less = 1 - plan.usd_per_hour / other.usd_per_hour
            cost = f"{other.usd_per_hour:.2f} USD/h ({summary(other)})"
            lines.append(f"{size} alone: {cost}; the plan is {less:.0%} cheaper")
    return lines


def summary(plan: FleetPlan) -> str:
    """In a line."""
    return " + ".join(
        f"{part.replicas} × {part.size} {part.candidate.precision} on {part.candidate.speed.degree} × "
        f"{part.candidate.speed.device}"
        for part in plan.parts
    )


def binding_lines(plan: FleetPlan, eased: Sequence[Eased]) -> list[str]:
    """What would make it cheaper."""
    if not eased:
        return ["nothing that was eased a little makes it cheaper: it is bound by whole replicas"]
    return [
        f"{each.what}: {each.plan.usd_per_hour:.2f} USD/h, {each.saved_usd_per_hour(plan):.2f} less" for each in eased
    ]


def demand_line(wish: Wish) -> str:
    """What was planned for."""
    demand = wish.demand
    left_out = f"; {demand.left_out_share:.0%} of the trace is longer than the context and left out"
    return (
        f"{demand.per_s:.2f} requests/s (on average {demand.mean_per_s:.2f}, in the fullest {demand.window_s:.0f} s "
        f"{demand.peak_per_s:.2f}), prompts {demand.lengths.prompt.mean():.0f} and answers "
        f"{demand.lengths.output.mean():.0f} tokens on average" + (left_out if demand.left_out_share > _FEW else "")
    )


def kept_line(kept: Kept, slo: Slo) -> str:
    """What the replay came to, against what was promised."""
    verdict = "[green]✓[/] kept" if kept.share >= slo.share else "[red]✗[/] not kept"
    sizes = ", ".join(f"{size} {share:.1%}" for size, share in kept.by_size.items())
    return (
        f"{verdict} in the simulator: {kept.share:.1%} of {kept.requests:,} requests within the SLO of {slo.share:.0%} "
        f"({sizes}); 95 % have their first token within {kept.ttft_p95_s:.2f} s and {kept.tpot_p95_s * 1000:.0f} ms a "
        f"token; quality {kept.quality:.3f}"
    )


def warnings(plan: FleetPlan, speeds: Speeds) -> list[str]:
    """What nobody measured, and what stands for the operator's own."""
    found = []
    calculated = sorted({part.candidate.speed.device for part in plan.parts if part.candidate.mark is Mark.CALCULATED})
    if calculated:
        names = ", ".join(calculated)
        found.append(
            f"speeds of {names} are calculated from data sheets; none was measured, and gemmule never ran on a GPU: "
            "measure before you buy (`gemmule bench speeds`)"
        )
    examples = {kind: speeds.devices[kind].usd_per_hour for kind in sorted(plan.by_kind())}
    named = ", ".join(f"{kind} {price.value:g}" for kind, price in examples.items() if price.mark is Mark.EXAMPLE)
    if named:
        found.append(f"prices are examples (USD per device and hour: {named}); give yours with --price KIND=USD")
    if any(part.candidate.speed.quantization for part in plan.parts):
        found.append("what quantization costs in quality on the real weights was not measured (docs/precision.md)")
    return found


def as_json(planned: Planned, speeds: Speeds, alone: Alone, eased: Sequence[Eased]) -> dict[str, Any]:
    """Everything, for programs."""
    plan, wish = planned.plan, planned.wish
    found: dict[str, Any] = {
        "demand": {
            "per_s": wish.demand.per_s, "mean_per_s": wish.demand.mean_per_s, "peak_per_s": wish.demand.peak_per_s,
            "left_out_share": wish.demand.left_out_share,
        },
        "slo": {"share": wish.slo.share, "ttft_s": wish.slo.ttft_s, "tpot_s": wish.slo.tpot_s, "e2e_s": wish.slo.e2e_s},
        "speeds": speeds.fingerprint,
        "plan": None if plan is None else plan_json(plan),
    }  # fmt: skip
    if plan is not None:
        found["alone"] = {size: other if isinstance(other, str) else plan_json(other) for size, other in alone.items()}
        found["warnings"] = warnings(plan, speeds)
    found["eased"] = [{"what": each.what, "plan": plan_json(each.plan)} for each in eased]
    return found


def plan_json(plan: FleetPlan) -> dict[str, Any]:
    """One plan."""
    return {
        "usd_per_hour": plan.usd_per_hour,
        "devices": plan.by_kind(),
        "quality": plan.quality,
        "sizes": {
            part.size: {
                "device": part.candidate.speed.device, "ranks": part.candidate.speed.degree,
                "precision": part.candidate.precision, "replicas": part.replicas, "gets_per_s": part.per_s,
                "replica_carries_per_s": part.candidate.per_s, "bound": part.candidate.bound,
                "speeds": part.candidate.mark,
            }
            for part in plan.parts
        },
        "tiers": {
            tier: {"threshold": mix.threshold, "quality": mix.quality, "sizes": dict(mix.shares)}
            for tier, mix in plan.mixes.items()
        },
    }  # fmt: skip
