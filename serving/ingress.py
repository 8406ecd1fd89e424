"""A plain class wearing both faces; `cluster.build` makes it a deployment.

Serve calls gRPC methods by their names and asks `asgi` for the HTTP application. The functions below tell its front
which gRPC services there are.
"""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cluster.build import build
from cluster.config import ClusterConfig
from cluster.snapshot import Page
from model.config import Size
from model.errors import CheckpointError
from model.prompt import Prompter
from model.request import RequestId
from model.source import parse_source, resolve
from serving.config import Settings, from_tree
from serving.generations import Router
from serving.logs import log_json
from serving.rest.answer import Limits
from serving.rest.app import PredictionRoutes
from serving.rest.app import build_app as build_web
from serving.rest.body import BodyLimits
from serving.rpc.health import HealthFace
from serving.rpc.servicer import GemmuleFace
from serving.service import Service

GRPC_SERVICER_FUNCTIONS: Final = (
    "serving.rpc.gen.gemmule.v1.gemmule_pb2_grpc.add_GemmuleServiceServicer_to_server",
    "grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server",
)


class Ingress(GemmuleFace, HealthFace):
    """One service, REST and gRPC. Building it reads the tokenizer and turns JSON logs on."""

    def __init__(self, settings_json: str, router: Router) -> None:
        log_json()
        settings = from_tree(json.loads(settings_json))
        service = service_of(settings, router)
        GemmuleFace.__init__(self, service, settings.server.max_body_bytes)
        HealthFace.__init__(self, service)
        server = settings.server
        routes = PredictionRoutes(server.predict_route, server.health_route)
        self._asgi = build_web(lambda: service, Limits(BodyLimits(server.max_body_bytes)), routes)

    def asgi(self) -> Any:
        """The ASGI application."""
        return self._asgi

    async def page(self) -> Page:
        """What this process counts; its peers ask."""
        return self._service.page()


def build_app(args: Mapping[str, Any]) -> Any:
    """The Serve application from `{"config": tree}`, for Serve's `import_path`; raises `ConfigError`."""
    return application(from_tree(args.get("config") or {}))


def application(settings: Settings) -> Any:
    """The Serve application of these settings."""
    return build(settings.cluster, Ingress, settings.model_dump_json(), settings.server.ingress_replicas)


def service_of(settings: Settings, router: Router) -> Service:
    """The service behind both faces, with real time and random ids."""
    prompter = Prompter(shared_tokenizer(settings.cluster))
    return Service(settings.cluster, prompter, router, time, new_request_id, traffic=settings.traffic)


def new_request_id() -> RequestId:
    """128 random bits."""
    return RequestId("req-" + secrets.token_hex(16))


def shared_tokenizer(cluster: ClusterConfig) -> Path:
    """`tokenizer.json` of all sizes. Raises `CheckpointError` when they differ: prompts are encoded before routing."""
    token = os.environ.get(cluster.token_env)
    found: dict[str, tuple[Size, Path]] = {}
    for size, config in cluster.sizes.items():
        path = resolve(parse_source(config.source), config.revision, token, only_tokenizer=True) / "tokenizer.json"
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise CheckpointError(f"sizes.{size}: cannot read {path.name} of {config.source}: {error}") from error
        found.setdefault(digest, (size, path))
    (first, chosen), *others = found.values()
    for size, path in others:  # the same vocabulary may be written in two ways
        if not Prompter(chosen).agrees_with(Prompter(path)):
            raise CheckpointError(
                f"sizes {first} and {size} have different tokenizers; serve checkpoints of one family together"
            )
    return chosen
