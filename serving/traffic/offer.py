"""What a service does with each request for the sake of the traffic store: nothing, unless the operator wants it."""

import threading
from collections.abc import Callable

from serving.ask import Ask
from serving.config import TrafficConfig
from serving.metrics import Metrics
from serving.prompting import Prompt

Offer = Callable[[Ask, Prompt], None]


def nothing(_ask: Ask, _prompt: Prompt) -> None:
    """Sampling is switched off."""


class Offering:
    """One per process; the store changes with the settings."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics, self._clock = metrics, clock
        self._config = TrafficConfig()
        self._offer: Offer = nothing
        self._close: Callable[[], None] = _nothing_to_close

    def of(self, config: TrafficConfig) -> Offer:
        """With these settings. Starts a thread when a share is set; otherwise costs nothing, not even an import.

        Another configuration ends the thread of the last one, once it has written what it was offered.
        """
        if config != self._config:
            threading.Thread(target=self._close, name="traffic-end").start()
            self._config, (self._offer, self._close) = config, self._opened(config)
        return self._offer

    def _opened(self, config: TrafficConfig) -> tuple[Offer, Callable[[], None]]:
        if not config.share or config.path is None:
            return nothing, _nothing_to_close
        from serving.traffic.sampling import Sampler
        from serving.traffic.store import Bounds

        bounds = Bounds(config.retention_s, config.max_rows)
        sampler = Sampler(config.path, config.share, bounds, self._metrics.traffic, self._clock)
        sampler.start()
        return sampler.offer, sampler.close


def _nothing_to_close() -> None:
    pass
