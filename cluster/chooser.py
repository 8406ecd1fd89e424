"""What one router process remembers between two choices of a replica; Serve's router and the replay both ask it."""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cluster.known_blocks import KnownBlocks
from cluster.replica_choice import PromptFacts, ReplicaFacts, Weights, rank
from cluster.replica_report import ReplicaReport
from model.capacity import BLOCK_TOKENS
from model.marks import unpack
from model.prefix_names import names_of
from model.request import GenerationRequest

_LOST_S: Final = 1.0  # a choice that was not sent by then was cancelled in between
_PLENTY: Final = 2**40  # free tokens of a replica that has told nothing yet: it is empty


@dataclass(frozen=True, slots=True)
class Seen:
    """A replica as Serve shows it at the moment of a choice."""

    replica: str
    ongoing: int | None  # requests there; None where this process does not know
    stats: Mapping[str, Any]  # `ReplicaReport.fields`, or nothing yet


@dataclass(frozen=True, slots=True)
class _Choice:
    replica: str
    names: tuple[int, ...]
    at_s: float


class Chooser:
    """Counts choices until they are sent, and learns where prompts went. One thread, and the caller's clock."""

    def __init__(self, slots: int, queue_tokens: int) -> None:
        """`slots` requests are decoded at once by a replica; each weighs `queue_tokens` prompt tokens."""
        self._slots = slots
        self._weights = Weights(queue_tokens)
        self._known: dict[str, KnownBlocks] = {}
        self._told: dict[str, bytes] = {}
        self._choices: dict[Hashable, _Choice] = {}  # not sent yet, the oldest first
        self._coming: Counter[str] = Counter()

    def order(self, key: Hashable, request: GenerationRequest, seen: Sequence[Seen], now_s: float) -> tuple[str, ...]:
        """Replicas for a request, the best first; it counts there until `sent`. `key` says which request, for retries.

        The queue lengths of Serve count a request when it is sent. Of a burst all would see the same one idle replica.
        """
        before = self._undo(key)
        self._expire(now_s)
        names = before.names if before else names_of(request)
        ids = request.prompt_token_ids
        prompt = PromptFacts(len(ids), request.session, names[-1] if names else hash(ids))
        order = tuple(r.replica for r in rank(prompt, (self._facts(s, names, now_s) for s in seen), self._weights))
        self._choices[key] = _Choice(order[0], names, now_s)
        self._coming[order[0]] += 1
        return order

    def sent(self, key: Hashable, replica: str, now_s: float) -> None:
        """The request of that key went there, which need not be the first in its order."""
        choice = self._undo(key)
        if choice is not None:
            self._known_of(replica).sent(choice.names, now_s)

    def keep(self, replicas: Collection[str]) -> None:
        """Only these are left; one that starts anew has a new name and an empty cache."""
        for gone in self._known.keys() - set(replicas):
            del self._known[gone]
            self._told.pop(gone, None)

    def _facts(self, seen: Seen, names: tuple[int, ...], now_s: float) -> ReplicaFacts:
        report = ReplicaReport.read(seen.stats)
        known = self._known_of(seen.replica)
        if report is not None and self._told.get(seen.replica) != report.marks:
            known.told(unpack(report.marks), report.complete, report.total_kv_tokens // BLOCK_TOKENS)
            self._told[seen.replica] = report.marks
        ongoing = seen.ongoing if seen.ongoing is not None else report.ongoing if report else 0
        return ReplicaFacts(
            replica=seen.replica,
            ongoing=ongoing + self._coming[seen.replica],
            slots=self._slots,
            free_kv_tokens=report.free_kv_tokens if report else _PLENTY,
            overlap_tokens=known.leading(names, now_s) * BLOCK_TOKENS,
        )

    def _known_of(self, replica: str) -> KnownBlocks:
        return self._known.setdefault(replica, KnownBlocks())

    def _undo(self, key: Hashable) -> _Choice | None:
        choice = self._choices.pop(key, None)
        if choice is not None:
            self._coming[choice.replica] -= 1
        return choice

    def _expire(self, now_s: float) -> None:
        while self._choices:
            key, oldest = next(iter(self._choices.items()))
            if now_s - oldest.at_s <= _LOST_S:
                return
            self._undo(key)
