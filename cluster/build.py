"""Configuration and a plain ingress class in, one Serve application out.

What may change while it runs travels as `user_config`, which Serve hands to running processes. Whatever else it is
given here stays the same: it would replace every replica for that. `cluster.sized_replica` says how replicas follow.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.handle import DeploymentHandle

from cluster.config import AutoscaleConfig, ClusterConfig, ReplicaChoice, RoutingConfig, SizeConfig
from cluster.forecast import profile_of
from cluster.peers import Peers
from cluster.placement import bundles
from cluster.rolling import Rolling, is_first
from cluster.router import Router
from cluster.scaling.board import Board
from cluster.scaling.reporter import Reporter
from cluster.sized_replica import SizedReplica
from cluster.snapshot import Page
from cluster.wanted import wanted
from model.config import SIZES, EngineConfig, Size
from model.source import describe, parse_source

APP_NAME: Final = "gemmule"
INGRESS_NAME: Final = "ingress"
_HEALTH_PERIOD_S: Final = 2.0
_HEALTH_TIMEOUT_S: Final = 30.0  # on a busy laptop an answer can be slow without the replica being ill
_REPORT_PERIOD_S: Final = 1.0  # a router's view of a cache is at most 1.4 s old with it (2026-11-24)
_REPORT_TIMEOUT_S: Final = 5.0
_UNREAD_PERIOD_S: Final = 3600.0  # reports that nobody reads
_DRAIN_S: Final = 600.0  # above the longest answer, so that scale-in cuts nobody off
_STREAMS: Final = 4096  # router and engine refuse what is too much; Serve's own limit must not come first


class Face(Protocol):
    """A plain class that answers gRPC by methods named like the calls, and HTTP by the app that `asgi` returns."""

    def __init__(self) -> None:
        """Cheap; nothing is asked before the first `settle`."""

    def asgi(self) -> Any:
        """The ASGI application."""

    async def page(self) -> Page:
        """What this process counts; its peers ask."""

    def read(self, settings: Mapping[str, Any]) -> tuple[ClusterConfig, int]:
        """The cluster's branch of a tree of settings, and how many ingress processes there shall be."""

    async def settle(self, settings: Mapping[str, Any], router: Router) -> None:
        """Answer with these from now on; what is under way ends as it began."""


def build(
    config: ClusterConfig, face: type[Face], settings: Mapping[str, Any], ingress_replicas: int = 1
) -> Application:
    """The application graph: a deployment per size, and the ingress that holds a handle to each of them."""
    profile_of(config)  # whatever is wrong with it is better said here than by every ingress replica
    handles = {str(size): engine_of(size, sized, config) for size, sized in config.sizes.items()}
    front = _ingress(face, config.routing.replica_choice)
    return front.options(num_replicas=ingress_replicas, user_config=dict(settings)).bind(handles)


def frame(
    sharded: Mapping[Size, bool], choice: ReplicaChoice, face: type[Face], replica: type[SizedReplica] = SizedReplica
) -> Application:
    """The graph alone, for a Serve configuration whose entries bring the settings of every deployment.

    Serve replaces all replicas for a change of what this is made from, so it is made from as little as can be.
    """
    routing = RoutingConfig(replica_choice=choice)
    handles = {
        str(size): _sized(size, more, routing).options(func_or_class=replica).bind(str(size))
        for size, more in sharded.items()
    }
    return _ingress(face, choice).bind(handles)


def engine_of(size: Size, config: SizeConfig, cluster: ClusterConfig) -> Application:
    """The replicas of one size, and how one of them is chosen."""
    sharded = config.tensor_parallel > 1
    deployment = _sized(size, sharded, cluster.routing, config.engine.max_running)
    return deployment.options(
        user_config=wanted(size, cluster).model_dump(mode="json"),
        ray_actor_options={"num_cpus": config.cpus_per_rank, "num_gpus": config.gpus_per_rank},
        placement_group_bundles=bundles(config) if sharded else None,
        autoscaling_config=bounds(config.replicas),
    ).bind(str(size))


def bounds(config: AutoscaleConfig) -> AutoscalingConfig:
    """All that Serve shall add to what the policy says: pace and calm are the policy's, `cluster.scaling`."""
    return AutoscalingConfig(
        min_replicas=config.min_replicas,
        max_replicas=config.max_replicas,
        upscale_delay_s=0,
        downscale_delay_s=0,
    )


