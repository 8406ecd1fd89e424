"""A straight line through what was seen lately. Pure."""

from typing import Final

KEEP: Final = 0.98
"""What an observation counts beside the next one: half after 34."""
_FIRST: Final = 10  # observations that are taken as they are
_MOST_TIMES: Final = 5.0  # how far one may lie above the line: a client that reads slowly shall not bend it


class Line:
    """Least squares with forgetting; neither falls nor goes below nothing.

    `stiffness` is the variance of x at which slope and assumed slope count alike: where all x are about the same, they
    cannot tell a slope.
    """

    def __init__(self, stiffness: float) -> None:
        self._stiffness = stiffness
        self._num = 0
        self._weight = self._x = self._y = self._xx = self._xy = 0.0

    def add(self, x: float, y: float, weight: float = 1.0) -> None:
        """One observation; older ones count less by it."""
        if self._num >= _FIRST:
            y = min(y, _MOST_TIMES * max(self.at(x), self._y / self._weight))
        self._num += 1
        self._weight = KEEP * self._weight + weight
        self._x = KEEP * self._x + weight * x
        self._y = KEEP * self._y + weight * y
        self._xx = KEEP * self._xx + weight * x * x
        self._xy = KEEP * self._xy + weight * x * y

    def slope(self, assumed: float = 0.0) -> float:
        """Of the line, pulled to what is assumed."""
        if not self._weight:
            return max(0.0, assumed)
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        variance = max(0.0, self._xx / self._weight - mean_x**2)
        covariance = self._xy / self._weight - mean_x * mean_y
        return max(0.0, (covariance + self._stiffness * assumed) / (variance + self._stiffness))

    def at(self, x: float, assumed: float = 0.0) -> float:
        """Height of the line; nothing before the first observation."""
        if not self._weight:
            return 0.0
        return max(0.0, self._y / self._weight + self.slope(assumed) * (x - self._x / self._weight))
