"""What the service asks of the router, says of itself, and cleans up."""

import logging
from contextlib import aclosing
from itertools import count
from pathlib import Path

import pytest

from cluster.config import ClusterConfig, Tier
from cluster.trail import Record, Role
from model.config import CONTEXT_TOKENS, Size
from model.errors import DeadlineExceededError, InvalidRequestError, OverloadedError
from model.prompt import Prompter
from model.request import RequestId
from serving.ask import Ask
from serving.asking import chat_ask, text_ask
from serving.parts import Ended, Part, Started
from serving.service import Service
from tests.fakes.router import Script, ScriptedRouter

PROMPTER = Prompter(Path(__file__).parents[3] / "model/family/checkpoints/nano-2b/tokenizer.json")
CHAT = {"model": "auto", "messages": [{"role": "user", "content": "What is 12 + 30?"}]}
ID = RequestId("req-1")


class Ticking:
    """A clock that moves by a step whenever it is read."""

    def __init__(self, step_s: float = 0.0) -> None:
        self._reads, self._step_s = count(), step_s

    def monotonic(self) -> float:
        return next(self._reads) * self._step_s

    def time(self) -> float:
        return 1_700_000_000.0


def a_service(router: ScriptedRouter, step_s: float = 0.0) -> Service:
    return Service(ClusterConfig(), PROMPTER, router, Ticking(step_s), lambda: ID)


async def parts_of(service: Service, ask: Ask) -> list[Part]:
    return [part async for part in service.generate(ask, ID)]


async def test_the_router_gets_the_facts_and_the_engine_the_prompt() -> None:
    router = ScriptedRouter()
    parts = await parts_of(a_service(router), chat_ask({**CHAT, "max_tokens": 9, "deadline_ms": 2500}))
    (facts,), (request,) = router.facts, router.submitted
    assert (facts.size, facts.tier, facts.max_tokens) == (None, Tier.AUTO, 9)
    assert facts.prompt_tokens == len(request.prompt_token_ids)
    assert [offer.size for offer in facts.offers] == list(Size)
    assert (facts.limits.deadline_s, facts.stream, facts.cascade) == (2.5, False, True)
    assert request.timeout_s == 2.5
    started, last = parts[0], parts[-1]
    assert isinstance(started, Started)
    assert (started.size, started.stand_in, started.created) == (Size.B9, True, 1_700_000_000)
    assert isinstance(last, Ended)


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (chat_ask(CHAT), 512),
        (text_ask({"model": "2b", "prompt": "hi"}), 16),
        (text_ask({"model": "2b", "prompt_token_ids": [5] * (CONTEXT_TOKENS - 3)}), 3),
    ],
)
async def test_max_tokens_has_a_default_that_fits(ask: Ask, expected: int) -> None:
    router = ScriptedRouter()
    await parts_of(a_service(router), ask)
    assert router.submitted[0].sampling.max_tokens == expected


async def test_a_full_context_names_both_numbers_and_reaches_no_engine() -> None:
    router = ScriptedRouter()
    with pytest.raises(InvalidRequestError, match=r"prompt_token_ids: prompt is 9000 tokens, the limit is 8192"):
        await parts_of(a_service(router), text_ask({"model": "2b", "prompt_token_ids": [5] * 9000}))
    with pytest.raises(InvalidRequestError, match=r"max_tokens: .* 8100 tokens and max_tokens 93 make 8193"):
        await parts_of(a_service(router), text_ask({"model": "2b", "prompt_token_ids": [5] * 8100, "max_tokens": 93}))
    assert router.submitted == []


async def test_a_deadline_that_passed_reaches_no_engine() -> None:
    router = ScriptedRouter()
    with pytest.raises(DeadlineExceededError):
        await parts_of(a_service(router, step_s=0.01), chat_ask({**CHAT, "deadline_ms": 5}))
    assert router.submitted == []


async def test_long_deadlines_are_cut() -> None:
    router = ScriptedRouter()
    await parts_of(a_service(router), chat_ask({**CHAT, "deadline_ms": 10**15}))
    assert router.submitted[0].timeout_s == ClusterConfig().routing.max_timeout_s


async def test_closing_early_closes_the_route_and_is_logged_as_aborted(caplog: pytest.LogCaptureFixture) -> None:
    router = ScriptedRouter(script=Script(forever=True))
    service = a_service(router)
    with caplog.at_level(logging.INFO, "gemmule.request"):
        async with aclosing(service.generate(chat_ask(CHAT), ID)) as parts:
            await anext(parts)
    assert router.closed == [ID]
    assert b'code="aborted",size="9b",tier="auto"} 1.0' in await service.render_metrics()
    assert caplog.records[0].finish == "aborted"


async def test_one_log_line_a_request_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await parts_of(a_service(ScriptedRouter()), chat_ask(CHAT))
    (record,) = (record for record in caplog.records if record.name == "gemmule.request")
    fields = (record.request_id, record.size, record.tier, record.reason, record.replica, record.finish)
    assert fields == (ID, "9b", "auto", "cheapest", "9b#0", "stop")
    assert record.output_tokens == 3
    assert "12 + 30" not in str(record.__dict__)


async def test_every_request_leaves_one_record_whatever_becomes_of_it() -> None:
    records: list[Record] = []

    class Book:
        def record(self, record: Record) -> None:
            records.append(record)

    router = ScriptedRouter()
    service = Service(ClusterConfig(), PROMPTER, router, Ticking(0.1), lambda: ID, recorder=Book())
    await parts_of(service, chat_ask(CHAT))
    router.script = Script(refuse=OverloadedError("full", 1.0))
    with pytest.raises(OverloadedError):
        await parts_of(service, chat_ask(CHAT))
    done, refused = records
    assert (done.tier, done.size, done.code, done.finish) == (Tier.AUTO, Size.B9, "ok", "stop")
    assert [(work.size, work.role) for work in done.works] == [(Size.B9, Role.ANSWER)]
    assert done.detail == "as scripted"
    assert (refused.code, refused.size, refused.works) == ("overloaded", None, ())
