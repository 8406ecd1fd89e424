"""What each kind of feature brings: `python -m benchmarks.routing_ablation LABELS.csv`.

Every prompt is predicted by a fit on four fifths that do not hold it, three ways to cut; costs are read off the curve.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from cluster.routing.fit import Guesses, correct, guesses_for, rows_of
from cluster.routing.frontier import cost_at
from cluster.routing.grams import BUCKETS
from cluster.routing.labels import Labels, read_labels
from cluster.routing.outcome import point
from cluster.routing.pricing import cost
from cluster.routing.promising import RATES, chosen
from cluster.routing.solve import Floats
from model.config import SIZES

QUALITIES = (0.80, 0.90, 0.95, 0.98)
CUTS, FOLDS = 3, 5


def blocks(places: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Which columns each variant keeps."""
    characters, words = places < BUCKETS, (places >= BUCKETS) & (places < 2 * BUCKETS)
    counted = places >= 2 * BUCKETS
    return {
        "everything": characters | words | counted,
        "without n-grams of characters": words | counted,
        "without n-grams of words": characters | counted,
        "without counts": characters | words,
        "counts alone": counted,
    }


def costs(labels: Labels, products: Floats, seed: int) -> list[float]:
    """At each of `QUALITIES`, by predictions of fits on other prompts."""
    order = np.random.default_rng(seed).permutation(len(labels))
    guesses = Guesses(np.empty(labels.right.shape), np.empty(labels.right.shape))
    for fold in range(FOLDS):
        test = np.sort(order[fold::FOLDS])
        said = guesses_for(products, labels, np.setdiff1d(order, test), test)
        guesses.logits[test], guesses.log_tokens[test] = said.logits, said.log_tokens
    correction = correct(guesses, labels.right, labels.output_tokens)
    parameters = np.array([SIZES[size].parameters_e9 for size in labels.sizes])
    priced = cost(parameters, labels.prompt_tokens[:, None], correction.tokens(guesses)) / labels.costs[:, -1].mean()
    curve = tuple(point(labels, chosen(correction.chances(guesses), priced, rate)) for rate in RATES)
    return [cost_at(curve, quality) or 1.0 for quality in QUALITIES]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("labels", type=Path)
    labels = read_labels(parser.parse_args().labels)
    rows = rows_of(labels.texts)
    table = Table("features", *(f"{quality:.2f}" for quality in QUALITIES), box=None)
    for name, kept in track(blocks(rows.places).items(), "fitting", console=Console(stderr=True)):
        values = rows.values[:, kept].astype(np.float64)
        products = values @ values.T + 1
        means = np.mean([costs(labels, products, seed) for seed in range(CUTS)], axis=0)
        table.add_row(name, *(f"{mean:.3f}" for mean in means))
    Console().print(table)


if __name__ == "__main__":
    main()
