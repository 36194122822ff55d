"""A line with a weight per galaxy, so that the sample stands for a volume: least squares, errors by bootstrap."""

import numpy as np

from tullyflow.relation.line import MIN_POINTS

__all__ = ["fit_weighted"]

_BOOTSTRAPS = 500


def fit_weighted(x, y, weight, pivot: float, seed: int) -> dict:
    """Fit y = slope (x - pivot) + intercept by least squares with weights; the slope is attenuated by errors of x.

    Parameters
    ----------
    x, y, weight : array (point,)
        Points whose weight is not a positive number are left out.
    pivot : float
        In x.
    seed : int
        Of the bootstrap: 1 sigma are standard deviations over 500 draws of the points with replacement. Weights of very
        different size make few points count, which these errors know and those of the formula do not.

    Returns a record: slope, intercept with errors, rms (weighted), n_used, n_outliers (0), pivot; or ``error`` and n_used.
    """
    x, y, weight = (np.asarray(values, dtype=float) for values in (x, y, weight))
    known = np.isfinite(x) & np.isfinite(y) & np.isfinite(weight) & (weight > 0)
    x, y, weight = x[known] - pivot, y[known], weight[known]
    if x.size < MIN_POINTS or np.ptp(x) == 0:
        why = f"{x.size} galaxies have a weight" if x.size < MIN_POINTS else "x is the same for all"
        return {"error": f"fit: {why}; a weighted line needs {MIN_POINTS} with different x.", "n_used": int(x.size)}
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y]) * weight
    slope, intercept = _line(terms.sum(axis=1))
    rng = np.random.default_rng(seed)
    draws = [_line(terms @ np.bincount(rng.integers(x.size, size=x.size), minlength=x.size)) for _ in range(_BOOTSTRAPS)]
    errors = np.nanstd(draws, axis=0, ddof=1)
    residual = y - slope * x - intercept
    return {
        "slope": float(slope), "slope_err": float(errors[0]), "intercept": float(intercept), "intercept_err": float(errors[1]),
        "rms": float(np.sqrt(np.average(residual**2, weights=weight))), "n_used": int(x.size), "n_outliers": 0, "pivot": float(pivot),
    }  # fmt: skip


def _line(sums: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the weighted sums of 1, x, y, xx, xy; NaN where all x are the same."""
    s, sx, sy, sxx, sxy = sums
    spread = s * sxx - sx**2
    if spread <= 0:
        return np.nan, np.nan
    slope = (s * sxy - sx * sy) / spread
    return slope, (sy - slope * sx) / s
