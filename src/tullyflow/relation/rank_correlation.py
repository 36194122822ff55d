"""Spearman's rank correlation with what makes it believable: a permutation test, a bootstrap error, and at a fixed third quantity."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

__all__ = ["BOOTSTRAPS", "MIN_PAIRS", "PERMUTATIONS", "RankCorrelation", "correlate_ranks"]

PERMUTATIONS = 1000
BOOTSTRAPS = 200
MIN_PAIRS = 10
_CHUNK = 2_000_000  # numbers handled at once


@dataclass(frozen=True)
class RankCorrelation:
    """``rho`` and its bootstrap 1 sigma, the two-sided p of the permutations, and the galaxies; NaN where it has no meaning."""

    rho: float
    rho_err: float
    p: float
    n: int


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, ties averaged, centred and of length 1; zero where all are the same."""
    ranks = rankdata(values, axis=-1)
    ranks -= ranks.mean(axis=-1, keepdims=True)
    return _unit(ranks)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.sqrt((vectors**2).sum(axis=-1, keepdims=True))
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 1e-9 * np.sqrt(vectors.shape[-1]))


def _free_of(ranks: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Ranks less their part along those of the fixed quantity, of length 1 again."""
    return _unit(ranks - (ranks * fixed).sum(axis=-1, keepdims=True) * fixed)


def _vectors(x: np.ndarray, y: np.ndarray, z: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Vectors (..., pair) whose product is the correlation, and that of the fixed quantity."""
    a, b = _ranks(x), _ranks(y)
    if z is None:
        return a, b, None
    fixed = _ranks(z)
    return _free_of(a, fixed), _free_of(b, fixed), fixed


def _student(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlations (...) over their error as the products of the pairs show it, in absolute value."""
    products = a * b
    return np.abs(products.sum(axis=-1)) / np.sqrt((products**2).sum(axis=-1) + 1e-300)


def correlate_ranks(x, y, rng: np.random.Generator, fixed=None) -> RankCorrelation:
    """Correlate the ranks of x and y, of the pairs that are finite.

    Parameters
    ----------
    x, y : array (galaxy,)
    rng : numpy.random.Generator
        Of permutations and bootstrap.
    fixed : array (galaxy,), optional
        With it the partial correlation: of what the ranks of x and y have beyond their linear dependence on those of ``fixed``.

    Returns
    -------
    RankCorrelation
        p is the share of 1000 permutations of x that correlate as much, (1 + k) / (1 + 1000), so never 0. The permutations compare
        the correlation over its error: ranks freed of a third quantity scatter less at its ends, and without that a partial
        correlation of nothing has p < 0.05 in 7 % of cases. The error is the standard deviation of 200 draws of the galaxies with
        replacement, ranked anew. NaN for fewer than 10 pairs or values all the same.

    Source of the permutation test: DiCiccio & Romano 2017 (JASA 112, 1211).
    """
    columns = [np.asarray(values, dtype=float) for values in (x, y, *(() if fixed is None else (fixed,)))]
    known = np.all(np.isfinite(columns), axis=0)
    x, y, *rest = (values[known] for values in columns)
    z, n = rest[0] if rest else None, int(known.sum())
    if n < MIN_PAIRS:
        return RankCorrelation(np.nan, np.nan, np.nan, n)
    a, b, along = _vectors(x, y, z)
    if not a.any() or not b.any():
        return RankCorrelation(np.nan, np.nan, np.nan, n)
    rho = float(a @ b)
    step = max(1, _CHUNK // n)
    as_much, measured = 0, _student(a, b) - 1e-9
    for start in range(0, PERMUTATIONS, step):
        shuffled = rng.permuted(np.broadcast_to(a, (min(step, PERMUTATIONS - start), n)), axis=1)
        if along is not None:
            shuffled = _free_of(shuffled, along)
        as_much += int((_student(shuffled, b) >= measured).sum())
    drawn = []
    for start in range(0, BOOTSTRAPS, step):
        pick = rng.integers(n, size=(min(step, BOOTSTRAPS - start), n))
        one, two, _ = _vectors(x[pick], y[pick], None if z is None else z[pick])
        drawn.append((one * two).sum(axis=1))
    return RankCorrelation(rho, float(np.std(np.concatenate(drawn), ddof=1)), (1 + as_much) / (1 + PERMUTATIONS), n)
