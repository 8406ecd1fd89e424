"""The command `gemmule`. Nothing heavy is imported here; each command brings what it needs."""

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from serving.cli.models_commands import models
from serving.cli.plan_command import plan
from serving.cli.remote import DEFAULT_URL, RemoteError
from serving.cli.routing_commands import routing
from serving.cli.traffic_commands import traffic
from serving.config import ConfigError, Settings, load

app = typer.Typer(
    name="gemmule",
    help="Gemma 2 in all three sizes behind one endpoint, routed by cost tier. Start with `gemmule serve`.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
_bench = typer.Typer(help="Measure, by turns and beside the machine's own limits.", no_args_is_help=True)
app.add_typer(_bench, name="bench")
app.add_typer(models, name="models")
app.add_typer(routing, name="routing")
app.add_typer(traffic, name="traffic")
app.command()(plan)
_PIPED_WIDTH = 160  # columns where the output is no terminal
_console = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
_errors = Console(stderr=True)

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML file of settings; without it the embedded family is used.")
]
Url = Annotated[str, typer.Option("--url", envvar="GEMMULE_URL", help="REST address of a running gemmule.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


@app.command()
def serve(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Address to bind; default 127.0.0.1.")] = None,
    http_port: Annotated[int | None, typer.Option(help="REST port; default 8000.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="gRPC port; default 9000.")] = None,
) -> None:
    """Serve every size on this machine, in the foreground, until Ctrl-C."""
    from cluster.environment import prepare

    prepare()  # before anything imports Ray
    from serving.cli.serve import serve as command

    flags = {"server.host": host, "server.http_port": http_port, "server.grpc_port": grpc_port}
    _leave(command(_settings(config, flags), _console))


@app.command("apply")
def apply_settings(
    config: Annotated[Path, typer.Argument(help="YAML file of settings, whole, as `gemmule serve --config` reads it.")],
    port: Annotated[
        int | None, typer.Option(help="REST port of the `gemmule serve` that is meant; default the file's.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Change the settings of a running `gemmule serve` of yours on this machine, replica by replica where one is."""
    from cluster.environment import prepare

    prepare()
    from serving.cli.apply import apply as command

    settings = _settings(config, {"server.http_port": port})
    _leave(command(settings, settings.server.http_port, json, _console))


@app.command("diff")
def diff_settings(
    before: Annotated[Path, typer.Argument(help="Settings, or values of the chart, as they are.")],
    after: Annotated[Path, typer.Argument(help="And as they shall be, whole.")],
    chart: Annotated[Path, typer.Option(help="The chart, for values; helm renders it.")] = Path("helm/gemmule"),
    url: Annotated[
        str | None, typer.Option(envvar="GEMMULE_URL", help="A running gemmule, for its replicas and start times.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Say which kind of upgrade a change is and what it costs, before anything moves.

    Exit status: 0 nothing ends, 10 replicas are replaced, 20 a second cluster is started, 30 refused or in vain.
    """
    from serving.cli.diff import diff as command

    _leave(_remote(lambda: command(before, after, chart, url, json, _console)))


@app.command()
def chat(
    url: Url = DEFAULT_URL,
    model: Annotated[str, typer.Option("--model", "-m", help="A size (2b, 9b, 27b) or a tier.")] = "auto",
) -> None:
    """Talk to a running gemmule in the terminal."""
    from serving.cli.chat import chat as command

    _leave(command(url, model, _console))


@app.command()
def explain(
    prompt: Annotated[str, typer.Argument(help="What would be asked.")],
    url: Url = DEFAULT_URL,
    model: Annotated[str, typer.Option("--model", "-m", help="A size (2b, 9b, 27b) or a tier.")] = "auto",
    max_cost: Annotated[float | None, typer.Option(help="USD at most.")] = None,
    deadline_ms: Annotated[int | None, typer.Option(help="Time for the whole answer.")] = None,
    min_quality: Annotated[float | None, typer.Option(help="Share of the largest size's right answers.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens of the answer at most.")] = None,
    json: AsJson = False,
) -> None:
    """Show what a prompt would cost and take on every size, which would answer, and why; runs nothing."""
    from serving.cli.explain import explain as command

    limits = {
        "max_cost": max_cost, "deadline_ms": deadline_ms, "min_quality": min_quality, "max_tokens": max_tokens
    }  # fmt: skip
    _leave(_remote(lambda: command(url, prompt, model, limits, json, _console)))


@app.command()
def status(
    url: Url = DEFAULT_URL,
    json: AsJson = False,
    curl: Annotated[bool, typer.Option("--curl", help="Print lines to paste instead.")] = False,
    limits: Annotated[bool, typer.Option("--limits", help="Print every configured limit instead.")] = False,
    config: Config = None,
) -> None:
    """Show sizes, replicas and ranks of a running gemmule."""
    from serving.cli import status as command

    if limits:
        _leave(command.limits(_settings(config, {}), json, _console))
    _leave(_remote(lambda: command.status(url, json, curl, _console)))


@app.command()
def profile(
    url: Url = DEFAULT_URL,
    size: Annotated[
        str | None, typer.Option(help="A size (2b, 9b, 27b); default the first that has a replica.")
    ] = None,
    replica: Annotated[str | None, typer.Option(help="As `gemmule status` names it; default the size's first.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=60, help="How long to look.")] = 5.0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Chrome trace to write.")] = Path("trace.json"),
    stacks: Annotated[
        bool, typer.Option("--stacks", help="Also sample Python's stacks, for a flame graph beside the trace.")
    ] = False,
    json: AsJson = False,
) -> None:
    """See where the time of a running replica goes; open the trace in ui.perfetto.dev."""
    from serving.cli.profile import profile as command

    _leave(_remote(lambda: command(url, size, replica, seconds, out, stacks, json, _console)))


@app.command()
def check(
    url: Annotated[str | None, typer.Option("--url", help="REST address.")] = None,
    grpc: Annotated[str | None, typer.Option("--grpc", help="gRPC address, host:port without TLS.")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="A size (2b, 9b, 27b) or a tier.")] = "auto",
    json: AsJson = False,
) -> None:
    """Ask a running gemmule whether it is ready, and for one short answer, on REST, gRPC or both."""
    from serving.cli.check import check as command

    if not url and not grpc:
        raise typer.BadParameter("give --url, --grpc or both")
    _leave(command(url, grpc, model, json, _console))


@app.command()
def doctor(config: Config = None, json: AsJson = False) -> None:
    """Check Python, compiler, memory, ports and sources, and say the cure for what is missing."""
    from serving.cli.report import print_checks

    _leave(print_checks(_settings(config, {}), json, _console))


@app.command()
def evaluate(
    url: Url = DEFAULT_URL,
    tasks: Annotated[int, typer.Option("--tasks", "-n", min=10, help="Unseen tasks to ask.")] = 600,
    seed: Annotated[int, typer.Option(help="Which tasks are drawn.")] = 1,
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="Sizes or tiers; default all sizes.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests at once.")] = 16,
    json: AsJson = False,
    plot: Annotated[Path | None, typer.Option(help="Write a plot of the scores (PNG).")] = None,
) -> None:
    """Grade a running gemmule on unseen tasks and print the table of scores."""
    from serving.cli.evaluate import evaluate as command

    _leave(_remote(lambda: command(url, tasks, seed, model or [], concurrency, json, plot, _console)))


@app.command("evaluate-routing")
def evaluate_routing(
    data: Annotated[
        Path | None, typer.Option(help="Labelled prompts, as `gemmule routing calibrate` reads them.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Instead of a file: ask a running gemmule graded tasks, every size and tier.")
    ] = False,
    url: Url = DEFAULT_URL,
    tasks: Annotated[int, typer.Option("--tasks", "-n", min=10, help="With --live: tasks to ask.")] = 330,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="With --live: requests at once.")] = 8,
    splits: Annotated[int, typer.Option(min=1, help="How often to split, fit and choose.")] = 10,
    seed: Annotated[int, typer.Option(help="Which splits are drawn.")] = 0,
    json: AsJson = False,
    plot: Annotated[Path | None, typer.Option(help="Write a plot of cost and quality (PNG or SVG).")] = None,
) -> None:
    """Show what routing costs and keeps: on labelled prompts that were not fitted on, or live, on graded tasks."""
    if live == (data is not None):
        raise typer.BadParameter("give one of --data LABELS.csv and --live")
    if data is None:
        from serving.cli.live_routing import live_routing

        _leave(_remote(lambda: live_routing(url, tasks, seed + 1, concurrency, json, plot, _console)))
    from serving.cli.routing import evaluate_routing as command

    _leave(command(data, splits, seed, json, plot, _console))


@app.command()
def simulate(
    trace: Annotated[
        Path, typer.Argument(help="Azure (CSV), Mooncake (JSON lines) or a table of rates; gzipped or not.")
    ],
    config: Config = None,
    policy: Annotated[
        str, typer.Option("--policy", "-p", help="A list of auto, fixed, power-of-two, largest, cheapest.")
    ] = "auto,fixed",
    device: Annotated[str, typer.Option(help="Kind of device, as the file of speeds names it.")] = "h100-80gb",
    speeds: Annotated[str, typer.Option(help="File of speeds; default the published ones.")] = "published",
    replicas: Annotated[str, typer.Option(help="Bounds in place of the configured, as 2b=1-4,9b=1-2,27b=2.")] = "",
    like: Annotated[
        Path | None, typer.Option(help="For a table of rates: a trace that lengths are drawn from.")
    ] = None,
    share: Annotated[float, typer.Option(min=0, help="Of conversations, or of the rates, that is played.")] = 1.0,
    faster: Annotated[float, typer.Option(min=1e-3, help="How many times as fast requests come.")] = 1.0,
    scale: Annotated[float, typer.Option(min=1e-3, max=1, help="Of the lengths of prompts and answers.")] = 1.0,
    begin: Annotated[float, typer.Option(min=0, help="Hour of the trace to begin at.")] = 0.0,
    hours: Annotated[float | None, typer.Option(min=0, help="Of the trace that are played; default all.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds after which an answer is of no use.")] = 60.0,
    failures: Annotated[float, typer.Option(min=0, help="Lost replicas per replica and hour.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Which tiers, difficulties and failures are drawn.")] = 0,
    json: AsJson = False,
    plot: Annotated[Path | None, typer.Option(help="Write a plot of load and replicas (PNG or SVG).")] = None,
) -> None:
    """Play a trace to a fleet that is not there, under several policies, in minutes for a day; runs no model."""
    from serving.cli.simulate import SimulateOptions
    from serving.cli.simulate import simulate as command

    options = SimulateOptions(
        trace, like, policy, device, speeds, replicas, config is not None, share, faster, scale, hours, begin, timeout,
        failures, seed, json, plot,
    )  # fmt: skip
    published = {} if config else {"cluster.routing.profile": "gemma-2"}  # real sizes, on devices that are not here
    _leave(command(options, _settings(config, published), _console))


@app.command()
def distill(
    teacher: Annotated[str, typer.Option(help="Teacher: a source (embedded:nano-27b, a folder, hf://ID).")],
    student: Annotated[Path, typer.Option(help="Folder of the student, or a config.json to start from nothing.")],
    data: Annotated[str, typer.Option(help="JSONL file of chats, or tasks:SEED for generated ones.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint and report.")],
    prompts: Annotated[
        str | None, typer.Option(help="JSONL or tasks:SEED:COUNT whose questions the teacher answers for the student.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 2000,
    temperature: Annotated[float, typer.Option(min=0.01, help="Softens both distributions.")] = 1.0,
    kl_weight: Annotated[float, typer.Option(min=0, max=1, help="Share of the teacher in the loss.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Order of data and initial weights.")] = 0,
    resume: Annotated[bool, typer.Option(help="Go on from the last state in --out.")] = True,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also train the same student without a teacher.")
    ] = False,
) -> None:
    """Distil a student from a teacher's token distribution (Gemma 2 report, 2024)."""
    from serving.cli.distill import distill as command

    options: dict[str, Any] = {
        "student": student, "data": data, "prompts": prompts, "out": out, "steps": steps, "temperature": temperature,
        "kl_weight": kl_weight, "seed": seed, "resume": resume, "with_baseline": baseline,
    }  # fmt: skip
    _leave(command(teacher, options, _console))


@_bench.command("engine")
def bench_engine(
    shape: Annotated[str, typer.Option(help="Random weights of this shape: 2b, 9b, 27b, or tiny.")] = "2b",
    dtype: Annotated[str, typer.Option(help="Weights in bf16, fp32, int8 or int4.")] = "bf16",
    concurrency: Annotated[str, typer.Option(help="Requests sent at once, a list.")] = "1,8,32",
    against: Annotated[str, typer.Option(help="Peers of vllm, llama.cpp, transformers, a list.")] = "vllm,llama.cpp",
    workload: Annotated[
        str, typer.Option(help="default (128 in, 32 out), long (2,048 in) or prefix (1,024 shared, 64 own).")
    ] = "default",
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each engine; medians are shown.")] = 3,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of every engine; default all processors.")] = None,
    memory_gib: Annotated[
        float | None, typer.Option(help="Engines load side by side up to this; default what is free less 2 GiB.")
    ] = None,
    peers: Annotated[Path, typer.Option(envvar="GEMMULE_PEERS", help="Where `make peers` put them.")] = Path(".peers"),
    cache: Annotated[Path, typer.Option(help="Folder for the weights, kept for the next run.")] = Path(
        ".gemmule/bench"
    ),
    json: Annotated[Path | None, typer.Option("--json", help="Write the rows to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot to this file (PNG or SVG).")] = None,
) -> None:
    """Race our engine against its peers with the same prompts, threads and precision."""
    from serving.cli.bench import BenchOptions
    from serving.cli.bench import bench_engine as command

    options = BenchOptions(
        shape, dtype, concurrency, against, workload, rounds, threads, memory_gib, peers, cache, json, plot
    )
    _leave(command(options, _console))


@_bench.command("speeds")
def bench_speeds(
    out: Annotated[Path, typer.Option("--out", "-o", help="File of speeds to write.")] = Path("speeds.json"),
    config: Config = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each kind of step is timed; medians count.")] = 3,
    usd_per_hour: Annotated[float, typer.Option(min=1e-6, help="Price of this machine, for plans.")] = 0.1,
    json: AsJson = False,
) -> None:
    """Time the steps of every size on this machine, for `gemmule plan` and the simulator."""
    from serving.cli.bench_speeds import SpeedOptions
    from serving.cli.bench_speeds import bench_speeds as command

    _leave(command(SpeedOptions(out, rounds, usd_per_hour, json), _settings(config, {}), _console))


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        _console.print(f"gemmule {installed('gemmule')}", highlight=False)
        raise typer.Exit


def _settings(config: Path | None, flags: dict[str, Any]) -> Settings:
    try:
        return load(config, flags)
    except ConfigError as error:
        _errors.print(f"[red]✗[/] {error}", highlight=False)
        raise typer.Exit(2) from error


def _remote(call: Any) -> int:
    try:
        return int(call())
    except RemoteError as error:
        _errors.print(f"[red]✗[/] {error}", highlight=False)
        return 1


def _leave(code: int) -> NoReturn:
    raise typer.Exit(code)


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
