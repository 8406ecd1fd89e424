"""Guesses at what comes next, looked up in the request's draft and in the text so far."""

from collections.abc import Sequence
from typing import Final

from model.grams import Grams

MOST: Final = 16
"""Longest guess: each token of it is computed in the step, right or wrong."""
_AT_FIRST: Final = 8
_LONGEST_PAUSE: Final = 32


class Lookup:
    """Guesses for one sequence. Never more than bets: what is sampled does not depend on them.

    The draft is guessed from where the answer has come to, as long as the answer follows it. After that it stays a
    source: where the last tokens of the answer occur in it, preferably behind where the answer left it, the guess is
    what follows there. With `use_prompt` so are prompt and answer, by their latest place. Guesses grow when they are
    right and shrink when they are wrong; when even single tokens are wrong it pauses for longer and longer.
    """

    def __init__(self, draft: Sequence[int], use_prompt: bool, prompt: Sequence[int]) -> None:
        self._draft = tuple(draft)
        self._num_prompt = len(prompt)
        self._read = 0  # tokens of the answer seen so far
        self._next: int | None = 0  # place in the draft that the answer has come to
        self._left = 0  # place up to which the answer was last known to follow the draft
        self._length = _AT_FIRST
        self._misses = 0  # single tokens in a row that were wrong
        self._pause = 0  # proposals to leave out
        self._draft_grams = Grams(self._draft, 1, 4)
        self._draft_grams.grow(self._draft)
        self._text_grams = Grams((), 2, 4) if use_prompt else None

    def propose(self, tokens: list[int], num_output: int, max_tokens: int) -> tuple[int, ...]:
        """A guess of at most `max_tokens` at what follows `tokens`: the prompt and `num_output` tokens of the answer.

        The list must be the sequence's own, or grow as that does; nothing of what was read is read again.
        """
        self._follow(tokens[self._num_prompt + self._read :])
        self._read = num_output
        if self._text_grams is not None:
            self._text_grams.grow(tokens)
        most = min(self._length, max_tokens)
        if most <= 0:
            return ()
        if self._pause and self._next is None:
            self._pause -= 1
            return ()
        return self._guess(tokens, num_output, most)

    def accepted(self, num_proposed: int, num_accepted: int) -> None:
        """So many tokens of a guess were right."""
        if num_proposed == 0:
            return
        if num_accepted == num_proposed:
            self._length = min(MOST, max(self._length, 2 * num_proposed))
        else:
            self._length = max(1, (self._length + num_accepted) // 2)
        self._misses = self._misses + 1 if num_accepted == 0 and num_proposed == 1 else 0
        self._pause = min(2**self._misses, _LONGEST_PAUSE) if self._misses else 0

    def _follow(self, new: Sequence[int]) -> None:
        for token_id in new:
            if self._next is not None and self._draft[self._next : self._next + 1] == (token_id,):
                self._next += 1
                self._left = self._next
            else:
                self._next = None

    def _guess(self, tokens: list[int], num_output: int, most: int) -> tuple[int, ...]:
        if self._next is not None and self._next < len(self._draft):
            return self._draft[self._next : self._next + most]
        for length in range(4, 0, -1):
            run = tokens[-length:]
            place = self._draft_grams.after(run, self._left) if length <= num_output else None
            if place is not None:
                self._next = place
                return self._draft[place : place + most]
            place = None if self._text_grams is None else self._text_grams.after(run, len(tokens))
            if self._text_grams is not None and place is not None:
                return self._text_grams.copied(place, most)
        return ()
