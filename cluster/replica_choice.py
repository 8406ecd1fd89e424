"""Which replica of a size works on a request: overlap with its cache, its queue, its free memory; pure.

Everything is weighed in one unit, prompt tokens to compute before the request's first token, so that a long prefix is
worth waiting for and a short one is not. That is what keeps everybody from gathering where the system prompt is.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class Weights:
    """What is worth how much."""

    queue_tokens: int  # each request that a replica works on already counts as so many prompt tokens
    home_requests: float = 1.5  # so many more than elsewhere may be at a session's home


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """What the choice knows of a request."""

    prompt_tokens: int
    session: str  # "" for none
    name: int  # says which prompt it is; any number


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """What the choice knows of one replica."""

    replica: str
    ongoing: int  # requests there or on their way
    slots: int  # requests that it decodes at once
    free_kv_tokens: int  # places that are empty or could be evicted
    overlap_tokens: int  # of this prompt's, believed to be in its cache


@dataclass(frozen=True, slots=True)
class Ranked:
    """A replica and what speaks against it."""

    replica: str
    work_tokens: float
    full: bool  # the request would wait for another to end


def rank(prompt: PromptFacts, replicas: Iterable[ReplicaFacts], weights: Weights) -> tuple[Ranked, ...]:
    """All replicas, the best first. Equal facts give equal ranks, in every process and whatever their order.

    Whoever has a free slot comes before whoever has none. Between equals a hash decides, of the session or else of the
    prompt: so several routers agree without talking, sessions stay, and different prompts spread.
    """
    facts = tuple(replicas)
    key = prompt.session or str(prompt.name)
    draws = {each.replica: _draw(key, each.replica) for each in facts}
    home = max(draws, key=lambda replica: (draws[replica], replica), default="") if prompt.session else ""
    bonus = weights.home_requests * weights.queue_tokens
    ranked = [
        Ranked(each.replica, _work(prompt, each, weights) - bonus * (each.replica == home), each.ongoing >= each.slots)
        for each in facts
    ]
    return tuple(sorted(ranked, key=lambda each: (each.full, each.work_tokens, -draws[each.replica], each.replica)))


def _work(prompt: PromptFacts, replica: ReplicaFacts, weights: Weights) -> float:
    """Its own tokens, those of others before it, and those for which others must give up their places first."""
    fresh = prompt.prompt_tokens - min(replica.overlap_tokens, prompt.prompt_tokens)
    short = max(0, fresh - replica.free_kv_tokens)
    return fresh + replica.ongoing * weights.queue_tokens + short


def _draw(key: str, replica: str) -> int:
    """Highest random weight (Thaler and Ravishankar, 1998): a replica that goes moves its own sessions only."""
    digest = blake2b(f"{key}\0{replica}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
