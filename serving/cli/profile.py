"""`gemmule profile`: where a running replica's time goes, in a few lines here and step by step in a file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from serving.cli.remote import Remote, RemoteError


def profile(
    url: str,
    size: str | None,
    replica: str | None,
    seconds: float,
    out: Path,
    stacks: bool,
    as_json: bool,
    console: Console,
) -> int:
    """Ask, write the trace (and stacks beside it), print a summary."""
    ask = {"size": size, "replica": replica, "seconds": seconds, "stacks": stacks}
    answer = Remote(url).post("/admin/profile", ask)
    facts = {"replica": answer["replica"], "seconds": answer["seconds"], **answer["summary"]}
    facts["trace"] = _write(out, json.dumps(answer["trace"]))
    if stacks:
        facts["stacks"] = _write(out.with_suffix(".stacks.txt"), collapsed(answer["stacks"]))
    if as_json:
        console.print_json(json.dumps(facts))
    else:
        _print(facts, console)
    return 0


def collapsed(stacks: Mapping[str, int]) -> str:
    """A line for each stack and how often it was seen, as flamegraph.pl and speedscope.app read it."""
    return "".join(f"{stack} {count}\n" for stack, count in stacks.items())


def _write(path: Path, text: str) -> str:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RemoteError(f"cannot write {path}: {error.strerror}; choose another place with --out") from error
    return str(path)


def _print(facts: Mapping[str, Any], console: Console) -> None:
    parts = "  ".join(f"{name} {share:.1%}" for name, share in facts["part_share"].items())
    lines = [
        f"{facts['replica']}: {facts['steps']:,} steps in {facts['seconds']:.1f} s, busy {facts['busy_share']:.0%}",
        f"  {facts['ms_per_step']:.2f} ms per step, {facts['sequences_per_step']:.1f} sequences in each; {parts}",
        f"  {facts['tokens']:,} tokens computed, {facts['output_tokens']:,} of them answers",
        f"  trace   {facts['trace']}    open it in https://ui.perfetto.dev or chrome://tracing",
    ]
    if "stacks" in facts:
        lines.append(f"  stacks  {facts['stacks']}    open it in https://www.speedscope.app, or flamegraph.pl")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
