"""What a threshold brings with some of the sizes, as the live router would choose."""

import pytest

from cluster.config import ClusterConfig
from cluster.forecast import SHIPPED, profile_of
from cluster.planning.mixes import Mixes
from cluster.routing.choice import Offer, best
from cluster.routing.profile import Profile
from model.config import Size


@pytest.fixture(scope="module")
def profile() -> Profile:
    settings = ClusterConfig()
    routing = settings.routing.model_copy(update={"profile": SHIPPED[1]})
    return profile_of(settings.model_copy(update={"routing": routing}))


def test_the_whole_family_keeps_its_promises_at_the_shares_that_the_profile_tells(profile: Profile) -> None:
    mixes = Mixes(profile)
    for promise in profile.promises:
        mix = mixes.at(profile.sizes, promise.quality)
        assert mix.quality == pytest.approx(promise.quality_share, abs=0.04)  # labels say a little less
        assert mix.shares == pytest.approx(promise.sizes, abs=0.002)


@pytest.mark.parametrize("sizes", [(Size.B2, Size.B9), (Size.B9, Size.B27), (Size.B27,)])
@pytest.mark.parametrize("threshold", [0.0, 0.8, 0.95])
def test_sizes_are_chosen_as_the_router_chooses(profile: Profile, sizes: tuple[Size, ...], threshold: float) -> None:
    mixes = Mixes(profile)
    chances, costs = mixes.chances_and_costs
    rate = profile.exchange_rate(threshold) if threshold else float("inf")
    columns = [profile.sizes.index(size) for size in sizes]
    taken = [
        best([Offer(profile.sizes[c], float(chances[row, c]), float(costs[row, c])) for c in columns], rate).size
        for row in range(len(chances))
    ]
    shares = {size: taken.count(size) / len(taken) for size in sizes}
    assert mixes.at(sizes, threshold).shares == pytest.approx(shares)


def test_without_the_largest_size_its_promise_cannot_be_kept(profile: Profile) -> None:
    mixes = Mixes(profile)
    assert mixes.keeping((Size.B2, Size.B9), 1.0) == ()
    assert mixes.keeping((Size.B27,), 1.0)
    assert mixes.best((Size.B2, Size.B9)) < 1


def test_more_is_kept_at_every_threshold_that_is_left(profile: Profile) -> None:
    mixes = Mixes(profile)
    kept = mixes.keeping(profile.sizes, 0.9)
    assert min(mix.quality for mix in kept) == mixes.at(profile.sizes, 0.9).quality
