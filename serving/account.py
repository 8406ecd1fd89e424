"""What one request comes to in the end: its log line and its metrics."""

import logging
from dataclasses import dataclass, field

from cluster.config import Tier
from cluster.snapshot import Placed
from cluster.trail import Record, Role, Segment, Trail
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
    asked_tier: Tier | None = None
    placed_on: Placed | None = None
    trail: Trail = field(default_factory=Trail)
    code: str = Code.ABORTED.value  # until something else is known: the client left
    finish: str = Code.ABORTED.value
    ttft_s: float | None = None
    usage: Usage | None = None

    @property
    def size(self) -> str:
        """Whose answer the client gets."""
        return self.placed_on.decision.size if self.placed_on else NONE

    @property
    def tier(self) -> str:
        """As asked for."""
        return self.asked_tier or NONE

    def placed(self, placed: Placed, now_s: float) -> None:
        """The first event is about to go out."""
        self.placed_on = placed
        self.ttft_s = now_s - self.began_s

    def finished(self, reason: FinishReason, usage: Usage) -> None:
        """The answer is complete; usage is what the engine did."""
        self.code, self.finish, self.usage = "ok", reason.value, usage

    def wrote(self) -> tuple[Segment, ...]:
        """Which size wrote which tokens: of one answer in their order, of several one after the other."""
        answers = [work for work in self.trail.works if work.role is Role.ANSWER]
        if len(answers) == 1:
            return self.trail.wrote
        return tuple(Segment(work.size, work.usage.output_tokens) for work in answers)

    def failed(self, code: Code, reason: str) -> None:
        """It ended with an error."""
        self.code, self.finish = code.value, reason

    def close(self, metrics: Metrics, now_s: float) -> Record:
        """One line, one count, one record."""
        total_s = now_s - self.began_s
        metrics.ended(self.size, self.tier, self.code, total_s, self.usage)
        metrics.worked(self.tier, self.trail.works)
        decision = self.placed_on.decision if self.placed_on else None
        log.info(
            "request ended",
            extra={
                "request_id": self.request_id,
                "size": self.size,
                "tier": self.tier,
                "reason": decision.reason if decision else NONE,
                "detail": decision.detail if decision else NONE,
                "replica": self.placed_on.replica if self.placed_on else NONE,
                "prompt_tokens": self.usage.prompt_tokens if self.usage else None,
                "output_tokens": self.usage.output_tokens if self.usage else None,
                "escalated": self.trail.escalated or None,
                "works": [f"{work.role} {work.size} {work.usage.output_tokens}" for work in self.trail.works],
                "usd": round(self.trail.usd, 9),
                "ttft_s": None if self.ttft_s is None else round(self.ttft_s, 4),
                "total_s": round(total_s, 4),
                "finish": self.finish,
            },
        )
        return Record(
            request_id=self.request_id,
            tier=self.asked_tier,
            size=decision.size if decision else None,
            reason=decision.reason if decision else NONE,
            detail=decision.detail if decision else "",
            escalated=self.trail.escalated,
            works=tuple(self.trail.works),
            code=self.code,
            finish=self.finish,
            ttft_s=self.ttft_s,
            total_s=total_s,
        )
