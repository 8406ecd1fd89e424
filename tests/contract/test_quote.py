"""A quote: the same from both faces, nothing is run for it, and the request that follows goes where it said."""

from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.config import Tier
from cluster.snapshot import Pace, Snapshot
from model.config import Size
from serving.rpc.gen.gemmule.v1 import gemmule_pb2 as pb
from tests.contract.bad import fields_of
from tests.contract.faces import CHAT, Faces, a_message
from tests.unit.cluster.facts import a_snapshot, a_state, some_rules

EXPECTED_TOKENS = 20  # of every size, as the fake router says


async def both(faces: Faces, **more: Any) -> dict[str, Any]:
    """The quote, checked to be the same from both faces."""
    answer = await faces.http.post("/v1/quote", json={**CHAT, **more})
    assert answer.status_code == 200, answer.text
    quote: dict[str, Any] = answer.json()
    message = await faces.grpc.Quote(a_message(**more))
    assert [quote[name] or "" for name in ("model", "tier", "chosen", "then", "reason", "detail")] == [
        message.model, message.tier, message.chosen, message.then, message.reason, message.detail
    ]  # fmt: skip
    for one, two in zip(quote["sizes"], message.sizes, strict=True):
        assert one == {
            name: getattr(two, name) if not name.startswith("time") or two.HasField(name) else None for name in one
        }
    assert faces.router.submitted == []
    return quote


async def test_a_quote_has_price_time_and_quality_of_every_size(faces: Faces) -> None:
    pace = Pace(0.1, 0.0, 0.01, p50=0.9, p90=2.0)
    faces.router.now = Snapshot((a_state(Size.B2, pace=pace), a_state(Size.B9, load=0.5), a_state(Size.B27, 0)))
    quote = await both(faces, model="auto")
    assert (quote["object"], quote["tier"], quote["chosen"], quote["then"]) == ("quote", "auto", "9b", None)
    assert (quote["reason"], quote["detail"]) == ("cheapest", "as scripted")
    small, middle, large = quote["sizes"]
    assert [each["size"] for each in quote["sizes"]] == ["2b", "9b", "27b"]
    prompt = small["prompt_tokens"]
    assert small == {
        "size": "2b",
        "quality": 0.5,
        "cost_usd": pytest.approx(0.10 * (prompt / 4 + EXPECTED_TOKENS) / 1e6),
        "max_cost_usd": pytest.approx(0.10 * (prompt / 4 + 512) / 1e6),
        "prompt_tokens": prompt,
        "expected_output_tokens": EXPECTED_TOKENS,
        "time_p50_s": pytest.approx(0.9 * 0.3),
        "time_p90_s": pytest.approx(2.0 * 0.3),
        "ready": True,
        "load": 0.0,
    }
    assert (middle["ready"], middle["load"], middle["time_p50_s"]) == (True, 0.5, None)
    assert (large["ready"], large["load"]) == (False, 0.0)
    assert large["cost_usd"] > middle["cost_usd"] > small["cost_usd"]


async def test_several_answers_cost_several_times_as_much(faces: Faces) -> None:
    one, three = [(await both(faces, n=count))["sizes"][0] for count in (1, 3)]
    assert three["cost_usd"] == pytest.approx(3 * one["cost_usd"])
    assert three["max_cost_usd"] == pytest.approx(3 * one["max_cost_usd"])


async def test_a_cost_limit_bounds_what_the_chosen_size_may_cost(faces: Faces) -> None:
    faces.router.rules = some_rules()
    limit = 10e-6
    quote = await both(faces, model="premium", max_cost=limit)
    chosen = next(each for each in quote["sizes"] if each["size"] == quote["chosen"])
    assert chosen["cost_usd"] <= chosen["max_cost_usd"] <= limit


@pytest.mark.parametrize(
    ("now", "more", "reason", "word"),
    [
        (a_snapshot(b2=9.0, b9=9.0, b27=9.0), {}, "overloaded", "full"),
        (a_snapshot(b2=None, b9=None, b27=None), {}, "not_ready", "not ready"),
        (a_snapshot(), {"max_cost": 1e-12}, "unaffordable", "max_cost: "),
    ],
)
async def test_a_request_that_would_be_refused_is_quoted_without_a_choice(
    faces: Faces, now: Snapshot, more: dict[str, Any], reason: str, word: str
) -> None:
    faces.router.rules, faces.router.now = some_rules(), now
    quote = await both(faces, **more)
    assert (quote["chosen"], quote["reason"]) == (None, reason)
    assert word in quote["detail"]
    assert len(quote["sizes"]) == 3


