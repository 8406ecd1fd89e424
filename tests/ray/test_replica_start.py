"""A start that goes wrong: it says why, hangs nobody and leaves no process behind."""

import asyncio
import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest
from ray import serve

from tests.ray.test_replica import FOLDER, a_request, an_app, collect, gone, pids_of

pytestmark = pytest.mark.ray

APP = "start"


def followers() -> set[int]:
    """Processes of ranks above 0 on this machine, by the name that Ray gives them."""
    found = set()
    for process in psutil.process_iter(["cmdline"]):
        if any("ray::Rank" in word for word in process.info["cmdline"] or ()):
            found.add(process.pid)
    return found


async def test_a_rank_that_dies_while_loading_does_not_hang_the_start(ray_cluster: None) -> None:
    """The other rank would wait for it for two minutes."""
    before = followers()
    starting = asyncio.create_task(asyncio.to_thread(serve.run, an_app(FOLDER), name=APP, route_prefix=None))
    async with asyncio.timeout(30):
        while not (new := followers() - before):
            await asyncio.sleep(0.05)
    os.kill(new.pop(), signal.SIGKILL)
    async with asyncio.timeout(60):
        replica = await starting
    assert await collect(replica, a_request("after", 5))
    pids = await pids_of(replica)
    await asyncio.to_thread(serve.delete, APP)
    await gone(pids)
    assert followers() <= before


async def test_a_wrong_checkpoint_stays_out_of_traffic(ray_cluster: None, tmp_path: Path) -> None:
    before = followers()
    folder = tmp_path / "nano-27b"
    shutil.copytree(FOLDER, folder)
    spoil(folder)
    with pytest.raises(RuntimeError, match="failed"):
        await asyncio.to_thread(serve.run, an_app(folder, attempts=1), name=APP, route_prefix=None)
    message = serve.status().applications[APP].deployments["27b"].message
    assert "golden_logits.json: logits differ by" in message
    await asyncio.to_thread(serve.delete, APP)
    async with asyncio.timeout(10):
        while followers() - before:
            await asyncio.sleep(0.05)


def spoil(folder: Path) -> None:
    """Raise one golden logit by 0.01, and the manifest's hash with it."""
    path = folder / "golden_logits.json"
    golden = json.loads(path.read_text())
    golden["prompts"][0]["positions"][0]["top_logits"][0] += 0.01
    path.write_text(json.dumps(golden))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][path.name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
