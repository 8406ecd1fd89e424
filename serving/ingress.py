"""A plain class wearing both faces; `cluster.build` makes it a deployment.

Serve calls gRPC methods by their names and asks `asgi` for the HTTP application. The functions below tell its front
which gRPC services there are.
"""

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cluster.build import build, frame
from cluster.config import ClusterConfig, ReplicaChoice
from cluster.deploying import serve_config
from cluster.snapshot import Page
from model.config import Size
from model.errors import CheckpointError
from model.prompt import Prompter
from model.request import RequestId
from model.source import parse_source, resolve
from serving.config import Settings, from_tree
from serving.generations import Router
from serving.logs import log_json
from serving.metrics import Metrics
from serving.rest.answer import Limits
from serving.rest.app import PredictionRoutes
from serving.rest.app import build_app as build_web
from serving.rest.body import BodyLimits
from serving.rest.newest import Newest
from serving.rpc.health import HealthFace
from serving.rpc.servicer import GemmuleFace
from serving.service import Service
from serving.traffic.offer import Offering

GRPC_SERVICER_FUNCTIONS: Final = (
    "serving.rpc.gen.gemmule.v1.gemmule_pb2_grpc.add_GemmuleServiceServicer_to_server",
    "grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server",
)


class Ingress(GemmuleFace, HealthFace):
    """One service, REST and gRPC. It is asked nothing before its first settings."""

    def __init__(self) -> None:
        log_json()
        self._settings: Settings | None = None
        self._prompter: Prompter | None = None
        self._metrics = Metrics()
        self._offering = Offering(self._metrics, time.time)
        self._asgi = Newest()

    def asgi(self) -> Any:
        """The ASGI application."""
        return self._asgi

    async def page(self) -> Page:
        """What this process counts; its peers ask."""
        return self._service.page()

    def read(self, settings: Mapping[str, Any]) -> tuple[ClusterConfig, int]:
        """The cluster's branch of the tree, and how many ingress processes there shall be."""
        read = from_tree(settings)
        return read.cluster, read.server.ingress_replicas

    async def settle(self, settings: Mapping[str, Any], router: Router) -> None:
        """A service with these settings for every request that comes; what runs keeps the one it began with.

        Raises `CheckpointError` when tokenizers differ. They are read again only where a checkpoint is another.
        """
        new = from_tree(settings)
        if self._prompter is None or _sources(self._settings) != _sources(new):
            self._prompter = await asyncio.to_thread(lambda: Prompter(shared_tokenizer(new.cluster)))
        self._settings = new
        offer = self._offering.of(new.traffic)
        service = Service(new.cluster, self._prompter, router, time, new_request_id, metrics=self._metrics, offer=offer)
        routes = PredictionRoutes(new.server.predict_route, new.server.health_route)
        self._asgi.app = build_web(lambda: service, Limits(BodyLimits(new.server.max_body_bytes)), routes)
        GemmuleFace.__init__(self, service, new.server.max_body_bytes)
        HealthFace.__init__(self, service)


def build_app(args: Mapping[str, Any]) -> Any:
    """The Serve application for its `import_path`; settings come with the entries of its deployments.

    `{"sizes": {size: degree}, "replica_choice": choice}`: whatever else stood here would replace every replica when it
    changes.
    """
    choice = ReplicaChoice(args.get("replica_choice", ReplicaChoice.PREFIX))
    return frame({Size(size): degree > 1 for size, degree in args["sizes"].items()}, choice, Ingress)


def serve_config_of(settings: Settings) -> dict[str, Any]:
    """Serve's configuration for these settings."""
    return serve_config(application(settings), settings.cluster, "serving.ingress:build_app")


def application(settings: Settings) -> Any:
    """The Serve application of these settings."""
    return build(settings.cluster, Ingress, settings.model_dump(mode="json"), settings.server.ingress_replicas)


def _sources(settings: Settings | None) -> Any:
    return settings and {size: (config.source, config.revision) for size, config in settings.cluster.sizes.items()}


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
