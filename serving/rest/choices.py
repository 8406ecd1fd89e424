"""The choices of a plain answer, filled while its parts come."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from model.events import FinishReason
from serving.parts import ChoiceEnded, Ended, Part, Piece, Scored, Started


@dataclass(slots=True)
class Choice:
    """One complete choice."""

    index: int
    reason: FinishReason = FinishReason.STOP
    texts: list[str] = field(default_factory=list)
    scores: list[Scored] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)  # of the answer, not of an echoed prompt

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.texts)


@dataclass(frozen=True, slots=True)
class Whole:
    """A complete answer."""

    started: Started
    choices: list[Choice]
    ended: Ended


async def collect(parts: AsyncGenerator[Part, None]) -> Whole:
    """The answer, once its last part is there."""
    started: Started | None = None
    choices: list[Choice] = []
    async with aclosing(parts):
        async for part in parts:
            match part:
                case Started():
                    started = part
                    choices = [Choice(index) for index in range(part.num_choices)]
                case Piece():
                    choices[part.index].texts.append(part.text)
                    choices[part.index].scores += part.scores
                    choices[part.index].token_ids += () if part.of_prompt else part.token_ids
                case ChoiceEnded():
                    choices[part.index].reason = part.reason
                case Ended() if started is not None:
                    return Whole(started, choices, part)
    raise RuntimeError("the stream ended without its last part")
