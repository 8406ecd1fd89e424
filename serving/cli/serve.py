"""`gemmule serve`: the whole cluster on this machine, in the foreground."""

import signal
import time
from types import FrameType

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from cluster.local import Endpoint, Progress, StartError, ray_here, run
from serving.cli.apply import applied
from serving.cli.doctor import machine_checks
from serving.cli.door import Line, Tell, answer_one, door
from serving.cli.remote import Remote, RemoteError
from serving.cli.words import curl_line, fit_at_once, memory, shown_name
from serving.config import Settings
from serving.ingress import GRPC_SERVICER_FUNCTIONS, serve_config_of


def serve(settings: Settings, console: Console) -> int:
    """Start, say where, and stay until Ctrl-C; the exit status: 0, or 1 when it did not come up."""
    failed = [check for check in machine_checks(settings) if not check.ok and check.needed]
    if failed:
        for check in failed:
            console.print(f"[red]✗[/] {check.name}: {check.detail}. {check.cure}")
        return 1
    signal.signal(signal.SIGTERM, _as_interrupt)
    server = settings.server
    endpoint = Endpoint(server.host, server.http_port, server.grpc_port, GRPC_SERVICER_FUNCTIONS)
    began_s = time.monotonic()
    try:
        with Live(Spinner("dots", "starting Ray"), console=console, refresh_per_second=8, transient=True) as live:
            live.update(_view(Progress(0.0, "starting a local Ray", {}), began_s))
            with ray_here(settings.cluster):
                run(serve_config_of(settings), endpoint, lambda progress: live.update(_view(progress, began_s)))
                _await_faces(settings, live, began_s)
                live.stop()
                _announce(settings, console, time.monotonic() - began_s)
                _stay(settings, console)
    except StartError as error:
        console.print(f"[red]✗[/] {error}")
        return 1
    except (KeyboardInterrupt, SystemExit):  # Ray puts its own SIGTERM handler over ours, which exits
        pass
    console.print("stopped; nothing is left behind")
    return 0


def _as_interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _stay(settings: Settings, console: Console) -> None:
    """Until Ctrl-C; `gemmule apply` is answered meanwhile."""
    followed = settings

    def handle(asked: Line, tell: Tell) -> None:
        nonlocal followed
        followed = applied(followed, asked, tell)

    try:
        with door(settings.server.http_port) as listening:
            while True:
                answer_one(listening, handle)
    except KeyboardInterrupt:
        console.print("stopping …")


def _await_faces(settings: Settings, live: Live, began_s: float) -> None:
    """Wait until readiness is true through the front door, which is what a client sees."""
    remote = Remote(address(settings))
    last = ""
    for _ in range(240):
        try:
            remote.get("/readyz")
        except RemoteError as error:
            last = str(error)
            live.update(_view(Progress(0.0, "waiting for readiness", {}), began_s))
            time.sleep(0.25)
        else:
            return
    raise StartError(f"the sizes are up, yet /readyz stays false: {last}")


def address(settings: Settings) -> str:
    """The REST address a client on this machine uses."""
    host = "127.0.0.1" if settings.server.host in ("0.0.0.0", "::") else settings.server.host  # noqa: S104
    return f"http://{host}:{settings.server.http_port}"


def _view(progress: Progress, began_s: float) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_row(Spinner("dots"), f"{progress.step} … {time.monotonic() - began_s:.0f} s")
    for name, doing in sorted(progress.deployments.items(), key=lambda item: (len(item[0]), item[0])):
        mark = {"ready": "[green]✓[/]", "failed": "[red]✗[/]"}.get(doing, "·")
        grid.add_row(mark, f"{name} {doing}")
    return grid


def _announce(settings: Settings, console: Console, took_s: float) -> None:
    """Addresses, a line to paste, and what is in each slot."""
    url = address(settings)
    status = Remote(url).get("/v1/status")
    console.print(f"[bold green]ready[/] after {took_s:.0f} s")
    console.print(f"  REST  {url}        (API pages: {url}/docs)")
    console.print(f"  gRPC  {url.split('://')[1].rsplit(':', 1)[0]}:{settings.server.grpc_port}")
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for column in ("size", "checkpoint", "parameters", "ranks", "weights", "KV blocks", "fit at once, per replica"):
        table.add_column(column)
    for size in status["sizes"]:
        first = next(iter(size["replicas"]), None)
        capacity = first and first["capacity"]
        table.add_row(
            size["size"],
            shown_name(size["checkpoint"], size["stand_in"]),
            f"{size['parameters'] / 1e6:,.1f} M",
            str(size["tensor_parallel"]),
            memory(sum(rank["weight_bytes"] for rank in first["ranks"])) if first else "–",
            f"{capacity['kv_blocks']:,}" if capacity else "–",
            fit_at_once(capacity),
        )
    console.print(table)
    if any(size["stand_in"] for size in status["sizes"]):
        console.print(
            "[yellow]The checkpoints are small stand-ins of the Gemma 2 architecture, trained on toy tasks: "
            "they are not Gemma.[/] Real weights: docs/real-checkpoints.md"
        )
    console.print("try:", style="bold")
    console.print(f"  {curl_line(url)}", soft_wrap=True, highlight=False)
    console.print("  gemmule chat            (in a second terminal; Ctrl-C here stops everything)", highlight=False)
