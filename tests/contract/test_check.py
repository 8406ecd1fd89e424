"""`gemmule check` over running servers."""

import asyncio
import json

import pytest
from rich.console import Console

from serving.cli.check import check
from tests.contract.faces import Faces
from tests.fakes.router import Script


async def checked(
    faces: Faces, model: str = "auto", grpc: str | None = None
) -> tuple[int, dict[str, tuple[bool, str]]]:
    console = Console(record=True, width=200)
    code = await asyncio.to_thread(check, faces.url, grpc or faces.rpc_address, model, True, console)
    rows = json.loads(console.export_text())
    return code, {row["name"]: (row["ok"], row["detail"]) for row in rows}


async def test_both_faces_are_ready_and_answer(faces: Faces) -> None:
    code, found = await checked(faces)
    assert code == 0
    assert list(found) == ["REST ready", "REST chat", "gRPC health", "gRPC chat"]
    assert found["gRPC health"] == (True, "SERVING")
    assert found["REST chat"][1].startswith("9b answered in ")
    assert found["REST chat"] == found["gRPC chat"]


async def test_what_does_not_answer_is_said_and_the_rest_is_asked(faces: Faces) -> None:
    faces.script(Script(pieces=[]))
    code, found = await checked(faces, model="3b")
    assert code == 1
    assert [name for name, (ok, _) in found.items() if not ok] == ["REST chat", "gRPC chat"]
    assert "3b" in found["REST chat"][1]
    assert "3b" in found["gRPC chat"][1]


async def test_an_answer_without_a_word_is_none(faces: Faces) -> None:
    faces.script(Script(pieces=[]))
    code, found = await checked(faces)
    assert (code, found["gRPC chat"]) == (1, (False, "9b answered without a word"))


@pytest.mark.parametrize("face", ["REST", "gRPC"])
async def test_nobody_there(faces: Faces, face: str) -> None:
    console = Console(record=True, width=200)
    nobody = ("http://127.0.0.1:9", None) if face == "REST" else (None, "127.0.0.1:9")
    code = await asyncio.to_thread(check, *nobody, "auto", False, console)
    printed = console.export_text()
    assert (code, printed.count("✗")) == (1, 2)
    assert all("127.0.0.1:9" in line for line in printed.splitlines())
