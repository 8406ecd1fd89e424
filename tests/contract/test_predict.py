"""Vertex AI's contract for prediction containers, over real sockets."""

from typing import Any

import pytest

from serving.config import ConfigError, load
from tests.contract.faces import CHAT, Faces
from tests.fakes.router import Script

TURNS = CHAT["messages"]


async def predict(faces: Faces, **body: Any) -> tuple[int, dict[str, Any]]:
    response = await faces.http.post("/predict", json=body)
    return response.status_code, response.json()


async def test_predictions_are_the_endpoints_own_answers_in_the_same_order(faces: Faces) -> None:
    status, body = await predict(faces, instances=[CHAT, {"model": "9b", "prompt": "hi"}])
    assert (status, list(body)) == (200, ["predictions"])
    chat, text = body["predictions"]
    assert (chat["object"], chat["model"]) == ("chat.completion", "2b")
    assert (text["object"], text["model"]) == ("text_completion", "9b")
    alone = (await faces.http.post("/v1/chat/completions", json=CHAT)).json()
    assert chat["choices"] == alone["choices"]
    assert chat["id"] != text["id"]


async def test_parameters_are_everyones_unless_an_instance_says_otherwise(faces: Faces) -> None:
    instances = [{"messages": TURNS}, {"messages": TURNS, "max_tokens": 3}]
    status, _ = await predict(faces, instances=instances, parameters={"max_tokens": 5, "temperature": 0})
    assert status == 200
    assert sorted(request.sampling.max_tokens for request in faces.router.submitted) == [3, 5]
    assert {facts.tier for facts in faces.router.facts} == {"auto"}  # nobody named a model


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "instances"),
        ({"instances": []}, "instances"),
        ({"instances": {}}, "instances"),
        ({"instances": [CHAT] * 65}, "instances"),
        ({"instances": [CHAT, "hi"]}, "instances[1]"),
        ({"instances": [CHAT, {"model": "2b"}]}, "instances[1].messages"),
        ({"instances": [{**CHAT, "temperature": -1}]}, "instances[0].temperature"),
        ({"instances": [{**CHAT, "stream": True}]}, "instances[0].stream"),
        ({"instances": [CHAT], "parameters": 1}, "parameters"),
        ({"instances": [CHAT], "instance": 1}, "instance"),
    ],
)
async def test_what_is_wrong_is_named_with_its_place(faces: Faces, body: dict[str, Any], param: str) -> None:
    status, answer = await predict(faces, **body)
    assert (status, answer["error"]["param"]) == (400, param)
    assert answer["error"]["message"].startswith(f"{param}: ")
    assert not faces.router.submitted


async def test_a_refusal_of_one_is_the_answer_and_ends_the_others(faces: Faces) -> None:
    faces.script(Script(forever=True))
    status, answer = await predict(faces, instances=[CHAT, {**CHAT, "model": "3b"}])
    assert (status, answer["error"]["code"]) == (404, "model_not_found")
    await faces.settle(closed=len(faces.router.submitted))


async def test_health_is_readiness(faces: Faces) -> None:
    assert (await faces.http.get("/health")).status_code == 200
    assert (await faces.http.get("/health")).json() == (await faces.http.get("/readyz")).json()


def test_vertex_says_where_it_will_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/v1/endpoints/1/deployedModels/2:predict")
    assert load().server.predict_route is None  # without a port it is not Vertex
    monkeypatch.setenv("AIP_HTTP_PORT", "8080")
    monkeypatch.setenv("AIP_HEALTH_ROUTE", "/v1/endpoints/1/deployedModels/2")
    monkeypatch.setenv("GEMMULE_SERVER__HTTP_PORT", "8002")
    server = load().server
    assert (server.host, server.http_port) == ("0.0.0.0", 8080)  # noqa: S104
    assert server.predict_route == "/v1/endpoints/1/deployedModels/2:predict"
    assert server.health_route == "/v1/endpoints/1/deployedModels/2"


@pytest.mark.parametrize("route", ["predict", "/v1/completions", "/{x}", "/metrics/x"])
def test_a_route_that_cannot_be_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, route: str) -> None:
    monkeypatch.setenv("GEMMULE_SERVER__PREDICT_ROUTE", route)
    with pytest.raises(ConfigError, match="predict_route"):
        load()
