"""`gemmule routing calibrate --from-log` and `gemmule traffic` against a scripted service on a real socket."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from click.testing import Result
from typer.testing import CliRunner

from cluster.routing.profile import read_profile
from cluster.snapshot import Placed, RouteFacts
from cluster.trail import Trail
from model.config import END_OF_TURN_ID, Size
from model.errors import OverloadedError
from model.events import Event, Logprob, PromptScored
from model.request import GenerationRequest
from serving.main import app
from serving.traffic.store import Bounds, Sampled, Store
from tests.contract.faces import Faces, running
from tests.fakes.router import Script, ScriptedRouter

WRONG = 500  # a token that the largest would never write
WORDS = ("zebra", "walrus", "heron", "otter", "lynx", "ibex")


class Family(ScriptedRouter):
    """The 2b is wrong where the prompt's last token is odd, the 9b is never; scoring tells."""

    async def route(
        self, facts: RouteFacts, request: GenerationRequest, trail: Trail
    ) -> AsyncGenerator[Placed | Event, None]:
        assert facts.size is not None
        if self.script.refuse is not None:
            raise self.script.refuse
        self.submitted.append(request)
        wrong = facts.size is Size.B2 and request.prompt_token_ids[-1] % 2
        script = Script(pieces=("a", "b"), ids=((400,), (WRONG if wrong else 401,)))
        async for event in ScriptedRouter(script=script).route(facts, request, trail):
            yield (
                replace(event, logprobs=tuple(map(read, event.logprobs))) if isinstance(event, PromptScored) else event
            )


def read(one: Logprob) -> Logprob:
    """The token is the likeliest, or 8 nats behind it."""
    top = ((9, -0.01),) if one.token_id == WRONG else ((one.token_id, -0.01),)
    return Logprob(one.token_id, -8.01 if one.token_id == WRONG else -0.01, top)


@pytest_asyncio.fixture(scope="module")
async def family() -> AsyncIterator[Faces]:
    async with running(router=Family()) as faces:
        yield faces


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "traffic.db"
    prompts = [
        Sampled(time.time() - number, "auto" if number % 4 else "27b", text_of(number), 1, (2, 300, 1000 + number), 8)
        for number in range(80)
    ]
    Store.open(path).add(prompts, Bounds(1e6, 1000), time.time())
    return path


def text_of(number: int) -> str:
    return f"Please tell me about {WORDS[number % 6]} number {number}{' and odd things' if number % 2 else ''}."


async def run(*words: str | Path) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, list(map(str, words)))


async def test_a_profile_from_traffic_knows_who_agrees_and_quotes_nobody(family: Faces, store: Path) -> None:
    family.script()
    out = store.parent / "profile.json"
    done = await run("routing", "calibrate", "--from-log", store, "--profile", out, "--url", family.url, "--json")
    assert done.exit_code == 0, done.output
    profile = read_profile(out)
    assert json.loads(done.stdout)["data"]["right_share"] == profile.data.right_share == {"2b": 0.5, "9b": 1, "27b": 1}
    assert (profile.data.prompts, profile.data.groups) == (80, {"auto": 60, "27b": 20})
    assert profile.about.startswith("own traffic, ")
    assert "not graded" in profile.about
    assert not any(word in out.read_text() for word in (*WORDS, "Please", "odd"))
    scored = [request for request in family.router.submitted if request.sampling.prompt_logprobs is not None]
    assert len(scored) == 40  # what the largest would have written itself is not read to it
    assert {request.prompt_token_ids[-3:] for request in scored} == {(400, WRONG, END_OF_TURN_ID)}
    assert {request.sampling.temperature for request in family.router.submitted} == {0}


async def test_a_limit_takes_the_newest_and_a_margin_is_obeyed(family: Faces, store: Path) -> None:
    family.script()
    out = store.parent / "profile.json"
    words = ("--limit", "60", "--margin", "9", "--about", "ours")
    done = await run("routing", "calibrate", "--from-log", store, "--profile", out, "--url", family.url, *words)
    assert done.exit_code == 0, done.output
    assert "60 prompts" in done.output
    profile = read_profile(out)
    assert profile.data.right_share[Size.B2] == 1
    assert profile.about.startswith("ours; own traffic")


async def test_what_cannot_be_calibrated_from_ends_with_a_sentence(
    family: Faces, store: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    out = store.parent / "profile.json"
    calibrate = ("routing", "calibrate", "--profile", out)
    missing = await run(*calibrate, "--from-log", store.parent / "none.db")
    assert (missing.exit_code, "there is no such store" in missing.stderr.replace("\n", " ")) == (2, True)
    few = await run(*calibrate, "--from-log", store, "--limit", "49")
    assert (few.exit_code, "49 different prompts are too few" in few.stderr) == (2, True)
    for both in ((), ("--from-log", store, "--data", "labels.csv")):
        assert (await run(*calibrate, *both)).exit_code == 2
    down = await run(*calibrate, "--from-log", store, "--url", f"http://127.0.0.1:{unused_tcp_port_factory()}")
    assert (down.exit_code, "nothing answers" in down.stderr) == (1, True)
    assert not out.exists()


async def test_a_cluster_that_refuses_everything_is_left_alone_soon(family: Faces, store: Path) -> None:
    family.script(Script(refuse=OverloadedError("full", 1.0)))
    out = store.parent / "profile.json"
    done = await run(
        "routing", "calibrate", "--from-log", store, "--profile", out, "--url", family.url, "--concurrency", "16"
    )
    assert (done.exit_code, "full" in done.stderr) == (1, True)
    assert not out.exists()


async def test_traffic_is_shown_in_numbers_and_purged_by_age_or_whole(store: Path) -> None:
    shown = await run("traffic", "show", "--store", store)
    assert shown.exit_code == 0, shown.output
    assert "80" in shown.output
    facts = json.loads((await run("traffic", "show", "--store", store, "--json")).stdout)
    assert (facts["prompts"], facts["models"], facts["prompt_tokens"]) == (80, {"auto": 60, "27b": 20}, 240)
    assert not any(word in shown.output for word in WORDS)
    assert (await run("traffic", "purge", "--store", store, "--older-than", "1w", "--yes")).exit_code == 2
    old = await run("traffic", "purge", "--store", store, "--older-than", "40s", "--yes")
    assert "40 prompts removed" in old.output.replace("\n", " ") or "39 prompts removed" in old.output
    assert (await run("traffic", "purge", "--store", store)).exit_code == 1  # asked, and nobody said yes
    await run("traffic", "purge", "--store", store, "--yes")
    left = b"".join(file.read_bytes() for file in store.parent.iterdir())
    assert not any(word.encode() in left for word in WORDS)
    assert (await run("traffic", "show", "--store", store.parent / "none.db")).exit_code == 2
    assert (await run("traffic", "show")).exit_code == 2
