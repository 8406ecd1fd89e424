"""The profile for the real sizes that comes with the package."""

from pathlib import Path

import cluster.routing
from cluster.routing.choice import best
from cluster.routing.features import Text
from cluster.routing.predictor import Predictor
from cluster.routing.profile import read_profile
from model.config import Size

PROFILE = Path(cluster.routing.__file__).parent / "profiles" / "gemma-2.json"


def test_it_can_be_read_and_its_promises_were_kept_where_they_were_counted() -> None:
    profile = read_profile(PROFILE)
    assert profile.sizes == tuple(Size)
    for promise in profile.promises:
        assert abs(promise.quality_share - promise.quality) < 0.02 or promise.quality_share > promise.quality
        assert promise.cost_share <= 1


def test_harder_looking_mathematics_goes_to_larger_sizes() -> None:
    predictor = Predictor(read_profile(PROFILE))
    easy = Text("Tom has 3 apples and buys 4 more. How many apples does Tom have?", 60)
    hard = Text(
        "Let $f(x) = \\frac{1}{1-x}$ and let $S$ be the set of roots of $f^{2024}(z) = \\sqrt{3}$. Find "
        "$\\sum_{z \\in S} |z|^2$ in lowest terms as $\\frac{m}{n}$.",
        110,
    )
    said = {text: predictor.predict(text) for text in (easy, hard)}
    for size in Size:
        assert said[easy].quality[size] > said[hard].quality[size]
        assert said[easy].output_tokens[size] < said[hard].output_tokens[size]
    assert best(predictor.offers(said[easy], 60), predictor.profile.exchange_rate(0.8)).size is not Size.B27
