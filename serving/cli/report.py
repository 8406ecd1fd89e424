"""Prints what `gemmule doctor` found."""

import json
from dataclasses import asdict

from rich.console import Console

from serving.cli.doctor import machine_checks
from serving.config import Settings


def print_checks(settings: Settings, as_json: bool, console: Console) -> int:
    """One line per check, ok or a cure; 1 when something needed is missing."""
    checks = machine_checks(settings)
    if as_json:
        console.print_json(json.dumps([asdict(check) for check in checks]))
    else:
        for check in checks:
            mark = "[green]✓[/]" if check.ok else "[red]✗[/]" if check.needed else "[yellow]![/]"
            cure = "" if check.ok else f". {check.cure}"
            console.print(f"{mark} {check.name}: {check.detail}{cure}", highlight=False)
    return int(any(not check.ok and check.needed for check in checks))
