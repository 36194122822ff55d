"""Do probabilities mean what they say? Reliability, expected calibration error, accuracy against the share kept, Platt's calibration."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["KeptAccuracy", "Reliability", "accuracy_kept", "calibration_error", "fit_platt", "reliability"]

_STEPS = 50
_SLOPE_PRIOR = 0.05  # weight of a slope of 1, in fields: what holds it where the classes part without error


@dataclass(frozen=True)
class Reliability:
    """Of each bin of probability that holds a field: mean probability, share of fields that are true, and how many there are."""

    probability: NDArray[np.float64]
    share: NDArray[np.float64]
    number: NDArray[np.int64]


@dataclass(frozen=True)
class KeptAccuracy:
    """Accuracy (point,) of the ``share`` (point,) of the fields whose probability is farthest from one half."""

    share: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def _sound(probability: ArrayLike, true: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    probability, true = np.asarray(probability, dtype=float).ravel(), np.asarray(true, dtype=float).ravel()
    there = np.isfinite(probability) & np.isfinite(true)
    return probability[there], true[there] > 0.5


def reliability(probability: ArrayLike, true: ArrayLike, bins: int = 10) -> Reliability:
    """Return how often fields of each bin of probability are true; the bins are of equal width. NaN of either are left out."""
    probability, true = _sound(probability, true)
    which = np.minimum((probability * bins).astype(int), bins - 1)
    number = np.bincount(which, minlength=bins)
    held = number > 0
    mean, share = (np.bincount(which, weights=values, minlength=bins)[held] / number[held] for values in (probability, true))
    return Reliability(mean, share, number[held])


def calibration_error(probability: ArrayLike, true: ArrayLike, bins: int = 10) -> float:
    """Return the expected calibration error: the mean over fields of |mean probability - share true| of their bins; NaN of none."""
    found = reliability(probability, true, bins)
    return float(np.average(np.abs(found.probability - found.share), weights=found.number)) if found.number.size else np.nan


def accuracy_kept(probability: ArrayLike, true: ArrayLike, shares: ArrayLike = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)) -> KeptAccuracy:
    """Return the accuracy at one half of the most confident ``shares`` of the fields."""
    probability, true = _sound(probability, true)
    order = np.argsort(-np.abs(probability - 0.5), kind="stable")
    right = np.cumsum(((probability >= 0.5) == true)[order])
    kept = np.clip(np.rint(np.asarray(shares, dtype=float) * right.size).astype(int), 1, right.size)
    return KeptAccuracy(kept / right.size, right[kept - 1] / kept)


def fit_platt(logits: ArrayLike, true: ArrayLike) -> tuple[float, float]:
    """Return slope and offset of the logistic of ``logits`` that makes ``true`` most likely (Platt 1999), by Newton's method.

    NaN of either are left out. Without fields of both kinds nothing can be learnt: (1, 0).
    """
    logits, true = _sound(logits, true)
    if true.all() or not true.any():
        return 1.0, 0.0
    target = np.where(true, (true.sum() + 1) / (true.sum() + 2), 1 / ((~true).sum() + 2))  # Platt's, against certainty
    design = np.stack([logits, np.ones_like(logits)], axis=1)
    prior = np.diag([_SLOPE_PRIOR * len(logits) ** 0.5, 1e-6])
    found = np.array([1.0, 0.0])
    for _ in range(_STEPS):
        probability = 1 / (1 + np.exp(-np.clip(design @ found, -30, 30)))
        gradient = design.T @ (probability - target) + prior @ (found - (1.0, 0.0))
        curvature = design.T @ (design * (probability * (1 - probability))[:, None]) + prior
        step = np.clip(np.linalg.solve(curvature, gradient), -1, 1)
        found = found - step
        if np.abs(step).max() < 1e-9:
            break
    return float(max(found[0], 1e-3)), float(found[1])
