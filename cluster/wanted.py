"""What the settings ask of the replicas of one size; travels as Serve's `user_config`. Pure."""

from pydantic import Field

from cluster.config import Branch, ClusterConfig, ReplicaConfig, RoutingConfig
from model.config import Size


class Wanted(Branch):
    """`replica` takes a new replica, the rest reaches a running one."""

    replica: ReplicaConfig
    queue_tokens: int = Field(RoutingConfig().queue_tokens, ge=1)
    token_env: str = ClusterConfig.model_fields["token_env"].default


def wanted(size: Size, cluster: ClusterConfig) -> Wanted:
    """Of one size."""
    return Wanted(
        replica=cluster.sizes[size].replica(),
        queue_tokens=cluster.routing.queue_tokens,
        token_env=cluster.token_env,
    )
