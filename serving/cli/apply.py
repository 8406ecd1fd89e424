"""`gemmule apply`: other settings for a running `gemmule serve`, and what it does of them, as it happens."""

from dataclasses import asdict
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from cluster.change import Change, Kind, changes_of
from cluster.local import Progress, StartError, change, room_for
from serving.cli.door import DoorError, Line, Tell, ask
from serving.config import ConfigError, Settings, from_tree
from serving.ingress import serve_config_of

_NO_ROOM: Final = "cluster.sizes: more replicas at most than this Ray was started for; start `gemmule serve` anew"


def apply(settings: Settings, http_port: int, as_json: bool, console: Console) -> int:
    """The exit status: 0 done (or nothing to do), 1 refused or failed."""
    last: Line = {}
    doing = Live(Spinner("dots", "asking"), console=console, transient=True, refresh_per_second=8)
    try:
        with doing:
            for last in ask(http_port, {"settings": settings.model_dump(mode="json")}):
                if "doing" in last:
                    doing.update(Spinner("dots", _words(last)))
                elif "changes" in last and not as_json:
                    doing.console.print(table([Change(**each) for each in last["changes"]]))
        if not last.keys() & {"done_s", "error"}:
            last = {"error": "`gemmule serve` ended before it was done"}
    except DoorError as error:
        last = {"error": str(error)}
    if as_json:
        console.print_json(data=dict(last))
    elif "error" in last:
        console.print(f"[red]✗[/] {last['error']}", highlight=False)
    else:
        console.print(f"[green]done[/] after {last['done_s']:.1f} s" if last.get("done_s") else "nothing differs")
    return 1 if "error" in last else 0


def applied(running: Settings, asked: Line, tell: Tell) -> Settings:
    """The serving side: do it, tell how it goes, and return the settings that are followed from now on."""
    try:
        new = _listening_as(running, from_tree(asked["settings"]))
        changes = changes_of(running.model_dump(mode="json"), new.model_dump(mode="json"))
        refusal = "" if room_for(new.cluster) else _NO_ROOM
    except (ConfigError, KeyError) as error:
        tell({"error": str(error)})
        return running
    if refusal:
        tell({"error": refusal})
        return running
    tell({"changes": [asdict(each) for each in changes]})
    if not changes:
        tell({"done_s": 0.0})
        return running
    try:
        took_s = change(serve_config_of(new), lambda progress: tell(_doing(progress)))
        tell({"done_s": took_s, "changes": [asdict(each) for each in changes]})
    except StartError as error:
        tell({"error": f"{error}\nwhat is left serves on; apply the settings before, or better ones"})
    return new


def _listening_as(running: Settings, new: Settings) -> Settings:
    """Host and ports stay those that it was started with, by flags perhaps."""
    stays = {name: getattr(running.server, name) for name in ("host", "http_port", "grpc_port")}
    return new.model_copy(update={"server": new.server.model_copy(update=stays)})


def table(changes: list[Change]) -> Table:
    """One row a setting."""
    rows = Table(box=None, pad_edge=False, padding=(0, 2))
    for column in ("setting", "before", "after", "what it does"):
        rows.add_column(column)
    for each in changes:
        what = f"{each.kind} {each.size}" if each.size and each.kind is not Kind.LIVE else str(each.kind)
        rows.add_row(each.path, shown(each.before), shown(each.after), what)
    return rows


def shown(value: Any) -> str:
    """A value in a cell; long ones are cut."""
    return "–" if value is None else f"{value!s:.40}"


def _doing(progress: Progress) -> dict[str, Any]:
    return {"doing": progress.deployments, "elapsed_s": progress.elapsed_s}


def _words(line: Line) -> str:
    moving = [name for name, state in line["doing"].items() if state != "ready"]
    return f"{line['elapsed_s']:.0f} s … {', '.join(sorted(moving)) or 'replicas one after another'}"
