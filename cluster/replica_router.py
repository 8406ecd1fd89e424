"""Serve's request router: gathers facts, asks `Chooser`, hands Serve the ranks. One in every process with a handle.

Serve ships this module by value, so it holds no state of its own but in instances of classes of other modules.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

from ray.serve.request_router import FIFOMixin, PendingRequest, ReplicaID, RequestRouter, RunningReplica

from cluster.chooser import Chooser, Seen, prompt_of
from model.request import GenerationRequest

log = logging.getLogger("gemmule.replica_router")


class ReplicaRouter(FIFOMixin, RequestRouter):
    """Prefix, queue and memory decide. FIFOMixin, or parallel calls of one request hang (Ray 2.60)."""

    def initialize_state(self, **settings: Any) -> None:
        """Serve's own constructor: `slots` and `queue_tokens` of the size."""
        self._chooser = Chooser(**settings)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """All candidates, one a rank, the best first: Serve takes the first that is not full."""
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True  # else Serve asks again without pause while all full
        try:
            return [[replica] for replica in self._order(candidate_replicas, pending_request)]
        except Exception:  # one that leaves here loses the request: its caller would wait for ever
            log.exception("no choice by prefix; the shortest queue is taken")
            return [[replica] for replica in sorted(candidate_replicas, key=self._queue_length)]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:  # noqa: ARG002
        """It is sent: its blocks will be there."""
        self._chooser.sent(id(pending_request), replica_id.unique_id, time.monotonic())

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Forget what is known of those that are gone."""
        super().update_replicas(replicas)
        self._chooser.keep([replica.replica_id.unique_id for replica in replicas])

    def _order(self, replicas: Sequence[RunningReplica], pending: PendingRequest | None) -> list[RunningReplica]:
        request = pending.args[0] if pending is not None and pending.args else None
        if not isinstance(request, GenerationRequest):
            return sorted(replicas, key=self._queue_length)
        by_name = {replica.replica_id.unique_id: replica for replica in replicas}
        cache, chooser, key = self.replica_queue_len_cache, self._chooser, id(pending)
        prompt = chooser.waiting(key) or prompt_of(request)
        looked = [name for name in chooser.candidates(key, prompt) or by_name if name in by_name] or list(by_name)
        seen = [Seen(name, cache.get(by_name[name].replica_id), by_name[name].routing_stats) for name in looked]
        return [by_name[name] for name in chooser.order(key, prompt, seen, time.monotonic())]

    def _queue_length(self, replica: RunningReplica) -> int:
        return self.replica_queue_len_cache.get(replica.replica_id) or 0
