"""Dashboards and alerts as the chart renders them, the queries in them, and Prometheus where it is at hand."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from tests.chart import tools
from tests.chart.tools import Tree

ON: Final[Tree] = {"monitoring": {part: {"enabled": True} for part in ("podMonitor", "rules", "dashboards")}}
TARGET: Final = frozenset({"job", "namespace", "pod", "instance", "container", "endpoint", "ray_io_cluster"})
"""Labels that come with the scrape and not with the page."""
_SELECTOR: Final = re.compile(r"\b((?:gemmule|ray)_\w+)\{([^}]*)\}")
_NAME: Final = re.compile(r"\b(?:gemmule|ray)_\w+\b(?!\")")
_MATCHER: Final = re.compile(r"(\w+)(=~|!=|=)\"([^\"]*)\"")
_GROUPED: Final = re.compile(r"\b(?:by|without|on|group_left) \(([^)]*)\)")


def objects(*value_sets: str, **options: Any) -> list[Tree]:
    """Rendered with all of monitoring, unless told otherwise."""
    return tools.objects(*value_sets, **{"values": ON, **options})


def alerts(*value_sets: str, **options: Any) -> dict[str, Tree]:
    """Rules by name."""
    (rules,) = tools.of_kind(objects(*value_sets, **options), "PrometheusRule")
    return {rule["alert"]: rule for group in rules["spec"]["groups"] for rule in group["rules"]}


def boards() -> dict[str, Tree]:
    """Dashboards by the name of their file, as Grafana would read them."""
    found = [
        item
        for item in tools.of_kind(objects("minimal"), "ConfigMap")
        if "grafana_dashboard" in item["metadata"]["labels"]
    ]
    return {name: json.loads(text) for item in found for name, text in item["data"].items()}


def queries() -> Iterator[tuple[str, str]]:
    """Where each is, and the query."""
    for name, board in boards().items():
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                yield f"{name}: {panel['title']}", target["expr"]
    for name, rule in alerts("minimal").items():
        yield name, rule["expr"]


def selectors(expr: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Every metric of a query with its matchers: label and value; `a|b` are two."""
    found = [
        (name, [(label, one) for label, _, values in _MATCHER.findall(inside) for one in values.split("|")])
        for name, inside in _SELECTOR.findall(expr)
    ]
    bare = re.sub(r"\"[^\"]*\"", '""', expr)
    assert len(found) == len(_NAME.findall(re.sub(r"ray_io_cluster", "", bare))), (
        f"a metric without its service: {expr}"
    )
    return found


def grouped(expr: str) -> set[str]:
    """Labels that a query groups by or drops."""
    return {label for group in _GROUPED.findall(expr) for label in group.replace(" ", "").split(",") if label}


def program(name: str) -> Path | None:
    """`promtool` or `prometheus`, in the search path or where `scripts/prometheus.sh` puts them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    fetched, there = cache / "gemmule" / "prometheus" / name, shutil.which(name)
    return Path(there) if there else fetched if fetched.exists() else None


def checked(folder: Path, command: str, files: dict[str, Tree]) -> str:
    """What `promtool COMMAND` says of files; the first is named on its command line. Fails when it finds a fault."""
    tool = program("promtool")
    assert tool is not None
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    words = [str(tool), *command.split(), next(iter(files))]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
