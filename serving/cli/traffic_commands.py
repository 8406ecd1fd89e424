"""The arguments of `gemmule traffic`; what they do is in `serving/cli/traffic.py`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from serving.config import ConfigError, load

traffic = typer.Typer(help="Look at and empty the store of sampled prompts.", no_args_is_help=True)

StorePath = Annotated[Path | None, typer.Option("--store", help="The store; default `traffic.path` of the settings.")]
Config = Annotated[Path | None, typer.Option("--config", "-c", help="YAML file of settings.")]


@traffic.command()
def show(
    store: StorePath = None,
    config: Config = None,
    json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """How many prompts, how old, how large on disk; never what they say."""
    from serving.cli.traffic import show as command

    raise typer.Exit(command(_path(store, config), json, Console()))


@traffic.command()
def purge(
    store: StorePath = None,
    config: Config = None,
    older_than: Annotated[str | None, typer.Option(help="Only prompts older than this: 7d, 12h, 30m, 45s.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove prompts so that no byte of them is left in the store's files."""
    from serving.cli.traffic import purge as command
    from serving.cli.traffic import seconds_of

    try:
        older_than_s = None if older_than is None else seconds_of(older_than)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from None
    path = _path(store, config)
    if not yes:
        typer.confirm(
            f"Remove {'all prompts' if older_than is None else f'prompts older than {older_than}'}?", abort=True
        )
    raise typer.Exit(command(path, older_than_s, Console()))


def _path(store: Path | None, config: Path | None) -> Path:
    try:
        path = store or load(config).traffic.path
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="--config") from None
    if path is None:
        raise typer.BadParameter("`traffic.path` is not set; name the store", param_hint="--store")
    return path
