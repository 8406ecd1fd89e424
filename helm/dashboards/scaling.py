"""How many replicas there are, how many are wanted, how long they take to come, and what they live on."""

from typing import Final

from helm.dashboards.board import Board, Panel, Row, now, of_ray, total
from helm.dashboards.engine import PER_SLOT


def _mean_s(histogram: str) -> str:
    """Of one of Ray's histograms in milliseconds, over all starts that its controller saw: an hour may have none."""
    in_all, number = (total(of_ray(f"{histogram}_{part}"), "deployment") for part in ("sum", "count"))
    return f"{in_all} / {number} / 1000"


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
            "Wanted",
            "What Serve's controller aims at. Above what is there for long: no GPU, or a slow start.",
            "none",
            f"max by (deployment) ({of_ray('ray_serve_autoscaling_target_replicas')})",
            "{{deployment}}",
        ),
        Panel(
            "Bounds",
            "Least and most. At the most and above 1 request per slot: GemmuleFull.",
            "none",
            now("gemmule_replica_bounds", "size, bound"),
            "{{size}} {{bound}}",
        ),
        Panel("Requests per slot", "What scaling follows.", "none", PER_SLOT, "{{size}}"),
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
            "Until it serves",
            "Mean, from the decision on: node, image, weights, warm-up, gate.",
            "s",
            _mean_s("ray_serve_replica_startup_latency_ms"),
            "{{deployment}}",
            12,
        ),
        Panel(
            "Of that, in the replica",
            "Mean: weights, warm-up, gate. The rest waits for a node and its image.",
            "s",
            _mean_s("ray_serve_replica_initialization_latency_ms"),
            "{{deployment}}",
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
