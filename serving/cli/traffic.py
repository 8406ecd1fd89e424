"""`gemmule traffic`: what the store of sampled prompts holds, in numbers, and how to empty it."""

import json
import re
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from serving.traffic.store import Store, Summary, TrafficError, summary_at

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def show(path: Path, as_json: bool, console: Console) -> int:
    """Counts, times and size on disk; 2 when there is no store. Never a text."""
    try:
        summary = summary_at(path)
    except TrafficError as error:
        return _said(error)
    if as_json:
        console.print_json(json.dumps(asdict(summary)))
    else:
        console.print(_table(path, summary))
    return 0


def purge(path: Path, older_than_s: float | None, console: Console) -> int:
    """Remove prompts for good; 2 when that cannot be promised."""
    try:
        store = Store.open_existing(path)
        try:
            gone = store.purge(None if older_than_s is None else time.time() - older_than_s)
        finally:
            store.close()
    except TrafficError as error:
        return _said(error)
    console.print(f"{gone} prompts removed; no byte of them is left in {path}", highlight=False, soft_wrap=True)
    return 0


def seconds_of(words: str) -> float:
    """`7d`, `12h`, `30m` or `45s`; raises `ValueError`."""
    found = re.fullmatch(r"(\d+)([smhd])", words)
    if found is None:
        raise ValueError(f"got {words!r}, needs a number and s, m, h or d, such as 7d")
    return float(found[1]) * _UNITS_S[found[2]]


def _table(path: Path, summary: Summary) -> Table:
    table = Table(title=str(path), show_header=False, box=None)
    table.add_row("prompts", f"{summary.prompts:,}")
    for model, count in summary.models.items():
        table.add_row(f"  asked of {model}", f"{count:,}")
    table.add_row("prompt tokens", f"{summary.prompt_tokens:,}")
    table.add_row("oldest", _date(summary.oldest_s))
    table.add_row("newest", _date(summary.newest_s))
    table.add_row("on disk", f"{summary.bytes_on_disk / 1e6:,.2f} MB")
    return table


def _date(time_s: float | None) -> str:
    return "–" if time_s is None else datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds")


def _said(error: TrafficError) -> int:
    Console(stderr=True).print(f"[red]✗[/] {error}", highlight=False, soft_wrap=True)
    return 2
