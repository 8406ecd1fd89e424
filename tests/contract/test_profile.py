"""The operator's endpoint: whose replica, for how long, and what is refused by the name of its field."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from model.config import Size
from serving.cli.profile import profile
from serving.cli.remote import RemoteError
from tests.contract.faces import Faces

SHORT = {"seconds": 0.1}


async def ask(faces: Faces, **body: Any) -> tuple[int, dict[str, Any]]:
    answer = await faces.http.post("/admin/profile", json={**SHORT, **body})
    return answer.status_code, answer.json()


async def test_a_profile_is_a_trace_a_summary_and_on_demand_stacks(faces: Faces) -> None:
    status, answer = await ask(faces)
    assert (status, answer["replica"], answer["stacks"]) == (200, "2b#0", None)
    assert answer["seconds"] == pytest.approx(0.1)
    assert answer["summary"]["ms_per_step"] == pytest.approx(10)
    assert {event["ph"] for event in answer["trace"]["traceEvents"]} == {"M", "i", "X", "C"}
    _, answer = await ask(faces, stacks=True)
    assert answer["stacks"] == {"engine;step": 3}


@pytest.mark.parametrize(
    ("body", "replica"),
    [({"size": "27b"}, "27b#0"), ({"replica": "9b#1"}, "9b#1"), ({"size": "9b", "replica": "9b#1"}, "9b#1"),
     ({"size": None}, "2b#0")],
)  # fmt: skip
async def test_a_name_finds_its_replica(faces: Faces, body: dict[str, Any], replica: str) -> None:
    faces.router.num_replicas = {Size.B9: 2}
    status, answer = await ask(faces, **body)
    assert (status, answer["replica"]) == (200, replica)


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        ({"size": "3b"}, 404, "size", "size_not_found"),
        ({"replica": "2b#9"}, 404, "replica", "replica_not_found"),
        ({"size": "9b", "replica": "2b#0"}, 404, "replica", "replica_not_found"),
        ({"seconds": 61}, 400, "seconds", "decimal_above_max_value"),
        ({"seconds": 0}, 400, "seconds", "decimal_below_min_value"),
        ({"seconds": "5"}, 400, "seconds", "invalid_type"),
        ({"stacks": 1}, 400, "stacks", "invalid_type"),
        ({"second": 5}, 400, "second", "unknown_parameter"),
    ],
)
async def test_a_refusal_names_the_field(
    faces: Faces, body: dict[str, Any], status: int, param: str, code: str
) -> None:
    got, answer = await ask(faces, **body)
    assert (got, answer["error"]["param"], answer["error"]["code"]) == (status, param, code)
    assert answer["error"]["message"].startswith(f"{param}: ")


async def test_a_size_without_replica_is_not_ready(faces: Faces) -> None:
    faces.router.num_replicas = {Size.B27: 0}
    status, answer = await ask(faces, size="27b")
    assert (status, answer["error"]["code"]) == (503, "not_ready")


async def test_the_second_at_once_is_refused_and_one_who_leaves_makes_room(faces: Faces) -> None:
    first = asyncio.create_task(ask(faces, seconds=60))
    async with asyncio.timeout(5):
        while not faces.router.profiled:
            await asyncio.sleep(0.01)
        status, answer = await ask(faces)
        assert (status, answer["error"]["code"]) == (429, "profile_running")
        first.cancel()
        while faces.router.profiled:
            await asyncio.sleep(0.01)
    assert (await ask(faces))[0] == 200


async def test_the_command_writes_files_that_viewers_read(faces: Faces, tmp_path: Path) -> None:
    out, console = tmp_path / "a.json", Console(record=True, width=160)
    code = await asyncio.to_thread(profile, faces.url, "2b", None, 0.1, out, True, False, console)
    assert code == 0
    assert '"traceEvents"' in out.read_text()
    assert (tmp_path / "a.stacks.txt").read_text() == "engine;step 3\n"
    printed = console.export_text()
    assert "2b#0: 1 steps" in printed
    assert "forward 60.0%" in printed
    with pytest.raises(RemoteError, match="size: '3b' is not served here; choose one of 2b, 9b, 27b"):
        await asyncio.to_thread(profile, faces.url, "3b", None, 0.1, out, False, False, console)
