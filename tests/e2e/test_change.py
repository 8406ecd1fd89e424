"""Settings of a running service change under load: nothing is lost, and never are there more replicas than before."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from tests.e2e.conftest import Served, await_ready, start, stop

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]  # the rest of the suite may be at work beside it

_PAUSE_S = 0.2  # between an answer and the next request of a client: a start needs some of the processors too
MODELS = ("2b", "9b", "27b", "economy", "balanced", "premium")
SIZES: dict[str, dict[str, Any]] = {
    "2b": {"source": "embedded:nano-2b", "usd_per_mtoken": 0.10},
    "9b": {"source": "embedded:nano-9b", "usd_per_mtoken": 0.35},
    "27b": {"source": "embedded:nano-27b", "usd_per_mtoken": 1.04, "tensor_parallel": 2},
}


@dataclass
class Seen:
    """What clients got, and which replicas a watcher saw."""

    answers: list[tuple[str, str, float]] = field(default_factory=list)  # asked for, answered by, seconds
    lost: list[str] = field(default_factory=list)
    loaded: list[dict[str, int]] = field(default_factory=list)  # processes with an engine, by size, at each look


def write(path: Path, sizes: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump({"cluster": {"sizes": dict(sizes)}}))
    return path


async def replicas(client: httpx.AsyncClient) -> dict[str, list[str]]:
    sizes = (await client.get("/v1/status")).json()["sizes"]
    return {size["size"]: [each["replica"] for each in size["replicas"]] for size in sizes}


def engines(root: psutil.Process) -> dict[str, int]:
    """Replica processes under the command, by size, as Ray names them; idle workers have no such name."""
    found = dict.fromkeys(SIZES, 0)
    for process in root.children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        for size in SIZES:
            found[size] += f"ServeReplica:gemmule:{size}" in title
    return found


@asynccontextmanager
async def loaded(served: Served, seen: Seen) -> AsyncIterator[None]:
    """Six clients, one for each model, that ask again as soon as they are answered; half of them stream."""
    over = asyncio.Event()

    async def ask(client: httpx.AsyncClient, model: str, stream: bool) -> None:
        body = {
            "model": model, "stream": stream, "max_tokens": 24,
            "messages": [{"role": "user", "content": "Repeat: one two three four five six"}],
        }  # fmt: skip
        while not over.is_set():
            began_s = time.monotonic()
            try:
                answer = await client.post("/v1/chat/completions", json=body)
            except httpx.HTTPError as error:
                seen.lost.append(f"{model} stream={stream}: {error!r} after {time.monotonic() - began_s:.1f} s")
                continue
            complete = "data: [DONE]" in answer.text if stream else '"finish_reason"' in answer.text
            if answer.status_code == 200 and complete and '"error"' not in answer.text:
                by = answer.headers["x-gemmule-size"]
                seen.answers.append((model, by, time.monotonic() - began_s))
            else:
                seen.lost.append(f"{model} stream={stream}: {answer.status_code} {answer.text[:300]}")
            await asyncio.sleep(_PAUSE_S)

    async def watch() -> None:
        root = psutil.Process(served.process.pid)
        while not over.is_set():
            seen.loaded.append(await asyncio.to_thread(engines, root))
            await asyncio.sleep(0.25)

    client = httpx.AsyncClient(base_url=served.url, timeout=120, trust_env=False)
    async with client, asyncio.TaskGroup() as group:
        for index, model in enumerate(MODELS):
            group.create_task(ask(client, model, stream=index % 2 == 0))
        group.create_task(watch())
        try:
            yield
        finally:
            over.set()


async def apply(served: Served, config: Path) -> dict[str, Any]:
    """By the command, in a process of its own."""
    command = [sys.executable, "-m", "serving.main", "apply", str(config), "--port", str(served.http_port), "--json"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert "done_s" in report, report
    return report


async def test_a_version_changes_under_load_without_a_replica_more_or_a_request_less(tmp_path: Path) -> None:
    served = start(tmp_path, "--config", str(write(tmp_path / "one.yaml", SIZES)))
    try:
        await_ready(served)
        async with httpx.AsyncClient(base_url=served.url, timeout=30, trust_env=False) as client:
            await change_both(served, client, tmp_path)
    finally:
        stop(served)


async def change_both(served: Served, client: httpx.AsyncClient, folder: Path) -> None:
    before, seen = await replicas(client), Seen()
    price = SIZES | {"2b": SIZES["2b"] | {"usd_per_mtoken": 0.20}}
    version = price | {"9b": SIZES["9b"] | {"engine": {"kv_tokens": 16_384}}}
    async with loaded(served, seen):
        await asyncio.sleep(2)
        report = await apply(served, write(folder / "price.yaml", price))
        assert [(each["path"], each["kind"]) for each in report["changes"]] == [
            ("cluster.sizes.2b.usd_per_mtoken", "live")
        ]
        assert await replicas(client) == before
        prices = {size["size"]: size["usd_per_mtoken"] for size in (await client.get("/v1/status")).json()["sizes"]}
        assert prices["2b"] == 0.20
        live_s = report["done_s"]

        report = await apply(served, write(folder / "version.yaml", version))
        assert [(each["path"], each["kind"], each["size"]) for each in report["changes"]] == [
            ("cluster.sizes.9b.engine.kv_tokens", "replace", "9b")
        ]
        await asyncio.sleep(2)
    after = await replicas(client)
    assert (after["2b"], after["27b"]) == (before["2b"], before["27b"])
    assert len(after["9b"]) == 1
    assert after["9b"] != before["9b"]
    (status,) = [size for size in (await client.get("/v1/status")).json()["sizes"] if size["size"] == "9b"]
    assert status["replicas"][0]["total_kv_tokens"] == 16_384
    assert not seen.lost
    assert {model for model, _, _ in seen.answers} == set(MODELS)
    assert max(look["9b"] for look in seen.loaded) == 1
    longest = {model: round(max(s for asked, _, s in seen.answers if asked == model), 1) for model in MODELS}
    figures = {"answers": len(seen.answers), "live_s": live_s, "replaced_s": report["done_s"], "longest_s": longest}
    print(json.dumps(figures))
