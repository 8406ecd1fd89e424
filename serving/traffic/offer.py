"""What a service does with each request for the sake of the traffic store: nothing, unless the operator wants it."""

from collections.abc import Callable

from serving.ask import Ask
from serving.config import TrafficConfig
from serving.metrics import Metrics
from serving.prompting import Prompt

Offer = Callable[[Ask, Prompt], None]


def nothing(_ask: Ask, _prompt: Prompt) -> None:
    """Sampling is switched off."""


def offer_of(config: TrafficConfig, metrics: Metrics, clock: Callable[[], float]) -> Offer:
    """Starts a thread when a share is set; otherwise costs nothing, not even the import of a database."""
    if not config.share or config.path is None:
        return nothing
    from serving.traffic.sampling import Sampler
    from serving.traffic.store import Bounds

    bounds = Bounds(config.retention_s, config.max_rows)
    sampler = Sampler(config.path, config.share, bounds, metrics.traffic, clock)
    sampler.start()
    return sampler.offer