@pytest.mark.parametrize(
    ("more", "param", "status"),
    [
        ({"model": "gpt-4o"}, "model", 404),
        ({"model": "9b", "min_quality": 0.5}, "min_quality", 400),
        ({"max_cost": 0.0}, "max_cost", 400),
    ],
)
async def test_a_quote_refuses_what_a_request_refuses(
    faces: Faces, more: dict[str, Any], param: str, status: int
) -> None:
    answer = await faces.http.post("/v1/quote", json={**CHAT, **more})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param)
    with pytest.raises(AioRpcError) as caught:
        await faces.grpc.Quote(a_message(**more))
    assert fields_of(caught.value)[1] == param
    assert caught.value.details() == error["message"]


async def test_a_completion_is_quoted_as_well(faces: Faces) -> None:
    for more in ({"prompt": "What is 12 + 30?"}, {"prompt_token_ids": [2, 400, 401]}):
        quote = (await faces.http.post("/v1/quote", json={"model": "9b", **more})).json()
        assert (quote["chosen"], quote["reason"]) == ("9b", "explicit")
    assert quote["sizes"][0]["prompt_tokens"] == 3
    message = await faces.grpc.Quote(pb.GenerateRequest(model="9b", prompt_token_ids=pb.TokenIds(ids=[2, 400, 401])))
    assert message.sizes[0].prompt_tokens == 3
    for body, param in (({"model": "9b"}, "messages"), ({"prompt": "a", **CHAT}, "prompt")):
        answer = await faces.http.post("/v1/quote", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_what_breaks_inside_a_quote_stays_inside(faces: Faces) -> None:
    faces.router.script = faces.router.script.__class__(refuse=ValueError("a secret"))
    answer = await faces.http.post("/v1/quote", json=CHAT)
    assert answer.status_code == 500
    with pytest.raises(AioRpcError) as caught:
        await faces.grpc.Quote(a_message())
    assert caught.value.code() is StatusCode.INTERNAL
    assert "secret" not in answer.text + str(caught.value.details())


loads = st.one_of(st.none(), st.floats(0, 6))
paces = st.none() | st.builds(Pace, st.floats(0, 5), st.floats(0, 0.01), st.floats(0.001, 0.2))
snapshots = st.builds(
    lambda loads, paces: Snapshot(
        tuple(
            a_state(size, 0 if load is None else 1, load or 0.0, pace=pace)
            for size, load, pace in zip(Size, loads, paces, strict=True)
        )
    ),
    st.tuples(loads, loads, loads),
    st.tuples(paces, paces, paces),
)


@given(
    target=st.sampled_from([*Size, *Tier]),
    now=snapshots,
    max_cost=st.none() | st.floats(1e-7, 3e-5),
    min_quality=st.none() | st.floats(0, 1),
    deadline_ms=st.none() | st.integers(500, 10_000),
    allow_fallback=st.booleans(),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_request_goes_where_the_quote_said(
    faces: Faces, target: Size | Tier, now: Snapshot, allow_fallback: bool, **limits: Any
) -> None:
    faces.script()
    faces.router.rules, faces.router.now = some_rules(), now
    given_limits = {name: value for name, value in limits.items() if value is not None}
    if isinstance(target, Size):
        given_limits.pop("min_quality", None)
    body = {**CHAT, "model": target.value, "allow_fallback": allow_fallback, **given_limits}
    quote = (await faces.http.post("/v1/quote", json=body)).json()
    answer = await faces.http.post("/v1/chat/completions", json=body)
    if quote["chosen"] is None:
        refused = {"overloaded": 429, "not_ready": 503, "unaffordable": 400}
        assert answer.status_code == refused[quote["reason"]]
        assert answer.json()["error"]["message"] == quote["detail"]
    else:
        route = answer.json()["gemmule"]
        assert [route[name] for name in ("size", "reason", "detail")] == [
            quote["chosen"], quote["reason"], quote["detail"]
        ]  # fmt: skip
