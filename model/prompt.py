"""Chat turns -> Gemma token ids. Markers are placed by id, so text that spells a marker stays text."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from model.config import BOS_ID, END_OF_TURN_ID, START_OF_TURN_ID
from model.errors import InvalidRequestError

_JOINT: Final = "\n\n"


class Role(StrEnum):
    """Who speaks. Gemma knows user and model; the other two are folded into the next user turn."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said."""

    role: Role
    text: str


class Prompter:
    """The family's tokenizer and Gemma's turn format. Thread-safe; nothing is kept between calls."""

    def __init__(self, tokenizer_json: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer_json))
        self._tokenizer.encode_special_tokens = True  # `<bos>` in a user's text is five letters, not token 2
        self._longest_piece = max(map(len, self._tokenizer.get_vocab()))

    @property
    def vocabulary(self) -> int:
        """Number of token ids; every id in a prompt is below it."""
        return int(self._tokenizer.get_vocab_size())

    def chat(self, turns: Sequence[Turn]) -> tuple[int, ...]:
        """One `<bos>`, the folded turns, and an opened model turn; raises `InvalidRequestError` as `fold` does."""
        ids = [BOS_ID]
        for turn in fold(turns):
            speaker = "model" if turn.role is Role.ASSISTANT else "user"
            # The same cuts as Gemma's chat template makes: everything between two markers is encoded at once.
            ids += [START_OF_TURN_ID, *self._text(f"{speaker}\n{turn.text.strip()}"), END_OF_TURN_ID, *self._text("\n")]
        return (*ids, START_OF_TURN_ID, *self._text("model\n"))

    def encode(self, text: str) -> tuple[int, ...]:
        """One `<bos>` and the text as it is."""
        return (BOS_ID, *self._text(text))

    def count(self, text: str) -> int:
        """Tokens of a text, without `<bos>`."""
        return len(self._text(text))

    def at_least(self, num_characters: int) -> int:
        """Fewest tokens that many characters can become; free, for refusing megabytes without encoding them."""
        return -(-num_characters // self._longest_piece)

    def agrees_with(self, other: "Prompter") -> bool:
        """Whether both know the same pieces by the same ids."""
        return bool(self._tokenizer.get_vocab() == other._tokenizer.get_vocab())

    def _text(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def fold(turns: Sequence[Turn]) -> list[Turn]:
    """Alternating user and assistant turns, ending with the user.

    Gemma was trained without a system role. As its cookbook advises, system and developer text goes in front of the
    next user turn with an empty line between; turns of one role in a row are joined the same way. Raises
    `InvalidRequestError` with the path of the turn that does not fit.
    """
    folded: list[Turn] = []
    waiting: list[str] = []  # system text that looks for its user turn
    waiting_index = 0
    for index, turn in enumerate(turns):
        match turn.role:
            case Role.SYSTEM | Role.DEVELOPER:
                waiting.append(turn.text)
                waiting_index = index
            case Role.USER:
                _append(folded, Turn(Role.USER, _JOINT.join([*waiting, turn.text])))
                waiting.clear()
            case Role.ASSISTANT:
                if not folded:
                    raise _misplaced(index, "assistant comes before any user turn; begin with a user turn")
                _append(folded, turn)
    if waiting:
        raise _misplaced(waiting_index, f"{turns[waiting_index].role} has no user turn after it; add one")
    if not folded or folded[-1].role is not Role.USER:
        raise _misplaced(len(turns) - 1, "the last turn is the assistant's; end with a user turn")
    return folded


def _append(folded: list[Turn], turn: Turn) -> None:
    if folded and folded[-1].role is turn.role:
        turn = Turn(turn.role, folded.pop().text + _JOINT + turn.text)
    folded.append(turn)


def _misplaced(index: int, why: str) -> InvalidRequestError:
    path = f"messages[{index}].role"
    return InvalidRequestError("invalid_value", path, f"{path}: {why}")
