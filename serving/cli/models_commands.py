"""The commands under `gemmule models`. Nothing heavy is imported before one of them runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from serving.config import ConfigError, Settings, load

models = typer.Typer(help="List the slots, or download what stands in them.")
_console = Console(width=None if sys.stdout.isatty() else 160)
_errors = Console(stderr=True)

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML file of settings; without it the embedded family is used.")
]


@models.callback(invoke_without_command=True)
def _list(
    context: typer.Context,
    config: Config = None,
    json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """List the slots: size, checkpoint, folder, parameters, degree."""
    if context.invoked_subcommand:
        return
    from serving.cli.models import models as command

    raise typer.Exit(command(_settings(config), json, _console))


@models.command()
def pull(
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="hf://ID, hf://ID@REVISION or kaggle://HANDLE; without any, those of the settings."),
    ] = None,
    config: Config = None,
) -> None:
    """Download checkpoints into this machine's cache (HF_HOME, KAGGLEHUB_CACHE); the token comes from HF_TOKEN."""
    from serving.cli.pull import pull as command

    raise typer.Exit(command(sources or [], _settings(config), _console))


def _settings(config: Path | None) -> Settings:
    try:
        return load(config)
    except ConfigError as error:
        _errors.print(f"[red]✗[/] {error}", highlight=False)
        raise typer.Exit(2) from error
