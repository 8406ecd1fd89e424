"""Ranks and GPUs to placement bundles. Pure."""

from cluster.config import ReplicaConfig


def bundles(config: ReplicaConfig) -> list[dict[str, float]]:
    """One bundle per rank; the replica itself is rank 0 and sits in the first."""
    bundle = {"CPU": config.cpus_per_rank}
    if config.gpus_per_rank:
        bundle["GPU"] = config.gpus_per_rank
    return [dict(bundle) for _ in range(config.tensor_parallel)]
