"""What an answer is made of, before a protocol words it."""

from dataclasses import dataclass

from cluster.config import Tier
from cluster.trail import Segment
from model.config import Size
from model.events import FinishReason, Usage
from model.request import RequestId


@dataclass(frozen=True, slots=True)
class Started:
    """First part of an answer: who works on it, and why."""

    request_id: RequestId
    size: Size
    tier: Tier | None
    reason: str
    detail: str
    replica: str
    checkpoint: str
    stand_in: bool
    created: int
    num_choices: int = 1


@dataclass(frozen=True, slots=True)
class Spelled:
    """A token as text. `raw` is None for a special token, which is no text."""

    token_id: int
    name: str
    raw: bytes | None
    is_byte: bool = False  # one of the tokens that spell rare characters byte by byte

    @property
    def is_text(self) -> bool:
        """Whether the token alone is text, so that `name` is what it adds and not a picture of a byte."""
        return self.raw is None or self.raw.isascii() or not self.is_byte


@dataclass(frozen=True, slots=True)
class Scored:
    """A token with its log-probability, the likeliest at its place, and where it begins in the choice's text.

    The first token of a prompt has no log-probability: nothing stands before it.
    """

    token: Spelled
    offset: int
    logprob: float | None = None
    top: tuple[tuple[Spelled, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """New text of one choice, or the prompt that is echoed in front of it. Scores only when asked for."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    scores: tuple[Scored, ...] = ()
    of_prompt: bool = False


@dataclass(frozen=True, slots=True)
class ChoiceEnded:
    """One choice is complete."""

    index: int
    reason: FinishReason


@dataclass(frozen=True, slots=True)
class Ended:
    """Last part: every choice is complete. Usage counts the prompt once and the output of all.

    `sizes` says who wrote which tokens, in their order: of one answer, or an entry for each of several. None where the
    client did not ask.
    """

    reason: FinishReason  # of the first choice
    usage: Usage
    cost_usd: float  # of every size that worked on it
    sizes: tuple[Segment, ...] | None = None


Part = Started | Piece | ChoiceEnded | Ended
