"""How many replicas there are, how many are wanted, how long they take to come, and what they live on."""

from typing import Final

from helm.dashboards.board import Board, Panel, Row, now, of_ray, total
from helm.dashboards.engine import PER_SLOT

_REPLICAS: Final = Row(
    "Replicas",
    (
        Panel(
            "There",
            "That can serve; of both clusters during an upgrade. Alerts: GemmuleSizeDown, GemmuleReplicasMissing.",
            "none",
            total(now("gemmule_replicas", "ray_io_cluster, size"), "size"),
            "{{size}}",
        ),
        Panel(
            "Wanted, and granted",
            "What a size's own requests call for, and its part of the budget. Apart: GemmuleFull.",
            "none",
            now("gemmule_scaling_replicas", "size, state", state=("wanted", "target")),
            "{{size}} {{state}}",
        ),
        Panel(
            "On their way",
            "Starting, and draining. Starting for long: no node, or a slow start.",
            "none",
            now("gemmule_scaling_replicas", "size, state", state=("starting", "draining")),
            "{{size}} {{state}}",
        ),
        Panel("Requests per slot", "What scaling follows. Alert: GemmuleFull.", "none", PER_SLOT, "{{size}}"),
        Panel(
            "Budget",
            "Devices that scaling may give out, and has.",
            "none",
            now("gemmule_scaling_devices", "what"),
            "{{what}}",
        ),
        Panel(
            "Bounds",
            "Least and most replicas of a size.",
            "none",
            now("gemmule_replica_bounds", "size, bound"),
            "{{size}} {{bound}}",
        ),
        Panel(
            "Healthy",
            "By Serve's health check, every 2 s. Alert where they die: GemmuleReplicasDying.",
            "none",
            total(of_ray("ray_serve_deployment_replica_healthy"), "deployment"),
            "{{deployment}}",
        ),
    ),
)
_START: Final = Row(
    "Cold start",
    (
        Panel(
            "A size's last start",
            "`all`: from the wish to serving; of it `place`: node, image, process. The rest is the replica's own.",
            "s",
            now("gemmule_cold_start_seconds", "size, part"),
            "{{size}} {{part}}",
            12,
        ),
        Panel(
            "A replica's own start",
            "By part, of the slowest replica of a size: fetch, weights, warm-up, gate …",
            "s",
            now("gemmule_replica_start_seconds", "size, part"),
            "{{size}} {{part}}",
            12,
        ),
    ),
)
_NODES: Final = Row(
    "Nodes",
    (
        Panel(
            "GPUs",
            "As Ray counts them; `AVAILABLE` ones wait for a replica.",
            "none",
            total(of_ray("ray_resources", Name="GPU"), "State"),
            "{{State}}",
            stacked=True,
        ),
        Panel(
            "CPUs",
            "As Ray counts them.",
            "none",
            total(of_ray("ray_resources", Name="CPU"), "State"),
            "{{State}}",
            stacked=True,
        ),
        Panel(
            "Memory",
            "Of each pod, the object store in /dev/shm included.",
            "bytes",
            f"max by (pod) ({of_ray('ray_node_mem_used')})",
            "{{pod}}",
        ),
    ),
)

SCALING: Final = Board("gemmule-scaling", "gemmule: scaling and cold start", (_REPLICAS, _START, _NODES))
