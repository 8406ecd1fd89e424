"""Token ids -> how they are spelled in lists of log-probabilities, and where in the text they begin."""

import codecs
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from model.events import Logprob
from model.prompt import Prompter
from serving.parts import Scored, Spelled

_BYTE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_LEAST: Final = -9999.0  # what OpenAI sends for minus infinity, which JSON cannot hold


class Speller:
    """Spells tokens; one per ingress process. Remembers each, at most one entry for an id of the vocabulary."""

    def __init__(self, prompter: Prompter) -> None:
        # The one tokenizer of the process; the prompter itself only encodes.
        self._tokenizer: Any = prompter._tokenizer
        self._known: dict[int, Spelled] = {}

    def spell(self, token_id: int) -> Spelled:
        r"""The token by itself; a byte that is no text alone reads `\xe2`, as OpenAI writes it."""
        if token_id not in self._known:
            self._known[token_id] = self._look_up(token_id)
        return self._known[token_id]

    def _look_up(self, token_id: int) -> Spelled:
        piece = self._tokenizer.id_to_token(token_id) or f"<{token_id}>"
        if byte := _BYTE.fullmatch(piece):
            raw = bytes.fromhex(byte[1])
            return Spelled(token_id, raw.decode(errors="backslashreplace"), raw, is_byte=True)
        text: str = self._tokenizer.decode([token_id], skip_special_tokens=True)
        return Spelled(token_id, text, text.encode()) if text else Spelled(token_id, piece, None)


class Ruler:
    """Where the tokens of one choice begin in its text, counted as the engine makes text of them."""

    def __init__(self, speller: Speller, begin: int = 0) -> None:
        self._speller = speller
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self._length = begin

    def scored(self, logprobs: Iterable[Logprob]) -> tuple[Scored, ...]:
        """The tokens that come next, with their scores."""
        return tuple(self._scored(one) for one in logprobs)

    def unscored(self, token_id: int) -> Scored:
        """The first token of a prompt."""
        token = self._speller.spell(token_id)
        offset, _ = self._step(token)
        return Scored(token, offset)

    def text_of(self, token_ids: Sequence[int]) -> str:
        """The text of ids, broken characters replaced."""
        text = "".join(self._step(self._speller.spell(token_id))[1] for token_id in token_ids)
        return text + self._bytes.decode(b"", final=True)

    def _scored(self, one: Logprob) -> Scored:
        token = self._speller.spell(one.token_id)
        offset, _ = self._step(token)
        top = tuple((self._speller.spell(other), max(score, _LEAST)) for other, score in one.top)
        return Scored(token, offset, max(one.logprob, _LEAST), top)

    def _step(self, token: Spelled) -> tuple[int, str]:
        """Offset of this token, and what text it adds; a run of bytes is one text once it is whole."""
        offset = self._length
        if token.raw is None:
            added = ""
        elif token.is_byte:
            added = self._bytes.decode(token.raw)
        else:
            broken = self._bytes.decode(b"", final=True)
            offset += len(broken)
            added = broken + token.name
        self._length += len(added)
        return offset, added
