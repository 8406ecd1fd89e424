"""What a request allows reaches the router, the same from both faces; what it came to is in the answer."""

from typing import Any

import pytest
from grpc.aio import AioRpcError

from cluster.snapshot import Limits
from model.config import Size
from model.errors import InvalidRequestError
from serving.rpc.gen.gemmule.v1 import gemmule_pb2 as pb
from tests.contract.bad import fields_of
from tests.contract.faces import CHAT, Faces, a_message
from tests.contract.test_rest import events
from tests.fakes.router import Script

ALLOWS = {"model": "auto", "max_cost": 0.5, "min_quality": 0.9, "deadline_ms": 1500, "allow_fallback": True}
WROTE = [{"size": "2b", "tokens": 1}, {"size": "9b", "tokens": 2}]


async def asked(faces: Faces, **more: Any) -> None:
    answer = await faces.http.post("/v1/chat/completions", json={**CHAT, **more})
    assert answer.status_code == 200, answer.text
    [item async for item in faces.grpc.Generate(a_message(**more))]


async def finished(faces: Faces, **more: Any) -> pb.Finished:
    return [item async for item in faces.grpc.Generate(a_message(**more))][-1].finished


async def test_limits_reach_the_router(faces: Faces) -> None:
    await asked(faces, **ALLOWS)
    one, two = faces.router.facts
    assert one == two
    assert one.limits == Limits(0.5, 1.5, 0.9)
    assert one.allow_fallback
    assert not one.cascade  # a second size would be beyond what the first may cost


async def test_a_cost_limit_is_for_all_choices_together_and_nothing_is_guessed_for_it(faces: Faces) -> None:
    await asked(faces, model="auto", max_cost=0.6, n=3, prompt_lookup=True)
    assert {facts.limits.max_cost_usd for facts in faces.router.facts} == {0.6 / 3}
    assert not any(request.prompt_lookup or request.draft_token_ids for request in faces.router.submitted)
    others = [facts for facts in faces.router.facts if facts.tier is None]
    assert {facts.size for facts in others} == {Size.B9}


async def test_only_the_first_choice_may_fall_back(faces: Faces) -> None:
    await asked(faces, model="9b", n=2, allow_fallback=True)
    assert [facts.allow_fallback for facts in faces.router.facts] == [True, False, True, False]


async def test_too_little_to_pay_with_names_the_field(faces: Faces) -> None:
    faces.script(Script(refuse=InvalidRequestError("invalid_value", "max_cost", "max_cost: too little")))
    answer = await faces.http.post("/v1/chat/completions", json={**CHAT, "max_cost": 1e-9})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "max_cost")
    with pytest.raises(AioRpcError) as caught:
        await finished(faces, max_cost=1e-9)
    assert fields_of(caught.value) == ("INVALID_VALUE", "max_cost")


async def test_the_answer_says_what_it_cost(faces: Faces) -> None:
    answer = (await faces.http.post("/v1/chat/completions", json=CHAT)).json()["gemmule"]
    assert answer["cost_usd"] == pytest.approx(1e-6)
    assert "sizes" not in answer
    text = {"model": "auto", "prompt": "hi"}
    assert (await faces.http.post("/v1/completions", json=text)).json()["gemmule"]["cost_usd"] == pytest.approx(1e-6)
    last = await finished(faces)
    assert last.cost_usd == pytest.approx(1e-6)
    assert not last.sizes


async def test_which_size_wrote_what_is_said_on_demand(faces: Faces) -> None:
    body = {**CHAT, "model": "auto", "include_sizes": True}
    assert (await faces.http.post("/v1/chat/completions", json=body)).json()["gemmule"]["sizes"] == WROTE
    last = await finished(faces, model="auto", include_sizes=True)
    assert [(each.size, each.tokens) for each in last.sizes] == [("2b", 1), ("9b", 2)]
    # Of several answers an entry each.
    several = (await faces.http.post("/v1/chat/completions", json={**body, "n": 2})).json()
    assert several["gemmule"]["sizes"] == [{"size": "9b", "tokens": 3}] * 2
    assert several["gemmule"]["cost_usd"] == pytest.approx(2e-6)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_stream_says_it_in_a_last_chunk_without_choices(faces: Faces, path: str) -> None:
    asks = {"messages": CHAT["messages"]} if "chat" in path else {"prompt": "hi"}
    body = {"model": "auto", "stream": True, **asks}
    for more in ({"include_sizes": True}, {"include_sizes": True, "stream_options": {"include_usage": True}}):
        *_, last, done = events((await faces.http.post(path, json={**body, **more})).text)
        assert done == "[DONE]"
        assert last["choices"] == []
        assert last["usage"]["completion_tokens"] == 3
        assert last["gemmule"] == {"cost_usd": pytest.approx(1e-6), "sizes": WROTE}
    usage = {"stream_options": {"include_usage": True}}
    *_, last, _ = events((await faces.http.post(path, json={**body, **usage})).text)
    assert last["gemmule"] == {"cost_usd": pytest.approx(1e-6)}
    *_, last, _ = events((await faces.http.post(path, json=body)).text)
    assert last["choices"]  # who did not ask gets no chunk without choices
