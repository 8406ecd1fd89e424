"""The sub-commands of `gemmule routing`, as typed."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

routing = typer.Typer(help="Learn from labelled prompts which size a prompt needs.", no_args_is_help=True)


@routing.command()
def calibrate(
    data: Annotated[Path, typer.Option(help="CSV: prompt or question, prompt_tokens, correct_SIZE, out_tokens_SIZE.")],
    profile: Annotated[Path, typer.Option(help="Profile to write.")],
    about: Annotated[str, typer.Option(help="A sentence on the data, kept in the profile.")] = "",
    json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Fit a profile and show what its promises cost on prompts that were not fitted on."""
    from serving.cli.routing import calibrate as command

    raise typer.Exit(command(data, profile, about, json, Console()))


@routing.command()
def decide(
    profile: Annotated[Path, typer.Option(help="Profile that `calibrate` wrote.")],
    quality: Annotated[float, typer.Option(min=0, max=1, help="Share of the largest size's right answers to keep.")],
    prompts: Annotated[Path, typer.Option(help='JSONL of {"id", "prompt", "prompt_tokens"}.')],
    out: Annotated[Path, typer.Option(help="JSONL to write: id, size, quality and output_tokens of each size.")],
) -> None:
    """Choose a size for every prompt of a file; no cluster is needed."""
    from serving.cli.routing import decide as command

    raise typer.Exit(command(profile, quality, prompts, out))
