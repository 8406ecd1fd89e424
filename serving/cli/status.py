"""`gemmule status`: what runs, where, and how busy it is."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from model.instruments import PARTS
from serving.cli.remote import Remote
from serving.cli.words import curl_line, fit_at_once, memory, share, shown_name
from serving.config import Settings


def status(url: str, as_json: bool, curl: bool, console: Console) -> int:
    """Sizes, replicas and ranks of a running gemmule; 1 when a size has no replica."""
    remote = Remote(url)
    answer = remote.get("/v1/status")
    if curl:
        _print_curl(remote.url, console)
    elif as_json:
        console.print_json(json.dumps(answer))
    else:
        console.print(_table(answer))
        console.print(engines(answer))
        console.print(scaling(answer))
    return 0 if all(size["ready"] for size in answer["sizes"]) else 1


def limits(settings: Settings, as_json: bool, console: Console) -> int:
    """Every bound on what a request or the cluster may take, as configured."""
    rows: dict[str, Any] = {
        "server.max_body_bytes": settings.server.max_body_bytes,
        **{f"routing.{key}": value for key, value in settings.cluster.routing.model_dump().items()},
    }
    for size, config in settings.cluster.sizes.items():
        engine = config.engine.model_dump(mode="json")
        rows |= {f"{size}.{key}": value for key, value in engine.items()}
    if as_json:
        console.print_json(json.dumps(rows))
    else:
        for key, value in rows.items():
            console.print(f"{key:32} {value}", highlight=False)
    return 0


def _table(answer: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for column in (
        "size",
        "checkpoint",
        "replica",
        "rank",
        "pid",
        "weights",
        "running",
        "waiting",
        "KV free",
        "fit at once",
    ):
        table.add_column(column)
    for size in answer["sizes"]:
        name = shown_name(size["checkpoint"], size["stand_in"])
        if not size["replicas"]:
            table.add_row(size["size"], name, "[yellow]none yet[/]")
        for replica in size["replicas"]:
            for rank in replica["ranks"]:
                first = rank["rank"] == 0
                table.add_row(
                    size["size"] if first else "",
                    name if first else "",
                    replica["replica"] if first else "",
                    str(rank["rank"]),
                    str(rank["pid"]),
                    memory(rank["weight_bytes"]),
                    str(replica["running"]) if first else "",
                    str(replica["waiting"]) if first else "",
                    f"{replica['free_kv_tokens']:,} / {replica['total_kv_tokens']:,}" if first else "",
                    fit_at_once(replica["capacity"]) if first else "",
                )
    return table


def engines(answer: dict[str, Any]) -> Table:
    """A line per replica: how full it is, and where the time of its steps has gone since its start."""
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for column in ("replica", "running/waiting", "blocks free", "cache hits", "ms per step", *PARTS):
        table.add_column(column)
    for replica in (replica for size in answer["sizes"] for replica in size["replicas"]):
        stats = replica["stats"]
        if stats is None:
            continue
        blocks = stats["free_blocks"] + stats["cached_blocks"]
        all_s = sum(stats["part_s"].values())
        table.add_row(
            replica["replica"],
            f"{stats['running']}/{stats['waiting']}",
            f"{blocks:,} / {stats['total_blocks']:,}",
            share(stats["prefix_hit_tokens"], stats["prefix_asked_tokens"]),
            f"{all_s / stats['steps'] * 1000:.1f}" if stats["steps"] else "–",
            *(share(stats["part_s"][part], all_s) for part in PARTS),
        )
    return table


def scaling(answer: dict[str, Any]) -> Table:
    """A line per size: replicas that it shall have and has, and why."""
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for column in ("size", "target", "wanted", "running", "starting", "draining", "why"):
        table.add_column(column)
    for size in answer["scaling"]["sizes"]:
        numbers = (str(size[name]) for name in ("target", "wanted", "running", "starting", "draining"))
        table.add_row(size["size"], *numbers, size["reason"])
    return table


def _print_curl(url: str, console: Console) -> None:
    console.print(curl_line(url), soft_wrap=True, highlight=False, markup=False)
    call = '{"model": "auto", "chat": {"messages": [{"role": "ROLE_USER", "content": "What is 12 + 30?"}]}}'
    console.print(
        f"grpcurl -plaintext -d '{call}' 127.0.0.1:9000 gemmule.v1.GemmuleService/Generate",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
