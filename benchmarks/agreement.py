"""What labels without grades are worth: statistics against true grades, and routing by profiles from either.

usage: python benchmarks/scored_answers.py answers.jsonl && python benchmarks/agreement.py answers.jsonl
       [--without OTHER.jsonl] [--splits 3] [--train 1200]
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cluster.routing.agreement import MARGIN, Compared, Heard, labels_of, regret
from cluster.routing.fit import RATES, chosen, fit
from cluster.routing.frontier import QUALITIES, cost_at, offers_of
from cluster.routing.labels import Labels
from cluster.routing.outcome import point
from model.config import STOP_IDS, Size

SIZES: Final = tuple(Size)
Answer = dict[str, Any]
Statistic = Callable[[Answer, Answer], float]


def shared(answer: Answer, own: Answer) -> float:
    """Depth of the first disagreement, as a share of the longer answer."""
    one, two = answer["tokens"], own["tokens"]
    same = (a == b for a, b in zip(one, two, strict=False))
    return next((n for n, equal in enumerate(same) if not equal), min(len(one), len(two))) / max(len(one), len(two))


STATISTICS: Final[Mapping[str, Statistic]] = {
    "worst token's regret": lambda a, _: -regret(a["logprobs"], a["best"]),
    "sum of regrets": lambda a, _: sum(a["logprobs"]) - sum(a["best"]),
    "mean regret": lambda a, _: float(np.mean(a["logprobs"]) - np.mean(a["best"])),
    "share of likeliest tokens": lambda a, _: float(np.mean(np.equal(a["logprobs"], a["best"]))),
    "mean log-probability": lambda a, _: float(np.mean(a["logprobs"])),
    "sum": lambda a, _: sum(a["logprobs"]),
    "least": lambda a, _: min(a["logprobs"]),
    "mean, less its own answer's": lambda a, own: float(np.mean(a["logprobs"]) - np.mean(own["logprobs"])),
    "sum, less its own answer's": lambda a, own: sum(a["logprobs"]) - sum(own["logprobs"]),
    "least, less its own answer's": lambda a, own: min(a["logprobs"]) - min(own["logprobs"]),
    "depth of first disagreement": shared,
    "the same tokens": lambda a, own: float(a["tokens"] == own["tokens"]),
}


def auc(values: NDArray[np.float64], marks: NDArray[np.bool_]) -> float:
    """Chance that a marked one lies above another; ties count half."""
    levels, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    marked = np.bincount(place, marks, len(levels))
    others = counts - marked
    below = np.cumsum(others) - others
    return float((marked * (below + others / 2)).sum() / (marked.sum() * others.sum()))


@dataclass(frozen=True)
class Found:
    auc: float
    threshold: float
    agreement: float


def measure(values: NDArray[np.float64], marks: NDArray[np.bool_]) -> Found:
    """AUC, and the threshold that agrees with most marks."""
    cuts = np.unique(values) if len(values) < 500 else np.unique(np.quantile(values, np.linspace(0, 1, 400)))
    shares = [float(np.mean((values >= cut) == marks)) for cut in cuts]
    best = int(np.argmax(shares))
    return Found(auc(values, marks), float(cuts[best]), shares[best])


def compare_statistics(rows: list[dict[str, Any]]) -> None:
    for size in SIZES[:-1]:
        pairs = [(row["answers"][size], row["answers"][SIZES[-1]]) for row in rows]
        right = np.array([answer["right"] for answer, _ in pairs])
        loses = np.array([own["right"] and not answer["right"] for answer, own in pairs])
        print(f"\n{size}: right {right.mean():.3f}; loses nothing against {SIZES[-1]}: {1 - loses.mean():.3f}")
        print(f"{'':32}| right: AUC | agreement | loses nothing: AUC | agreement | at")
        for name, statistic in STATISTICS.items():
            values = np.array([statistic(*pair) for pair in pairs], np.float64)
            one, two = measure(values, right), measure(values, ~loses)
            print(
                f"{name:32}| {one.auc:10.4f} | {one.agreement:9.4f} | {two.auc:18.4f} | {two.agreement:9.4f} | "
                f"{two.threshold:.3f}"
            )


def check_margin(rows: list[dict[str, Any]]) -> None:
    """Labels at the margin that is built in, against whether the smaller size loses nothing."""
    labels = labels_of([compared_of(row) for row in rows], SIZES)
    for column, size in enumerate(SIZES[:-1]):
        loses = np.array([row["answers"][SIZES[-1]]["right"] and not row["answers"][size]["right"] for row in rows])
        agreed = labels.right[:, column] == 1
        print(
            f"{size} at {MARGIN} nats: agreement {np.mean(agreed == ~loses):.4f}; labelled right {agreed.mean():.3f}, "
            f"loses nothing {1 - loses.mean():.3f}; of those labelled right {np.mean(~loses[agreed]):.4f} lose nothing"
        )


def compared_of(row: dict[str, Any]) -> Compared:
    heard = {
        size: Heard(len(a["tokens"]), a["tokens"][-1] in STOP_IDS, regret(a["logprobs"], a["best"]))
        for size in SIZES
        for a in [row["answers"][size]]
    }
    return Compared(row["text"], row["prompt_tokens"], row["kind"], heard)


def compare_routing(rows: list[dict[str, Any]], splits: int, train: int) -> None:
    scored = labels_of([compared_of(row) for row in rows], SIZES)
    graded = replace(scored, right=np.array([[row["answers"][s]["right"] for s in SIZES] for row in rows], float))
    same = np.array(
        [[row["answers"][s]["tokens"] == row["answers"][SIZES[-1]]["tokens"] for s in SIZES] for row in rows]
    )
    ways = {
        "grades": graded,
        f"scored, {MARGIN} nats": scored,
        "the same tokens": replace(scored, right=same.astype(float)),
    }
    for nats in (0.5, 2.0):
        ways[f"scored, {nats} nats"] = labels_of([compared_of(row) for row in rows], SIZES, nats)
    found: dict[str, list[list[float]]] = {name: [] for name in ways}
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(rows))
        for name, labels in ways.items():
            found[name].append(routed(labels.take(np.sort(order[:train])), graded.take(np.sort(order[train:]))))
            print(f"split {split}, {name}: {np.round(found[name][-1], 3)}", flush=True)
    print(f"\nkept at cost of the promise {QUALITIES}, then cost at that quality truly kept")
    for name, results in found.items():
        mean = np.mean(results, axis=0)
        promised = "  ".join(f"{q:.3f} at {c:.3f}" for q, c in zip(mean[:4], mean[4:8], strict=True))
        print(f"{name:20} {promised} | " + " ".join(f"{cost:.3f}" for cost in mean[8:]))


def routed(labels: Labels, test: Labels) -> list[float]:
    """Quality share and cost share at each promise, then cost at each quality, by true grades of other prompts."""
    profile = fit(labels)
    chances, costs = offers_of(profile, test)
    points = [point(test, chosen(chances, costs, profile.exchange_rate(quality))) for quality in QUALITIES]
    curve = tuple(point(test, chosen(chances, costs, rate)) for rate in RATES)
    at = [cost_at(curve, quality) or np.nan for quality in QUALITIES]
    return [*(p.quality for p in points), *(p.cost for p in points), *at]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--without", type=Path, help="leave out texts that this file has too")
    parser.add_argument("--splits", type=int, default=3, help="0: statistics only")
    parser.add_argument("--train", type=int, default=1200)
    given = parser.parse_args()
    drawn, others = read(given.answers), read(given.without) if given.without else []
    known = {row["text"] for row in others}
    # One row a text: nothing chosen for was fitted on.
    rows = list({row["text"]: row for row in drawn if row["text"] not in known}.values())
    print(f"{len(drawn)} tasks, {len(rows)} different texts")
    compare_statistics(rows)
    check_margin(rows)
    if given.splits:
        compare_routing(rows, given.splits, given.train)


if __name__ == "__main__":
    main()
