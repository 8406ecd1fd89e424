"""`gemmule plan`, as typed."""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from serving.config import ConfigError, load

PIPED_WIDTH: Final = 160  # columns where the output is no terminal


def plan(
    trace: Annotated[Path, typer.Option(help="Azure (CSV) or Mooncake (JSONL) trace, or a table of rates; .gz too.")],
    gpus: Annotated[str, typer.Option(help="Kinds and how many: h100-80gb:8,l4-24gb; no number: as many as it takes.")],
    slo: Annotated[
        str, typer.Option(help="Seconds, and the share of requests that keep all: ttft, tpot, e2e, share.")
    ] = "ttft=2,tpot=0.1,share=0.95",
    mix: Annotated[
        str, typer.Option(help="Which part of the requests buys which tier.")
    ] = "economy=0.3,balanced=0.3,auto=0.25,premium=0.15",
    sizes: Annotated[str, typer.Option(help="Sizes that may be served.")] = "2b,9b,27b",
    precision: Annotated[str, typer.Option(help="Of bf16, int8, int4: what may be used.")] = "bf16,int8",
    speeds: Annotated[str, typer.Option(help="File that `gemmule bench speeds` wrote, or published.")] = "published",
    price: Annotated[
        list[str] | None, typer.Option(help="KIND=USD of a device and hour; the file's are examples.")
    ] = None,
    lengths: Annotated[Path | None, typer.Option(help="With a table of rates: a trace with requests as long.")] = None,
    scale: Annotated[float, typer.Option(min=1e-6, help="Plan for so many times the trace's requests.")] = 1.0,
    window_s: Annotated[float, typer.Option(min=1, help="Seconds over which arrivals are counted.")] = 30.0,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML file of settings; its tiers' promises count.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Replay the trace in the simulator on the plan found.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    values: Annotated[Path | None, typer.Option(help="Write values of the chart (YAML).")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot of load and cost (PNG or SVG).")] = None,
) -> None:
    """Find the cheapest sizes, ranks, precision, replicas and thresholds that keep the promises; runs nothing."""
    from serving.cli.plan import plan as command
    from serving.cli.plan_options import PlanOptions

    options = PlanOptions(
        trace,
        gpus,
        slo,
        mix,
        sizes,
        precision,
        speeds,
        tuple(price or ()),
        lengths,
        scale,
        window_s,
        check,
        json,
        values,
        plot,
    )
    try:
        settings = load(config)
    except ConfigError as error:
        Console(stderr=True).print(f"[red]✗[/] {error}", highlight=False)
        raise typer.Exit(2) from error
    raise typer.Exit(command(options, settings, Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)))
