"""When requests can be served: strict until the first start is complete, lenient after it."""

from cluster.config import ClusterConfig
from cluster.snapshot import Snapshot
from model.errors import ModelNotFoundError


class Readiness:
    """First every size that keeps a replica must be up; from then on one size that can serve is enough."""

    def __init__(self, cluster: ClusterConfig) -> None:
        self._kept = {size for size, config in cluster.sizes.items() if config.replicas.min_replicas}
        self._names = tuple(size.value for size in cluster.sizes)
        self._was_complete = False

    def look(self, now: Snapshot, size: str | None = None) -> tuple[bool, dict[str, bool]]:
        """Ready as a whole, or the named size; and every size by itself. Raises `ModelNotFoundError`."""
        up = {state.size.value: state.num_replicas > 0 for state in now.sizes}
        if size is not None:
            if size not in up:
                raise ModelNotFoundError(size, self._names)
            return up[size], up
        self._was_complete = self._was_complete or all(up.get(kept.value, False) for kept in self._kept)
        can_serve = any(up.values()) or any(state.wakes or state.returns for state in now.sizes)
        return self._was_complete and can_serve, up