def _sized(
    size: Size, sharded: bool, routing: RoutingConfig, slots: int = EngineConfig().max_running
) -> serve.Deployment:
    deployment = serve.deployment(
        SizedReplica,
        name=str(size),
        placement_group_bundles=[{"CPU": 1}] if sharded else None,
        placement_group_strategy="STRICT_PACK" if sharded else None,
        max_ongoing_requests=_STREAMS,
        health_check_period_s=_HEALTH_PERIOD_S,
        health_check_timeout_s=_HEALTH_TIMEOUT_S,
        graceful_shutdown_timeout_s=_DRAIN_S,
        request_router_config=request_router(routing, slots),
    )
    return _versioned(deployment, routing.replica_choice)


def request_router(routing: RoutingConfig, slots: int) -> RequestRouterConfig:
    """Serve's router between the replicas of a size; slots and weight are what holds until a replica tells its own."""
    if routing.replica_choice is ReplicaChoice.POWER_OF_TWO:
        return RequestRouterConfig(request_routing_stats_period_s=_UNREAD_PERIOD_S)
    return RequestRouterConfig(
        request_router_class="cluster.replica_router:ReplicaRouter",
        request_router_kwargs={"slots": slots, "queue_tokens": routing.queue_tokens},
        request_routing_stats_period_s=_REPORT_PERIOD_S,
        request_routing_stats_timeout_s=_REPORT_TIMEOUT_S,
    )


def _versioned(deployment: serve.Deployment, choice: ReplicaChoice) -> serve.Deployment:
    """With a version of our own: Serve makes one up for every deploy, and replaces all replicas for it.

    Only a change of the request router needs that, since a handle keeps the one it has (Ray 2.60).
    """
    versioned: serve.Deployment = deployment.options(version=choice.value, _internal=True)
    return versioned


def _ingress(face: type[Face], choice: ReplicaChoice) -> serve.Deployment:
    @serve.ingress()
    class Ingress(face):  # type: ignore[misc, valid-type]
        def __init__(self, handles: Mapping[str, DeploymentHandle]) -> None:
            self._handles = {Size(name): handle for name, handle in handles.items()}
            self._router: Router | None = None
            self._reporter = Reporter(Board(APP_NAME))
            self._rolling = Rolling(APP_NAME, is_first)
            face.__init__(self)

        async def reconfigure(self, settings: Mapping[str, Any]) -> None:
            config, copies = self.read(settings)
            handles = {size: await self._handle(size) for size in config.sizes}
            peers = await asyncio.to_thread(peers_here) if copies > 1 else None
            before = self._router
            router = await asyncio.to_thread(router_of, config, handles, peers, before, self._reporter)
            await router.start()
            await self.settle(settings, router)
            self._router = router
            self._rolling.watch(router.fleet, handles)
            if before is not None:
                before.retire()

        async def _handle(self, size: Size) -> DeploymentHandle:
            if size not in self._handles:  # it is served since the settings changed
                made = await asyncio.to_thread(serve.get_deployment_handle, str(size), APP_NAME)
                self._handles[size] = made
            return self._handles[size]

        def __serve_build_asgi_app__(self) -> Any:
            return self.asgi()

    deployment = serve.deployment(
        Ingress,
        name=INGRESS_NAME,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=_STREAMS,
        health_check_period_s=_HEALTH_PERIOD_S,
        health_check_timeout_s=_HEALTH_TIMEOUT_S,
        graceful_shutdown_timeout_s=_DRAIN_S,
    )
    return _versioned(deployment, choice)


def peers_here() -> Peers:
    """Those of the deployment that this process belongs to."""
    context = serve.get_replica_context()
    handle = serve.get_deployment_handle(context.deployment, context.app_name)
    return Peers(context.replica_id.unique_id[:6], handle)


def router_of(
    config: ClusterConfig,
    handles: Mapping[Size, DeploymentHandle],
    peers: Peers | None = None,
    before: Router | None = None,
    reporter: Reporter | None = None,
) -> Router:
    """A router over running deployments, in the place of the one `before`."""
    names = {size: _named(size, config.sizes[size]) for size in handles}
    return Router(config, handles, names, profile_of(config), peers, before, reporter)


def _named(size: Size, config: SizeConfig) -> tuple[str, bool, int]:
    """Checkpoint name, stand-in flag and parameters of a slot; for a checkpoint that is not here yet, the published."""
    name, stand_in, parameters = describe(parse_source(config.source))
    return name, stand_in, parameters or round(SIZES[size].parameters_e9 * 1e9)
