"""`gemmule explain`: what a prompt would cost and take on every size, which one would answer, and why."""

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from serving.cli.remote import Remote


def explain(
    url: str, prompt: str, model: str, limits: Mapping[str, float | None], as_json: bool, console: Console
) -> int:
    """Ask for a quote and print it; 1 when the request would be refused now. Nothing is run."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], **limits}
    quote = Remote(url).post("/v1/quote", body)
    if as_json:
        console.print_json(json.dumps(quote))
    else:
        show(quote, console)
    return 0 if quote["chosen"] else 1


def show(quote: Mapping[str, Any], console: Console) -> None:
    """A table of the sizes, and the choice in words."""
    console.print(_table(quote))
    for line in _words(quote):
        console.print(line, highlight=False, markup=False)


def _table(quote: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for column in ("", "size", "right with", "price", "at most", "tokens", "half within", "9 of 10 within", "load"):
        table.add_column(column, justify="left" if column in ("", "size") else "right")
    for size in quote["sizes"]:
        chosen = size["size"] == quote["chosen"]
        mark = "→" if chosen else "then" if size["size"] == quote["then"] else ""
        table.add_row(
            mark,
            size["size"],
            f"{size['quality']:.0%}",
            _usd(size["cost_usd"]),
            _usd(size["max_cost_usd"]),
            f"{size['prompt_tokens']} + {size['expected_output_tokens']:.0f}",
            _seconds(size["time_p50_s"]),
            _seconds(size["time_p90_s"]),
            f"{size['load']:.0%}" if size["ready"] else "not ready",
            style="bold" if chosen else None,
        )
    return table


def _words(quote: Mapping[str, Any]) -> list[str]:
    if quote["chosen"] is None:
        return [f"refused now ({quote['reason']}): {quote['detail']}"]
    who = (
        f"{quote['chosen']} would answer" if quote["tier"] is None else f"{quote['tier']} would take {quote['chosen']}"
    )
    then = f", and {quote['then']} if that looks weak" if quote["then"] else ""
    return [f"{who}{then} ({quote['reason']}): {quote['detail']}"]


def _usd(usd: float) -> str:
    """In millionths where a cent would be much."""
    return f"{usd * 1e6:,.2f} µUSD" if usd < 1e-3 else f"{usd:.4f} USD"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
