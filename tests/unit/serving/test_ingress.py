"""The class that wears both faces is built from settings and a router alone."""

import json
from pathlib import Path

import httpx
import pytest

pytest.importorskip("model.source")

from model.errors import CheckpointError
from serving.config import Settings
from serving.ingress import GRPC_SERVICER_FUNCTIONS, Ingress, shared_tokenizer
from tests.fakes.router import ScriptedRouter


async def test_it_answers_with_the_newest_settings() -> None:
    ingress = Ingress()
    assert all(hasattr(ingress, call) for call in ("Generate", "ListModels", "Check", "Watch", "List"))
    tree = Settings().model_dump(mode="json")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(ingress.asgi()), base_url="http://here") as client:
        await ingress.settle(tree, ScriptedRouter())
        assert "balanced" in {model["id"] for model in (await client.get("/v1/models")).json()["data"]}
        first = ingress._service
        del tree["cluster"]["tiers"]["balanced"]
        await ingress.settle(tree | {"server": {"max_body_bytes": 1024}}, ScriptedRouter())
        assert "balanced" not in {model["id"] for model in (await client.get("/v1/models")).json()["data"]}
        json_type = {"content-type": "application/json"}
        answer = await client.post("/v1/chat/completions", content=b" " * 2000, headers=json_type)
        assert answer.status_code == 413
    assert ingress._service.metrics is first.metrics


def test_the_functions_for_the_grpc_front_exist() -> None:
    for path in GRPC_SERVICER_FUNCTIONS:
        module, _, name = path.rpartition(".")
        assert callable(getattr(__import__(module, fromlist=[name]), name))


def test_sizes_with_different_tokenizers_are_not_served_together(tmp_path: Path) -> None:
    cluster = Settings().cluster
    path = shared_tokenizer(cluster)
    tree = json.loads(path.read_text())
    tree["model"]["vocab"]["hippopotamus"] = max(tree["model"]["vocab"].values()) + 1
    (tmp_path / "tokenizer.json").write_text(json.dumps(tree))
    sizes = cluster.model_dump(mode="json")
    sizes["sizes"]["2b"]["source"] = str(tmp_path)
    with pytest.raises(CheckpointError, match="2b and 9b have different tokenizers"):
        shared_tokenizer(type(cluster).model_validate(sizes))
