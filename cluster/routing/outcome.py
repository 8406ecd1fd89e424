"""What a choice of sizes brought, on prompts whose answers are known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster.routing.labels import Labels


@dataclass(frozen=True, slots=True)
class Point:
    """Shares of always taking the largest size: its right answers, its cost."""

    quality: float
    cost: float


def point(labels: Labels, taken: NDArray[np.int64]) -> Point:
    """What a choice [N] of sizes brought."""
    everyone, paid = np.arange(len(labels)), labels.costs
    quality = labels.right[everyone, taken].sum() / labels.right[:, -1].sum()
    return Point(float(quality), float(paid[everyone, taken].sum() / paid[:, -1].sum()))
