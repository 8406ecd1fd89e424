"""From labelled prompts to a profile: it learns what there is to learn, keeps its promises and forgets the texts."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from cluster.routing.choice import best
from cluster.routing.features import Text
from cluster.routing.fit import fit, rows_of
from cluster.routing.frontier import cost_at, frontier, offers_of
from cluster.routing.labels import Labels, LabelsError, read_labels
from cluster.routing.outcome import point
from cluster.routing.predictor import Predictor
from cluster.routing.profile import Profile, ProfileError, read_profile
from cluster.routing.promising import chosen
from cluster.routing.solve import logistic, ridge, sigmoid
from model.config import Size
from tests.unit.cluster.routing.prompts import KINDS, chance, rows, write


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Labels:
    return read_labels(write(tmp_path_factory.mktemp("labels") / "labels.csv", rows(600, seed=1)))


@pytest.fixture(scope="module")
def profile(labels: Labels) -> Profile:
    return fit(labels, "made-up prompts")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Labels:
    return read_labels(write(tmp_path_factory.mktemp("labels") / "others.csv", rows(600, seed=2)))


def test_logistic_regression_is_at_its_optimum() -> None:
    rng = np.random.default_rng(0)
    x, strength = rng.normal(size=(80, 5)), 2.0
    right = (rng.random(80) < sigmoid(x @ np.array([2.0, -1.0, 0.0, 0.5, 0.0]))).astype(float)
    w = x.T @ logistic(x @ x.T, right, strength)
    gradient = x.T @ (right - sigmoid(x @ w)) - w / strength
    assert np.abs(gradient).max() < 1e-3
    # Separable, and almost without a penalty: finite, and on the right side.
    certain = logistic(x @ x.T, (x[:, 0] > 0).astype(float), 1e4)
    assert np.isfinite(certain).all()
    assert (((x @ (x.T @ certain)) > 0) == (x[:, 0] > 0)).mean() > 0.98


def test_ridge_is_the_closed_form() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 6)), rng.normal(size=(40, 2))
    expected = np.linalg.solve(x.T @ x + np.eye(6) / 3.0, x.T @ y)
    assert np.allclose(x.T @ ridge(x @ x.T, y, 3.0), expected)


def test_inner_products_are_those_of_the_rows(labels: Labels) -> None:
    found = rows_of([Text(prompt, 30) for prompt in labels.prompts[:60]])
    assert np.allclose(found.products, found.values @ found.values.T + 1, atol=1e-4)


def test_the_chances_are_those_of_the_kind(profile: Profile, others: Labels) -> None:
    predictor = Predictor(profile)
    for kind in KINDS:
        said = [predictor.predict(Text(prompt, 30)).quality for prompt in others.prompts if f" {kind} " in prompt]
        for size in Size:
            assert abs(np.mean([each[size] for each in said]) - chance(size, kind)) < 0.18
    assert max(profile.calibration_error.values()) < 0.08


@pytest.mark.parametrize("quality", [0.7, 0.8, 0.9, 0.95])
def test_a_promise_is_kept_on_prompts_never_seen(profile: Profile, others: Labels, quality: float) -> None:
    chances, costs = offers_of(profile, others)
    got = point(others, chosen(chances, costs, profile.exchange_rate(quality)))
    assert got.quality >= quality - 0.03
    assert got.cost < quality


def test_more_quality_never_costs_a_lower_rate_of_exchange(profile: Profile) -> None:
    rates = [promise.exchange_rate for promise in profile.promises]
    assert rates == sorted(rates, reverse=True)
    assert profile.exchange_rate(0.905) == profile.exchange_rate(0.91)  # between two, the careful one
    for promise in profile.promises:
        assert promise.low <= promise.quality_share <= promise.high
        assert sum(promise.sizes.values()) == pytest.approx(1)


def test_the_vector_form_and_the_single_choice_agree(profile: Profile, others: Labels) -> None:
    predictor, rate = Predictor(profile), profile.exchange_rate(0.9)
    chances, costs = offers_of(profile, others)
    columns = chosen(chances, costs, rate)
    for prompt, column in list(zip(others.prompts, columns, strict=True))[:100]:
        offers = predictor.offers(predictor.predict(Text(prompt, 30)), 30)
        assert best(offers, rate).size is profile.sizes[column]


def test_a_profile_survives_its_file_and_holds_no_text(profile: Profile, labels: Labels, tmp_path: Path) -> None:
    profile.save(tmp_path / "profile.json")
    again = read_profile(tmp_path / "profile.json")
    for prompt in labels.prompts[:20]:
        assert Predictor(again).predict(Text(prompt, 30)) == Predictor(profile).predict(Text(prompt, 30))
    text = (tmp_path / "profile.json").read_text()
    assert len(text) < 2_000_000
    assert not re.search(r"conjecture|riddle|chess|Explain", text)
    assert json.loads(text)["data"]["sha256"] == labels.sha256


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[: len(text) // 2], "file"),
        (lambda text: text.replace("profile/1", "profile/9"), "format"),
        (lambda text: text.replace('"dollars"', '"euros"'), "calibrate again"),
        (lambda text: re.sub(r'"rarity": "[^"]{8}', '"rarity": "', text), "do not fit together"),
    ],
)
def test_a_profile_that_is_none_is_refused(profile: Profile, tmp_path: Path, change: object, words: str) -> None:
    path = tmp_path / "profile.json"
    profile.save(path)
    path.write_text(change(path.read_text()))  # type: ignore[operator]
    with pytest.raises(ProfileError, match=words):
        read_profile(path)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("prompt_tokens", "many", "row 9, prompt_tokens: got 'many', needs a number"),
        ("out_tokens_9b", "-1", "row 9, out_tokens_9b: got '-1'"),
        ("out_tokens_9b", "nan", "row 9, out_tokens_9b: got 'nan'"),
        ("correct_27b", "2", "row 9, correct_27b: got '2', needs 0 or 1"),
    ],
)
def test_wrong_labels_are_named(tmp_path: Path, column: str, value: str, words: str) -> None:
    made = rows(60, seed=3)
    made[7][column] = value
    with pytest.raises(LabelsError, match=re.escape(words)):
        read_labels(write(tmp_path / "labels.csv", made))


def test_what_is_no_file_of_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="cannot be read"):
        read_labels(tmp_path / "none.csv")
    with pytest.raises(LabelsError, match="too few"):
        read_labels(write(tmp_path / "few.csv", rows(10, seed=4)))
    for column, words in (("question", "`prompt` or `question`"), ("out_tokens_2b", "out_tokens_2b")):
        with pytest.raises(LabelsError, match=words):
            read_labels(write(tmp_path / "labels.csv", without(column)))
    assert read_labels(write(tmp_path / "labels.csv", without("correct_2b"))).sizes == (Size.B9, Size.B27)


def without(column: str) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name != column} for row in rows(60, seed=5)]


def test_the_frontier_lies_between_mixing_and_knowing(labels: Labels) -> None:
    found = frontier(labels, splits=2, seed=0)
    (oracle,) = found.curves["oracle"]
    assert found.tested == 240
    for kept in found.kept[:3]:
        mixed = cost_at(found.curves["random mix"], kept.promised)
        assert mixed is not None
        assert kept.mean_cost < mixed
    assert oracle.quality > 1
    assert oracle.cost < found.kept[2].mean_cost
    assert found.sizes[Size.B27].quality == found.sizes[Size.B27].cost == pytest.approx(1)
