"""What a request is expected to come to on every size, before any runs: quality, tokens, price. Pure."""

from collections import OrderedDict
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Final

from cluster.config import ClusterConfig
from cluster.routing.cascading import judge_of
from cluster.routing.choice import Offer
from cluster.routing.features import Text
from cluster.routing.judge import Judge
from cluster.routing.predictor import Prediction, Predictor
from cluster.routing.pricing import usd
from cluster.routing.profile import Profile, ProfileError, read_profile
from model.config import Size

_REMEMBERED: Final = 512  # texts; retries, several answers to one prompt, and a quote before its request
_SHIPPED: Final = files("cluster.routing") / "profiles"
SHIPPED: Final = ("embedded", "gemma-2")


def profile_of(config: ClusterConfig) -> Profile:
    """The configured profile; by default that of the embedded family where nothing else is served.

    Raises `ProfileError` when it cannot be read, or knows nothing of a size that is served.
    """
    embedded = all(size.source.startswith("embedded:") for size in config.sizes.values())
    name = config.routing.profile or ("embedded" if embedded else "gemma-2")
    profile = read_profile(Path(str(_SHIPPED / f"{name}.json")) if name in SHIPPED else Path(name))
    for size in config.sizes:
        if size not in profile.sizes:
            raise ProfileError(
                f"routing.profile: {name} knows nothing of {size}; `gemmule routing calibrate` with answers of {size}"
            )
    return profile


class Forecast:
    """A profile and the prices that this cluster asks. Equal texts get equal offers."""

    def __init__(self, profile: Profile, usd_per_mtoken: Mapping[Size, float]) -> None:
        self._predictor = Predictor(profile)
        self._known: OrderedDict[Text, Prediction] = OrderedDict()
        self._prices = dict(sorted(usd_per_mtoken.items(), key=lambda item: item[1]))
        dearest = max(self._prices, key=lambda size: profile.parameters_e9[size])
        # Prices tell how the served sizes compare, parameters what always taking the largest of the profile would cost.
        scale = self._prices[dearest] / profile.parameters_e9[dearest]
        self.unit_usd: Final = profile.mean_cost * scale / 1e6
        """What one cost of 1 is: an answer of the profile's largest size, on average."""
        self.judges: Final[Mapping[Size, Judge]] = {size: judge_of(part) for size, part in profile.judges.items()}
        self.useful_tokens: Final = profile.useful_tokens

    def offers(self, text: Text, max_tokens: int) -> tuple[Offer, ...]:
        """Of every served size, cheapest first. Well under a millisecond, next to nothing for a text seen lately."""
        predicted = self._predicted(text)
        lengths = {size: min(float(max_tokens), predicted.output_tokens[size]) for size in self._prices}
        return tuple(
            Offer(size, predicted.quality[size], self.usd(size, text.prompt_tokens, length) / self.unit_usd, length)
            for size, length in lengths.items()
        )

    def _predicted(self, text: Text) -> Prediction:
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = self._predictor.predict(text)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return known

    def usd(self, size: Size, prompt_tokens: float, output_tokens: float) -> float:
        """Price of a request."""
        return usd(self._prices[size], prompt_tokens, output_tokens)
