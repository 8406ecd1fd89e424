"""What one request comes to in the end: its log line and its metrics."""

import logging
from dataclasses import dataclass

from cluster.snapshot import Placed
from model.errors import Code
from model.events import FinishReason, Usage
from model.request import RequestId
from serving.metrics import NONE, Metrics

log = logging.getLogger("gemmule.request")


@dataclass(slots=True)
class Account:
    """Filled while a request runs; closed once. Holds no text of it."""

    request_id: RequestId
    began_s: float
    size: str = NONE
    tier: str = NONE
    reason: str = NONE
    replica: str = NONE
    code: str = Code.ABORTED.value  # until something else is known: the client left
    finish: str = Code.ABORTED.value
    ttft_s: float | None = None
    usage: Usage | None = None

    def placed(self, placed: Placed, now_s: float) -> None:
        """The first event is about to go out."""
        self.size, self.reason, self.replica = placed.decision.size, placed.decision.reason, placed.replica
        self.ttft_s = now_s - self.began_s

    def finished(self, reason: FinishReason, usage: Usage) -> None:
        """The answer is complete; usage is what the engine did."""
        self.code, self.finish, self.usage = "ok", reason.value, usage

    def failed(self, code: Code, reason: str) -> None:
        """It ended with an error."""
        self.code, self.finish = code.value, reason

    def close(self, metrics: Metrics, now_s: float) -> None:
        """One line, one count."""
        total_s = now_s - self.began_s
        metrics.ended(self.size, self.tier, self.code, total_s, self.usage)
        log.info(
            "request ended",
            extra={
                "request_id": self.request_id,
                "size": self.size,
                "tier": self.tier,
                "reason": self.reason,
                "replica": self.replica,
                "prompt_tokens": self.usage.prompt_tokens if self.usage else None,
                "output_tokens": self.usage.output_tokens if self.usage else None,
                "ttft_s": None if self.ttft_s is None else round(self.ttft_s, 4),
                "total_s": round(total_s, 4),
                "finish": self.finish,
            },
        )
