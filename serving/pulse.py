"""The time between the events of a request's answers."""

from collections.abc import Callable


class Pulse:
    """Tells `gap` the seconds between two events of the same choice."""

    def __init__(self, gap: Callable[[float], None]) -> None:
        self._gap = gap
        self._last_s: dict[int, float] = {}

    def beat(self, choice: int, now_s: float) -> None:
        """An event of a choice is going out."""
        last_s = self._last_s.get(choice)
        if last_s is not None:
            self._gap(now_s - last_s)
        self._last_s[choice] = now_s
