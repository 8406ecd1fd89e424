"""`gemmule models pull`: checkpoints into this machine's cache, before anything needs them."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from model.errors import CheckpointError
from model.source import parse_source, resolve
from serving.config import Settings

Wanted = tuple[str, str | None]  # source, revision


def pull(sources: Sequence[str], settings: Settings, console: Console) -> int:
    """The given sources (`hf://ID@REVISION`), or those of the settings; 1 when one of them cannot be had.

    Files that are there already are not fetched again. The hub's own bars show the progress.
    """
    wanted = [_split(source) for source in sources] or _configured(settings)
    token = os.environ.get(settings.cluster.token_env)
    failed = 0
    for source, revision in wanted:
        began_s = time.monotonic()
        try:
            folder = resolve(parse_source(source), revision, token)
        except CheckpointError as error:
            console.print(f"[red]✗[/] {error}", highlight=False)
            failed = 1
            continue
        shown = f"{source}@{revision}" if revision else source
        took = f"{_bytes_in(folder) / 1e9:.1f} GB, {time.monotonic() - began_s:.0f} s"
        console.print(f"[green]✓[/] {shown}: {folder} ({took})", highlight=False)
    return failed


def _split(source: str) -> Wanted:
    name, _, revision = source.partition("@")
    return name, revision or None


def _configured(settings: Settings) -> list[Wanted]:
    return list(dict.fromkeys((config.source, config.revision) for config in settings.cluster.sizes.values()))


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
