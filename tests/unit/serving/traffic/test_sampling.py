"""Which requests are drawn, and that drawing never stands in a request's way."""

import logging
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from cluster.config import ClusterConfig
from model.prompt import Prompter
from model.request import RequestId
from serving.asking import chat_ask, text_ask
from serving.config import ConfigError, TrafficConfig, from_tree, load
from serving.metrics import Metrics
from serving.prompting import Prompt
from serving.service import Service
from serving.traffic.offer import Offering, nothing
from serving.traffic.sampling import Sampler
from serving.traffic.store import Bounds, Store
from tests.fakes.router import ScriptedRouter

PROMPTER = Prompter(Path(__file__).parents[4] / "model/family/checkpoints/nano-2b/tokenizer.json")
BOUNDS = Bounds(retention_s=1e6, max_rows=1000)


def a_chat(text: str = "What is 12 + 30?", **more: object) -> dict[str, object]:
    return {"model": "auto", "messages": [{"role": "user", "content": text}], **more}


class Drawn:
    """A sampler on a file, and what it counted."""

    def __init__(self, path: Path, share: float = 1.0) -> None:
        self.path, self.counts = path, Counter[str]()
        self.sampler = Sampler(path, share, BOUNDS, self.count, lambda: 1000.0, random.Random(7))

    def count(self, result: str, prompts: int) -> None:
        self.counts[result] += prompts

    def offer(self, raw: dict[str, object], text: str = "hi") -> None:
        ask = chat_ask(raw) if "messages" in raw else text_ask(raw)
        self.sampler.offer(ask, Prompt((2, *map(ord, text)), 16, text, 1))

    def texts(self) -> list[str]:
        return [prompt.text for prompt in Store.open(self.path).read()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traffic.db"


def test_a_seed_draws_about_the_share(path: Path) -> None:
    drawn = Drawn(path, share=0.25)
    drawn.sampler.start()
    for number in range(200):
        drawn.sampler.offer(chat_ask(a_chat()), Prompt((2, number), 16, str(number), 1))
    drawn.sampler.close()
    rng = random.Random(7)
    assert drawn.texts() == [str(number) for number in range(200) if rng.random() < 0.25][::-1]
    assert drawn.counts == {"kept": len(drawn.texts())}


def test_what_must_or_should_not_be_kept_is_left_out(path: Path) -> None:
    drawn = Drawn(path)
    drawn.sampler.start()
    drawn.offer(a_chat(store=False), "out")
    drawn.offer(a_chat(response_format={"type": "json_object"}), "shaped")
    drawn.offer({"model": "2b", "prompt_token_ids": [2, 300]}, "")
    drawn.offer(a_chat(store=None), "in")
    drawn.offer({"model": "2b", "prompt": "text"}, "text")
    drawn.sampler.close()
    assert sorted(drawn.texts()) == ["in", "text"]
    assert drawn.counts["kept"] == 2


def test_a_full_queue_drops_and_counts(path: Path) -> None:
    drawn = Drawn(path)  # its thread is not started: nobody takes
    for _ in range(300):
        drawn.offer(a_chat())
    assert drawn.counts == {"dropped": 300 - 256}


def test_a_store_that_fails_is_a_warning_without_text_and_costs_no_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("gemmule"), "propagate", True)
    (tmp_path / "file").write_text("x")
    drawn = Drawn(tmp_path / "file" / "traffic.db")
    drawn.sampler.start()
    drawn.offer(a_chat("Xylophone99"), "Xylophone99")
    drawn.sampler.close()
    assert (drawn.counts["kept"], drawn.counts["dropped"]) == (0, 1)
    assert "sampled prompts were not written" in caplog.text
    assert "Xylophone99" not in "".join(str(vars(record)) for record in caplog.records)


def test_a_store_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    drawn = Drawn(tmp_path / "traffic.db")
    drawn.sampler.start()
    drawn.offer(a_chat(), "one")
    await_count(drawn, "kept", 1)
    for file in list(tmp_path.iterdir()):
        file.rename(file.with_name(f"moved-{file.name}"))
    drawn.offer(a_chat(), "two")
    drawn.sampler.close()
    assert drawn.texts() == ["two"]
    assert [prompt.text for prompt in Store.open(tmp_path / "moved-traffic.db").read()] == ["one"]


def await_count(drawn: Drawn, result: str, count: int) -> None:
    deadline = time.monotonic() + 10
    while drawn.counts[result] < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_a_service_offers_what_it_accepted(path: Path) -> None:
    drawn = Drawn(path)
    drawn.sampler.start()
    service = Service(
        ClusterConfig(), PROMPTER, ScriptedRouter(), ZERO, lambda: RequestId("r"), offer=drawn.sampler.offer
    )
    [part async for part in service.generate(chat_ask(a_chat("What is 12 + 30?", max_tokens=9)), RequestId("r"))]
    drawn.sampler.close()
    (kept,) = Store.open(path).read()
    assert (kept.model, kept.text, kept.turns, kept.max_tokens) == ("auto", "What is 12 + 30?", 1, 9)
    assert kept.prompt_token_ids == PROMPTER.chat(chat_ask(a_chat()).turns)


def test_another_store_is_offered_to_and_the_last_one_written(path: Path, tmp_path: Path) -> None:
    offering = Offering(Metrics(), ZERO.time)
    assert offering.of(TrafficConfig()) is nothing
    config = TrafficConfig(share=1, path=path)
    offer = offering.of(config)
    assert offer is not nothing
    assert offering.of(config.model_copy()) is offer
    offer(chat_ask(a_chat()), Prompt((2, 3), 16, "What is 12 + 30?", 1))
    assert offering.of(TrafficConfig(share=1, path=tmp_path / "other.db")) not in (offer, nothing)
    offering.of(TrafficConfig())
    for thread in threading.enumerate():
        if thread.name.startswith("traffic"):
            thread.join(10)
    (kept,) = Store.open(path).read()
    assert kept.text == "What is 12 + 30?"


class Zero:
    """A clock that stands."""

    def monotonic(self) -> float:
        return 0.0

    def time(self) -> float:
        return 1000.0


ZERO = Zero()


def test_it_is_off_unless_share_and_path_are_set(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (load().traffic.share, load().traffic.path) == (0, None)
    for wrong in ({"share": 0.1}, {"share": 0.1, "path": "relative.db"}, {"share": 1.1, "path": "/x"}):
        with pytest.raises(ConfigError, match="share"):
            from_tree({"traffic": wrong})
    monkeypatch.setenv("GEMMULE_TRAFFIC__SHARE", "0.5")
    monkeypatch.setenv("GEMMULE_TRAFFIC__PATH", str(path))
    assert load(None, {"server.http_port": 8003}).traffic == TrafficConfig(share=0.5, path=path)
