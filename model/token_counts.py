"""Which tokens a sequence has, and how often its answer has each: what penalties look at."""

from array import array
from collections.abc import Iterable


class TokenCounts:
    """Every token of prompt and answer once, in arrays that become tensors by a plain copy.

    `counts[i]` is how often the answer has `ids[i]`: 0 for what only the prompt has.
    """

    def __init__(self, prompt: Iterable[int] = ()) -> None:
        self.ids = array("q", dict.fromkeys(prompt))
        self.counts = array("f", [0.0]) * len(self.ids)
        self._places = {token_id: place for place, token_id in enumerate(self.ids)}
        self._num_prompt = len(self.ids)

    def add(self, token_id: int) -> None:
        """The answer has grown by this token."""
        place = self._places.setdefault(token_id, len(self.ids))
        if place == len(self.ids):
            self.ids.append(token_id)
            self.counts.append(0.0)
        self.counts[place] += 1

    def remove(self, token_id: int) -> None:
        """Take back the last `add`; tokens must come in the opposite order."""
        place = self._places[token_id]
        self.counts[place] -= 1
        if not self.counts[place] and place >= self._num_prompt:  # new with that `add`, and so the last
            del self._places[token_id]
            self.ids.pop()
            self.counts.pop()
