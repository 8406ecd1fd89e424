"""The sub-commands of `gemmule routing`, as typed."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from serving.cli.remote import DEFAULT_URL

routing = typer.Typer(help="Learn from labelled prompts which size a prompt needs.", no_args_is_help=True)


@routing.command()
def calibrate(
    profile: Annotated[Path, typer.Option(help="Profile to write.")],
    data: Annotated[
        Path | None, typer.Option(help="CSV: prompt or question, prompt_tokens, correct_SIZE, out_tokens_SIZE.")
    ] = None,
    from_log: Annotated[
        Path | None, typer.Option("--from-log", help="Instead of labels: the store of sampled prompts.")
    ] = None,
    url: Annotated[
        str, typer.Option("--url", envvar="GEMMULE_URL", help="With --from-log: the gemmule that answers and scores.")
    ] = DEFAULT_URL,
    limit: Annotated[int | None, typer.Option(min=1, help="With --from-log: prompts at most, the newest.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="With --from-log: prompts at once.")] = 8,
    margin: Annotated[
        float | None,
        typer.Option(
            min=0, help="With --from-log: nats that a token may be less likely than the likeliest; default 1."
        ),
    ] = None,
    about: Annotated[str, typer.Option(help="A sentence on the data, kept in the profile.")] = "",
    json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Fit a profile and show what its promises cost on prompts that were not fitted on.

    From labels, or with --from-log from sampled prompts that the running sizes answer and the largest scores.
    """
    if (data is None) == (from_log is None):
        raise typer.BadParameter("give one of --data LABELS.csv and --from-log STORE")
    if from_log is not None:
        from serving.cli.from_log import Asked, calibrate_from_log

        asked = Asked(from_log, url, limit, concurrency, margin)
        raise typer.Exit(calibrate_from_log(asked, profile, about, json, Console()))
    from serving.cli.routing import calibrate as command

    assert data is not None  # noqa: S101 - one of the two was given
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
