"""Two convex fits on a matrix of inner products, for when there are far fewer texts than features."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_STEPS = 30
_SETTLED = 1e-6


def logistic(products: Floats, right: Floats, strength: float) -> Floats:
    """Coefficients a [N] of a logistic regression with penalty |w|^2 / (2 strength): logits are `products @ a`.

    products [N, N] are inner products of rows, right [N] is 0 or 1. Newton's method in the form that stays stable when
    a chance comes near 0 or 1 (C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning, 2006,
    algorithm 3.1, with the covariance `strength * products`).
    """
    covariance = strength * products
    logits, before = np.zeros(len(right)), np.inf
    for _ in range(_STEPS):
        chance = sigmoid(logits)
        weight = np.maximum(chance * (1 - chance), 1e-12)
        target = weight * logits + right - chance
        root = np.sqrt(weight)
        system = np.eye(len(right)) + root[:, None] * covariance * root
        found = target - root * np.linalg.solve(system, root * (covariance @ target))
        logits = covariance @ found
        objective = float(np.logaddexp(0, np.where(right > 0.5, -logits, logits)).sum() + found @ logits / 2)
        if abs(before - objective) < _SETTLED * max(1.0, abs(objective)):
            break
        before = objective
    coefficients: Floats = strength * found
    return coefficients


def ridge(products: Floats, values: Floats, strength: float) -> Floats:
    """Coefficients [N, K] of ridge regressions with penalty |w|^2 / strength on values [N, K]."""
    return np.asarray(np.linalg.solve(products + np.eye(len(values)) / strength, values), np.float64)


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + e^-x), without overflow."""
    return np.exp(-np.logaddexp(0, -logits))


def few(features: Floats, right: Floats, strength: float) -> Floats:
    """Weights [K] of a logistic regression on few features [N, K], by Newton's method; penalty |w|^2 / (2 strength)."""
    weights = np.zeros(features.shape[1])
    for _ in range(_STEPS):
        chance = sigmoid(features @ weights)
        gradient = features.T @ (right - chance) - weights / strength
        slope = features.T * np.maximum(chance * (1 - chance), 1e-9) @ features + np.eye(len(weights)) / strength
        step = np.linalg.solve(slope, gradient)
        weights = weights + step
        if float(np.abs(step).max()) < _SETTLED:
            break
    return weights
