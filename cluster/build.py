"""Configuration and a plain ingress class in, one Serve application out."""

import asyncio
import os
from collections.abc import Mapping
from typing import Any, Final, Protocol

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.handle import DeploymentHandle

from cluster.config import ClusterConfig, ReplicaChoice, RoutingConfig, SizeConfig
from cluster.forecast import profile_of
from cluster.peers import Peers
from cluster.placement import bundles
from cluster.replica import Replica
from cluster.router import Router
from cluster.snapshot import Page
from model.config import SIZES, Size
from model.source import describe, parse_source, resolve

APP_NAME: Final = "gemmule"
INGRESS_NAME: Final = "ingress"
_HEALTH_PERIOD_S: Final = 2.0
_HEALTH_TIMEOUT_S: Final = 30.0  # on a busy laptop an answer can be slow without the replica being ill
_REPORT_PERIOD_S: Final = 1.0  # a router's view of a cache is at most 1.4 s old with it (2026-11-24)
_REPORT_TIMEOUT_S: Final = 5.0
_UNREAD_PERIOD_S: Final = 3600.0  # reports that nobody reads
_DRAIN_S: Final = 600.0  # above the longest answer, so that scale-in cuts nobody off
_INGRESS_STREAMS: Final = 4096  # admission happens in the router; Serve's own limit must not come first


class Face(Protocol):
    """A plain class that answers gRPC by methods named like the calls, and HTTP by the app that `asgi` returns."""

    def __init__(self, settings_json: str, router: Router) -> None:
        """Both arguments are made by `build`."""

    def asgi(self) -> Any:
        """The ASGI application."""

    async def page(self) -> Page:
        """What this process counts; its peers ask."""


def build(config: ClusterConfig, face: type[Face], settings_json: str, ingress_replicas: int = 1) -> Application:
    """The application graph: a deployment per size, and the ingress that holds a handle to each of them."""
    profile_of(config)  # whatever is wrong with it is better said here than by every ingress replica
    config_json = config.model_dump_json()
    handles = {str(size): engine_of(size, sized, config) for size, sized in config.sizes.items()}
    return _ingress(face, ingress_replicas).bind(settings_json, config_json, handles)


def engine_of(size: Size, config: SizeConfig, cluster: ClusterConfig) -> Application:
    """The replicas of one size, and how one of them is chosen."""
    sharded = config.tensor_parallel > 1
    placement = bundles(config) if sharded else None
    deployment = serve.deployment(
        SizedReplica,
        name=str(size),
        ray_actor_options={"num_cpus": config.cpus_per_rank, "num_gpus": config.gpus_per_rank},
        placement_group_bundles=placement,
        placement_group_strategy="STRICT_PACK" if sharded else None,
        max_ongoing_requests=config.engine.max_running + config.engine.max_waiting + 8,  # + room for status calls
        autoscaling_config=AutoscalingConfig(
            min_replicas=config.replicas.min_replicas,
            max_replicas=config.replicas.max_replicas,
            upscale_delay_s=config.replicas.upscale_delay_s,
            downscale_delay_s=config.replicas.downscale_delay_s,
        ),
        health_check_period_s=_HEALTH_PERIOD_S,
        health_check_timeout_s=_HEALTH_TIMEOUT_S,
        graceful_shutdown_timeout_s=_DRAIN_S,
        request_router_config=request_router(cluster.routing, config.engine.max_running),
    )
    return deployment.bind(str(size), config.model_dump_json(), cluster.token_env)


def request_router(routing: RoutingConfig, slots: int) -> RequestRouterConfig:
    """Serve's router between the replicas of a size that decodes `slots` requests at once."""
    if routing.replica_choice is ReplicaChoice.POWER_OF_TWO:
        return RequestRouterConfig(request_routing_stats_period_s=_UNREAD_PERIOD_S)
    return RequestRouterConfig(
        request_router_class="cluster.replica_router:ReplicaRouter",
        request_router_kwargs={"slots": slots, "queue_tokens": routing.queue_tokens},
        request_routing_stats_period_s=_REPORT_PERIOD_S,
        request_routing_stats_timeout_s=_REPORT_TIMEOUT_S,
    )


class SizedReplica(Replica):
    """A replica that first sees to it that its checkpoint is on this node."""

    async def __init__(self, size: str, config_json: str, token_env: str) -> None:  # type: ignore[misc]
        """Runs on the replica's node; a hub checkpoint is downloaded here."""
        config = SizeConfig.model_validate_json(config_json)
        source = parse_source(config.source)
        folder = await asyncio.to_thread(resolve, source, config.revision, os.environ.get(token_env))
        await Replica.__init__(self, size, str(folder), config_json)


def _ingress(face: type[Face], copies: int) -> serve.Deployment:
    @serve.ingress()
    class Ingress(face):  # type: ignore[misc, valid-type]
        async def __init__(  # type: ignore[misc]
            self, settings_json: str, config_json: str, handles: Mapping[str, DeploymentHandle]
        ) -> None:
            config = ClusterConfig.model_validate_json(config_json)
            by_size = {Size(name): handle for name, handle in handles.items()}
            router = router_of(config, by_size, peers_here() if copies > 1 else None)
            await router.start()
            face.__init__(self, settings_json, router)

        def __serve_build_asgi_app__(self) -> Any:
            return self.asgi()

    return serve.deployment(
        Ingress,
        name=INGRESS_NAME,
        num_replicas=copies,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=_INGRESS_STREAMS,
        health_check_period_s=_HEALTH_PERIOD_S,
        health_check_timeout_s=_HEALTH_TIMEOUT_S,
        graceful_shutdown_timeout_s=_DRAIN_S,
    )


def peers_here() -> Peers:
    """Those of the deployment that this process belongs to."""
    context = serve.get_replica_context()
    handle = serve.get_deployment_handle(context.deployment, context.app_name)
    return Peers(context.replica_id.unique_id[:6], handle)


def router_of(config: ClusterConfig, handles: Mapping[Size, DeploymentHandle], peers: Peers | None = None) -> Router:
    """A router over running deployments."""
    names = {size: _named(size, config.sizes[size]) for size in handles}
    return Router(config, handles, names, profile_of(config), peers)


def _named(size: Size, config: SizeConfig) -> tuple[str, bool, int]:
    """Checkpoint name, stand-in flag and parameters of a slot; for a checkpoint that is not here yet, the published."""
    name, stand_in, parameters = describe(parse_source(config.source))
    return name, stand_in, parameters or round(SIZES[size].parameters_e9 * 1e9)
