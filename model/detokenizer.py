"""Token ids to text as they arrive: never half a character, never part of a stop string."""

import codecs
import re
from collections.abc import Sequence
from typing import Final

from tokenizers import Tokenizer

_BYTE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Detokenizer:
    """Text of one sequence. Feed it new ids; it gives the text that is safe to show.

    Gemma's text is the sum of its tokens' texts, but for runs of byte tokens: those wait in a UTF-8 decoder until a
    character is whole, and broken ones become U+FFFD. (The library's `DecodeStream` raises on them.) Text that may
    still become a stop string waits here as well. The result does not depend on how many ids come at once.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self._decoded = ""  # text so far, shown or held back
        self._shown = 0  # characters of it that were shown
        self._watch = True
        self.num_ids = 0  # ids used; those after a stop string are not
        self.stopped = False  # a stop string was met; nothing more will come

    def feed(self, ids: Sequence[int], watch: bool = True) -> str:
        """New text, which may be empty; after a stop string only what stood before it.

        Without `watch` these ids' text is shown whatever it holds: an answer too young to stop.
        """
        self._watch = watch
        for token_id in ids:
            if self.stopped:
                break
            self.num_ids += 1
            self._extend(self._text_of(token_id))
        return self._show(len(self._decoded) - self._held_back())

    def finish(self) -> str:
        """The rest, once no more ids will come; broken bytes at the end become U+FFFD."""
        if not self.stopped:
            self._extend(self._bytes.decode(b"", final=True))
        return self._show(len(self._decoded))

    def _text_of(self, token_id: int) -> str:
        """What this token adds: perhaps nothing, perhaps the end of a character that others began."""
        byte = _BYTE.fullmatch(self._tokenizer.id_to_token(token_id) or "")
        if byte:
            return self._bytes.decode(bytes.fromhex(byte[1]))
        text: str = self._tokenizer.decode([token_id], skip_special_tokens=True)
        if not text:  # a special token: no text, and no end of a run of bytes either
            return ""
        return self._bytes.decode(b"", final=True) + text

    def _extend(self, text: str) -> None:
        """Add text, and cut at the earliest stop string; none begins in what was shown, since that was held back."""
        self._decoded += text
        found = [at for stop in self._watched() if (at := self._decoded.find(stop, self._shown)) >= 0]
        if found:
            self.stopped = True
            self._decoded = self._decoded[: min(found)]

    def _watched(self) -> tuple[str, ...]:
        return self._stop if self._watch else ()

    def _show(self, end: int) -> str:
        text = self._decoded[self._shown : end]
        self._shown = max(self._shown, end)
        return text

    def _held_back(self) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        if self.stopped:
            return 0
        longest = 0
        for stop in self._watched():
            for length in range(min(len(stop) - 1, len(self._decoded) - self._shown), longest, -1):
                if self._decoded.endswith(stop[:length]):
                    longest = length
                    break
        return longest
