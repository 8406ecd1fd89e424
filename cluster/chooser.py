"""What one router process remembers between two choices of a replica; Serve's router and the simulator both ask it.

Among few replicas every one is looked at. Among many that would cost more than it brings: there those are that are
believed to have the longest part of the prompt, and a handful that a hash of the prompt draws from a ring. Of a handful
drawn, the best is nearly as good as the best of all (M. Mitzenmacher, The Power of Two Choices, 2001).
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from cluster.holders import Holders
from cluster.known_blocks import KnownBlocks
from cluster.replica_choice import PromptFacts, ReplicaFacts, Weights, rank
from cluster.replica_report import ReplicaReport
from model.capacity import BLOCK_TOKENS
from model.chance import uniform
from model.marks import unpack
from model.prefix_names import names_of
from model.request import GenerationRequest

_LOST_S: Final = 1.0  # a choice that was not sent by then was cancelled in between
_PLENTY: Final = 2**40  # free tokens of a replica that has told nothing yet: it is empty
_FEW: Final = 32  # replicas that are all looked at
_DRAWN: Final = 8  # of more than that, beside those that hold the prompt


@dataclass(frozen=True, slots=True)
class Seen:
    """A replica as Serve shows it at the moment of a choice."""

    replica: str
    ongoing: int | None  # requests there; None where this process does not know
    stats: Mapping[str, Any]  # `ReplicaReport.fields`, or nothing yet


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the choice knows of a request: its blocks' names, and `facts`."""

    facts: PromptFacts
    names: tuple[int, ...]


def prompt_of(request: GenerationRequest) -> Prompt:
    """Names its blocks; costs a hash of every token."""
    names, ids = names_of(request), request.prompt_token_ids
    return Prompt(PromptFacts(len(ids), request.session, names[-1] if names else hash(ids)), names)


@dataclass(frozen=True, slots=True)
class _Choice:
    replica: str
    prompt: Prompt
    at_s: float


class Chooser:
    """Counts choices until they are sent, and learns where prompts went. One thread, and the caller's clock."""

    def __init__(self, slots: int, queue_tokens: int, block_tokens: int = BLOCK_TOKENS) -> None:
        """`slots` requests are decoded at once by a replica; each weighs `queue_tokens` prompt tokens.

        A replica that tells its own numbers is believed.
        """
        self._slots, self._block_tokens = slots, block_tokens
        self._weights = Weights(queue_tokens)
        self._known: dict[str, KnownBlocks] = {}
        self._told: dict[str, bytes] = {}
        self._holders = Holders()
        self._ring: list[tuple[float, str]] = []
        self._placed: dict[str, float] = {}  # on it
        self._choices: dict[Hashable, _Choice] = {}  # not sent yet, the oldest first
        self._coming: Counter[str] = Counter()

    def waiting(self, key: Hashable) -> Prompt | None:
        """The prompt of a choice that was not sent yet, so that a retry need not name its blocks again."""
        choice = self._choices.get(key)
        return choice.prompt if choice else None

    def order(self, key: Hashable, prompt: Prompt, seen: Sequence[Seen], now_s: float) -> tuple[str, ...]:
        """These replicas for a request, the best first; it counts there until `sent`. `key` is for retries.

        Those that make room for a successor are left out where there are others.

        The queue lengths of Serve count a request when it is sent. Of a burst all would see the same one idle replica.
        """
        self._undo(key)
        self._expire(now_s)
        seen = [each for each in seen if not each.stats.get("leaving")] or seen
        facts = [self._facts(each, prompt.names, now_s) for each in seen]
        order = tuple(ranked.replica for ranked in rank(prompt.facts, facts, self._weights))
        self._choices[key] = _Choice(order[0], prompt, now_s)
        self._coming[order[0]] += 1
        return order

    def candidates(self, key: Hashable, prompt: Prompt) -> list[str] | None:
        """Who is worth a look for `order` among those that were named to `keep`; None: all, as few and for a retry."""
        if len(self._ring) <= _FEW or key in self._choices:
            return None
        found = dict.fromkeys(self._holders.of(prompt.names))
        for draw in range(_DRAWN):
            place = bisect_left(self._ring, (uniform(prompt.facts.name, draw), ""))
            found[self._ring[place % len(self._ring)][1]] = None
        if prompt.facts.session:
            found[self._ring[bisect_left(self._ring, (_place(prompt.facts.session), "")) % len(self._ring)][1]] = None
        return list(found)

    def sent(self, key: Hashable, replica: str, now_s: float) -> None:
        """The request of that key went there, which need not be the first in its order."""
        choice = self._undo(key)
        if choice is not None:
            self._known_of(replica).sent(choice.prompt.names, now_s)
            self._holders.sent(replica, choice.prompt.names)

    def keep(self, replicas: Collection[str]) -> None:
        """Only these are left; one that starts anew has a new name and an empty cache."""
        here = set(replicas)
        for gone in self._known.keys() - here:
            del self._known[gone]
            self._told.pop(gone, None)
        before = set(self._placed)
        for gone in before - here:
            self._holders.forget(gone)
            self._ring.remove((self._placed.pop(gone), gone))
        for new in here - before:
            place = self._placed[new] = _place(new)
            insort(self._ring, (place, new))

    def _facts(self, seen: Seen, names: tuple[int, ...], now_s: float) -> ReplicaFacts:
        report = ReplicaReport.read(seen.stats)
        if report is not None and report.queue_tokens:
            self._weights = Weights(report.queue_tokens)
        known = self._known_of(seen.replica)
        if report is not None and self._told.get(seen.replica) != report.marks:
            marks = unpack(report.marks)
            known.told(marks, report.complete, report.total_kv_tokens // self._block_tokens)
            self._told[seen.replica] = report.marks
            if len(self._ring) > _FEW:
                self._holders.told(seen.replica, marks)
        ongoing = seen.ongoing if seen.ongoing is not None else report.ongoing if report else 0
        return ReplicaFacts(
            replica=seen.replica,
            ongoing=ongoing + self._coming[seen.replica],
            slots=(report.slots if report else 0) or self._slots,
            free_kv_tokens=report.free_kv_tokens if report else _PLENTY,
            overlap_tokens=known.leading(names, now_s) * self._block_tokens if names else 0,
        )

    def _known_of(self, replica: str) -> KnownBlocks:
        known = self._known.get(replica)
        if known is None:
            known = self._known[replica] = KnownBlocks()
        return known

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


def _place(name: str) -> float:
    """On the ring, from 0 to 1; the same in every process."""
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=6).digest(), "little") / 2**48
