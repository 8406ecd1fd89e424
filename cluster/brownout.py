"""Too much to do: promises are waived, the cheapest first, and kept again when it is over. Pure; the clock is given.

A waived tier takes the cheapest size, which frees the larger ones for dearer promises. What that frees looks like calm,
so a promise that had to be waived again soon after it was restored stays waived twice as long.
"""

from collections.abc import Mapping
from typing import Final

from cluster.config import BrownOutConfig, Tier, TierConfig

_LONGEST_CALM_S: Final = 600.0


class BrownOut:
    """One per router. Tell it the load as often as there is news; it answers whose promise is waived."""

    def __init__(self, tiers: Mapping[Tier, TierConfig], config: BrownOutConfig) -> None:
        promising = [tier for tier, each in tiers.items() if each.quality_share > 0]
        # The dearest promise is kept to the end: there is nobody to free a size for.
        self._order = sorted(promising, key=lambda tier: tiers[tier].quality_share)[:-1]
        self._config = config
        self._level = 0
        self._since_s: float | None = None  # under pressure, or calm, without a break
        self._rising = False
        self._calm_s = config.calm_s
        self._restored_s = float("-inf")
        self.switches = 0

    @property
    def waived(self) -> frozenset[Tier]:
        """Tiers whose promise is waived now."""
        return frozenset(self._order[: self._level])

    def see(self, now_s: float, load: float) -> frozenset[Tier]:
        """`load`: ongoing requests per decoding slot of the most pressed size that has replicas."""
        if load >= self._config.from_load and self._level < len(self._order):
            self._move(now_s, rising=True, after_s=self._config.pressed_s)
        elif load <= self._config.until_load and self._level:
            self._move(now_s, rising=False, after_s=self._calm_s)
        else:
            self._since_s = None
        return self.waived

    def _move(self, now_s: float, rising: bool, after_s: float) -> None:
        if self._since_s is None or self._rising is not rising:
            self._since_s, self._rising = now_s, rising
        if now_s - self._since_s < after_s:
            return
        if rising:
            soon = now_s - self._restored_s < 2 * self._calm_s
            self._calm_s = min(_LONGEST_CALM_S, 2 * self._calm_s) if soon else self._config.calm_s
        else:
            self._restored_s = now_s
        self._level += 1 if rising else -1
        self._since_s = now_s
        self.switches += 1
