"""Token ids to text as they arrive: never half a character, never part of a stop string."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class Detokenizer:
    """Text of one sequence. Feed it new ids; it gives the text that is safe to show.

    Bytes of an unfinished character wait inside `DecodeStream`; text that may still become a stop string waits here.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._decoded = ""  # everything the stream gave
        self._shown = 0  # characters of it that were shown
        self.stopped = False  # a stop string was met; nothing more will come

    def feed(self, ids: Sequence[int]) -> str:
        """New text, which may be empty; after a stop string only what stood before it."""
        if self.stopped:
            return ""
        self._ids.extend(ids)
        for token_id in ids:
            self._decoded += self._stream.step(self._tokenizer, token_id) or ""
        return self._show(final=False)

    def finish(self) -> str:
        """The rest, once no more ids will come; broken bytes at the end become U+FFFD."""
        if self.stopped:
            return ""
        whole: str = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        if whole.startswith(self._decoded):
            self._decoded = whole
        return self._show(final=True)

    def _show(self, final: bool) -> str:
        cut = self._first_stop()
        if cut is not None:
            self.stopped = True
            self._decoded = self._decoded[:cut]
            final = True
        end = len(self._decoded) if final else len(self._decoded) - self._held_back()
        text = self._decoded[self._shown : end]
        self._shown = max(self._shown, end)
        return text

    def _first_stop(self) -> int | None:
        """Where the earliest stop string begins; it cannot begin in what was shown, since that was held back."""
        found = [at for stop in self._stop if (at := self._decoded.find(stop, self._shown)) >= 0]
        return min(found, default=None)

    def _held_back(self) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        longest = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(self._decoded) - self._shown), longest, -1):
                if self._decoded.endswith(stop[:length]):
                    longest = length
                    break
        return longest
