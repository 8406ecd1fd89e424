"""`gemmule explain`, and `/why` in `gemmule chat`, over a running service."""

import asyncio
import json
from typing import Any

import pytest
from rich.console import Console

from cluster.snapshot import Pace, Snapshot
from model.config import Size
from serving.cli.chat import Conversation, _ask, _command
from serving.cli.explain import explain
from serving.cli.remote import Remote, RemoteError
from tests.contract.faces import Faces
from tests.unit.cluster.facts import a_snapshot, a_state, some_rules


async def explained(faces: Faces, model: str = "auto", as_json: bool = False, **limits: Any) -> tuple[int, str]:
    console = Console(record=True, width=160)
    code = await asyncio.to_thread(explain, faces.url, "What is 12 + 30?", model, limits, as_json, console)
    return code, console.export_text()


async def test_the_table_has_every_size_and_says_which_and_why(faces: Faces) -> None:
    pace = Pace(0.1, 0.0, 0.01, p50=0.5, p90=4.0)
    faces.router.rules = some_rules()
    faces.router.now = Snapshot((a_state(Size.B2, pace=pace), a_state(Size.B9), a_state(Size.B27, 0)))
    code, printed = await explained(faces)
    assert code == 0
    _, small, middle, large, *words = printed.splitlines()
    assert "50%" in small
    assert "150 ms" in small
    assert "1.2 s" in small
    assert middle.startswith("→")
    assert "–" in middle
    assert "not ready" in large
    assert "auto would take 9b (cheapest): 9b is worth most at auto's promise" in " ".join(words)


async def test_json_is_the_quote_itself(faces: Faces) -> None:
    code, printed = await explained(faces, as_json=True, max_cost=0.5, deadline_ms=None)
    assert code == 0
    assert json.loads(printed)["object"] == "quote"


async def test_what_would_be_refused_is_said_and_a_bad_limit_is_an_error(faces: Faces) -> None:
    faces.router.rules, faces.router.now = some_rules(), a_snapshot(b2=9.0, b9=9.0, b27=9.0)
    code, printed = await explained(faces)
    assert code == 1
    assert "refused now (overloaded): every size of auto is full" in printed
    with pytest.raises(RemoteError, match="min_quality: got"):
        await explained(faces, min_quality=2.0)


async def test_why_in_a_chat_tells_the_last_answer_and_what_the_others_would_be(faces: Faces) -> None:
    console, talk, remote = Console(record=True, width=160), Conversation(), Remote(faces.url)

    def why() -> str:
        assert not _command("/why", remote, talk, [], console)
        return console.export_text()

    assert await asyncio.to_thread(why) == "nothing was asked yet\n"
    await asyncio.to_thread(_ask, remote, talk, "hi", console)
    printed = await asyncio.to_thread(why)
    assert "9b (nano-9b, 9b#0): as scripted" in printed
    assert "auto would take 9b (cheapest): as scripted" in printed
    assert len(faces.router.submitted) == 1
