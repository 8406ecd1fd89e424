"""Every size that worked on a request, and what that cost: what an account is written from."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import takewhile
from typing import Protocol

from cluster.config import Tier
from cluster.routing.pricing import usd
from model.config import Size
from model.events import Usage
from model.request import RequestId


class Role(StrEnum):
    """What became of a size's work."""

    ANSWER = "answer"  # the client got it
    DRAFT = "draft"  # a larger size took over, and what was written went along
    LOST = "lost"  # the replica or the client was gone before the end


@dataclass(frozen=True, slots=True)
class Work:
    """One size's part in a request."""

    size: Size
    replica: str
    role: Role
    usage: Usage
    usd: float


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens of the answer, in order, by the size that wrote them first."""

    size: Size
    tokens: int


@dataclass(slots=True)
class Trail:
    """Filled while a request runs, whatever becomes of it."""

    works: list[Work] = field(default_factory=list)
    wrote: tuple[Segment, ...] = ()
    escalated: str = ""  # why

    @property
    def usd(self) -> float:
        """Of all sizes together."""
        return sum(work.usd for work in self.works)

    def relabel(self, role: Role) -> None:
        """What became of the last work is known now."""
        if self.works:
            self.works[-1] = replace(self.works[-1], role=role)


@dataclass(frozen=True, slots=True)
class Record:
    """One request that ended. No text of it."""

    request_id: RequestId
    tier: Tier | None
    size: Size | None
    reason: str
    detail: str
    escalated: str  # why a larger size took over, or the answer was stopped
    works: tuple[Work, ...]
    code: str
    finish: str
    ttft_s: float | None
    total_s: float


class Recorder(Protocol):
    """Where records go; a full ledger will stand behind it."""

    def record(self, record: Record) -> None:
        """Once for each request, at its end; must not block."""


def price(usage: Usage, usd_per_mtoken: float) -> float:
    """USD. Draft tokens are read like a prompt's; only the others had to be written one by one."""
    drafts = usage.accepted_draft_tokens + usage.rejected_draft_tokens
    written = usage.output_tokens - usage.accepted_draft_tokens
    return usd(usd_per_mtoken, usage.prompt_tokens + drafts, written)


def segments(small: Size, draft: Sequence[int], large: Size, answer: Sequence[int]) -> tuple[Segment, ...]:
    """Who wrote what: up to the first disagreement the smaller size, as the larger one found right."""
    agreed = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(draft, answer, strict=False)))
    parts = (Segment(small, agreed), Segment(large, len(answer) - agreed))
    return tuple(part for part in parts if part.tokens)
