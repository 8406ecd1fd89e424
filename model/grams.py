"""Where runs of tokens occur in a text, kept up to date as it grows."""

from bisect import bisect_left
from collections.abc import Sequence


class Grams:
    """Places behind runs of `shortest` to `longest` tokens that have a token after them.

    The text is read and never copied; `grow` looks at what was added since, and costs a few dictionary entries a
    token. Finding costs one look-up, however long the text is.
    """

    def __init__(self, text: Sequence[int], shortest: int, longest: int) -> None:
        self.text = text
        self.lengths = range(shortest, longest + 1)
        self._indexed = 0  # places up to here are in
        self._places: dict[tuple[int, ...], list[int]] = {}  # ascending

    def grow(self, text: Sequence[int]) -> None:
        """The text is now this one, which begins with the old."""
        self.text = text
        for place in range(self._indexed + 1, len(text)):
            for length in self.lengths:
                if length <= place:
                    self._places.setdefault(tuple(text[place - length : place]), []).append(place)
        self._indexed = max(self._indexed, len(text) - 1)

    def after(self, run: Sequence[int], start: int) -> int | None:
        """The first place behind the run that is above `start`, else the last one anywhere."""
        places = self._places.get(tuple(run)) if len(run) in self.lengths else None
        if not places:
            return None
        index = bisect_left(places, start + 1)
        return places[index] if index < len(places) else places[-1]

    def copied(self, place: int, num_tokens: int) -> tuple[int, ...]:
        """What follows a place; where the text ends it goes on as if it repeated itself from there."""
        found = list(self.text[place : place + num_tokens])
        period = len(self.text) - place
        while len(found) < num_tokens:
            found.append(found[-period])
        return tuple(found)
