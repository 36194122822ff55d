"""Least Trimmed Squares line with errors in both coordinates and intrinsic scatter (Cappellari+2013 section 3.2).

Written from the paper and from FAST-LTS (Rousseeuw & Van Driessen 2006): the line through the half of the points
that fits best, then outliers clipped from the inside out, and the whole of it repeated until the intrinsic scatter
makes chi-squared per degree of freedom one. The objective has no log-normalisation term, so it is biased where
errors of x compare with the spread of x; and clipping at 2.6 sigma takes some 6 % off the standard deviation of
Gaussian residuals, which scatter and errors inherit. `regression.fit_mnr` is the cross-check.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from tullyflow.errors import RelationError
from tullyflow.relation.line import LineFit, Points, check_points, finish_fit

__all__ = ["best_half", "draw_pairs", "fit_lts"]

STARTS = 500
C_STEPS = 3
BEST = 10
_ELEMENTS = 65_536  # of the (start, point) arrays handled together: they stay in the processor's cache
_MAX_STEPS = 100
_PARAMETERS = 2
_TINY = 1e-30  # below any variance that matters: a flat trial line through points without errors of y


@dataclass(frozen=True)
class _Kept:
    """A line through the kept points at one trial scatter."""

    slope: float
    intercept: float
    used: np.ndarray
    chi2_per_dof: float


def _residuals_sq(x, y, x_var, y_var, slope, intercept):
    """Squared normalised residuals and total variances, both (start, point); ``y_var`` includes the trial scatter."""
    with np.errstate(invalid="ignore", over="ignore"):  # a start through points of one x has no slope, and is ranked last
        total = (slope**2)[:, None] * x_var
        total += y_var
        np.maximum(total, _TINY, out=total)
        residual = slope[:, None] * x
        residual += intercept[:, None]
        residual -= y
        residual *= residual
        residual /= total
    return residual, total


def _step(products, x_var, r_sq, total, keep, slope):
    """One step towards the minimum of sum r^2 over ``keep`` (start, point), for all starts at once; ``products``: `_products`.

    The normal equations with the weights of the present slope; the term with ``r_sq`` is the derivative of those
    weights, so that the fixed point is the minimum itself and not the attenuated line.
    """
    weight = keep / total
    s, sx, sy, sxx, sxy = (weight @ products).T
    weight *= r_sq
    sxy = sxy + slope * (weight @ x_var)
    with np.errstate(divide="ignore", invalid="ignore"):
        new_slope = (s * sxy - sx * sy) / (s * sxx - sx**2)
        return new_slope, (sy - new_slope * sx) / s


def _products(x, y):
    """What the normal equations sum: 1, x, y, x^2, xy; (point, 5)."""
    return np.column_stack([np.ones_like(x), x, y, x * x, x * y])


def _close(new, old) -> bool:
    return all(np.all(np.abs(a - b) <= 1e-12 + 1e-9 * np.abs(b)) for a, b in zip(new, old, strict=True))


def _smallest(r_sq: np.ndarray, h: int) -> np.ndarray:
    """Mask (start, point) of the h smallest residuals of each start."""
    return r_sq <= np.partition(r_sq, h - 1, axis=1)[:, h - 1 : h]


def draw_pairs(x: np.ndarray, rng: np.random.Generator, starts: int = STARTS) -> np.ndarray:
    """Draw ``starts`` pairs of points (start, 2) with different x."""
    first = rng.integers(x.size, size=starts)
    order = np.argsort(x, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(x.size)
    low, high = np.searchsorted(x[order], x[first], "left"), np.searchsorted(x[order], x[first], "right")
    other = rng.integers(x.size - (high - low))  # an index among the points whose x differs
    return np.column_stack([first, order[np.where(other < low, other, other + high - low)]])


def best_half(points: Points, scatter: float, pairs: np.ndarray) -> tuple[float, float, np.ndarray]:
    """FAST-LTS: slope, intercept (of the centred points) and mask (point,) of the best-fitting half.

    h = (n + 3) // 2 points; each pair of ``pairs`` (start, 2) starts `C_STEPS` concentration steps, the `BEST` go on to
    convergence, the smallest sum of squared residuals wins. ``scatter`` is the trial intrinsic scatter, in y.
    The starts, which only have to be ranked, run in single precision.
    """
    h = (points.x.size + 3) // 2
    data = (points.x, points.y, points.x_var, points.y_var + scatter**2)
    x, y, x_var, y_var = (values.astype(np.float32) for values in data)
    one, two = pairs.T
    slope = ((points.y[two] - points.y[one]) / (points.x[two] - points.x[one])).astype(np.float32)
    intercept = points.y[one].astype(np.float32) - slope * x[one]
    objective, products = np.empty(slope.size), _products(x, y)
    together = max(_ELEMENTS // x.size, 1)
    for start in range(0, slope.size, together):
        part = slice(start, start + together)
        b, a = slope[part], intercept[part]
        r_sq, total = _residuals_sq(x, y, x_var, y_var, b, a)
        for _ in range(C_STEPS):
            b, a = _step(products, x_var, r_sq, total, _smallest(r_sq, h), b)
            r_sq, total = _residuals_sq(x, y, x_var, y_var, b, a)
        slope[part], intercept[part] = b, a
        objective[part] = np.partition(r_sq, h - 1, axis=1)[:, :h].sum(axis=1)
    objective[~np.isfinite(objective)] = np.inf
    best = np.argsort(objective, kind="stable")[:BEST]
    slope, intercept = slope[best].astype(float), intercept[best].astype(float)
    products = _products(points.x, points.y)
    for _ in range(_MAX_STEPS):
        r_sq, total = _residuals_sq(*data, slope, intercept)
        new = _step(products, points.x_var, r_sq, total, _smallest(r_sq, h), slope)
        done = _close(new, (slope, intercept))
        slope, intercept = new
        if done:
            break
    r_sq, _ = _residuals_sq(*data, slope, intercept)
    objective = np.partition(r_sq, h - 1, axis=1)[:, :h].sum(axis=1)
    winner = int(np.argmin(np.where(np.isfinite(objective), objective, np.inf)))
    used = _smallest(r_sq, h)[winner]
    _check_line(points, used)
    return float(slope[winner]), float(intercept[winner]), used


def _check_line(points: Points, used: np.ndarray) -> None:
    if used.sum() <= _PARAMETERS or np.ptp(points.x[used]) == 0:
        raise RelationError(f"lts: too many of the {used.size} points share their x, those that fit best define no line; use mnr or ols.")


def _clip_from_inside(points: Points, scatter: float, clip: float, pairs: np.ndarray) -> _Kept:
    """Best half, then keep |r| <= clip times the standard deviation of the kept, refit, until the set is stable."""
    slope, intercept, used = best_half(points, scatter, pairs)
    data = (points.x, points.y, points.x_var, points.y_var + scatter**2)
    products = _products(points.x, points.y)
    b, a = np.array([slope]), np.array([intercept])
    seen = set()
    while used.tobytes() not in seen:
        seen.add(used.tobytes())
        r_sq, _ = _residuals_sq(*data, b, a)
        signed = np.sqrt(r_sq[0]) * np.sign(b * points.x + a - points.y)
        used = np.abs(signed) <= clip * np.std(signed[used], ddof=_PARAMETERS)
        _check_line(points, used)
        for _ in range(_MAX_STEPS):
            r_sq, total = _residuals_sq(*data, b, a)
            new = _step(products, points.x_var, r_sq, total, used[None], b)
            done = _close(new, (b, a))
            b, a = new
            if done:
                break
    r_sq, _ = _residuals_sq(*data, b, a)
    return _Kept(float(b[0]), float(a[0]), used, float(r_sq[0][used].sum() / (used.sum() - _PARAMETERS)))


def _covariance(points: Points, scatter: float, kept: _Kept) -> np.ndarray:
    """Covariance (2, 2) of (slope, intercept): the inverse of J^T J of the normalised residuals."""
    total = kept.slope**2 * points.x_var + points.y_var + scatter**2
    residual = kept.intercept + kept.slope * points.x - points.y
    by_slope = points.x / np.sqrt(total) - residual * kept.slope * points.x_var / total**1.5
    jacobian = np.column_stack([by_slope, 1 / np.sqrt(total)])[kept.used]
    return np.linalg.inv(jacobian.T @ jacobian)


def _scatter_error(points: Points, scatter: float, kept: _Kept) -> float:
    """Upper 1 sigma of the scatter: where chi-squared falls to nu - sqrt(2 nu), line and kept points unchanged."""
    residual_sq = (kept.intercept + kept.slope * points.x - points.y)[kept.used] ** 2
    rest = (kept.slope**2 * points.x_var + points.y_var)[kept.used]
    nu = kept.used.sum() - _PARAMETERS
    goal = nu - np.sqrt(2 * nu)
    high = max(scatter, np.sqrt(residual_sq.mean())) + np.finfo(float).tiny
    while np.sum(residual_sq / (rest + high**2)) > goal:
        high *= 2
    if np.sum(residual_sq / (rest + scatter**2)) <= goal:
        return float("nan")  # errors so large that no scatter is called for: no limit can be given
    return float(brentq(lambda s: np.sum(residual_sq / (rest + s**2)) - goal, scatter, high, rtol=1e-6) - scatter)


def fit_lts(x, y, x_err, y_err, pivot: float, clip: float = 2.6, *, rng: np.random.Generator) -> LineFit:
    """Fit y = slope (x - pivot) + intercept by Least Trimmed Squares, intrinsic scatter in y included.

    Parameters
    ----------
    x, y : array (point,)
    x_err, y_err : array (point,) or float
        1 sigma; one of the two may be zero throughout.
    pivot : float
        In x; the fit itself does not depend on it.
    clip : float
        Outliers are further than this many standard deviations of the kept residuals.
    rng : numpy.random.Generator
        Draws the 500 two-point starts; the same pairs serve every trial scatter.

    Returns
    -------
    LineFit
        ``scatter_err`` is the upper 1 sigma; errors are from the covariance of the last fit.

    Raises
    ------
    RelationError
        Fewer than 10 points, NaN anywhere, errors that are not positive, identical x.

    Source: Cappellari+2013 section 3.2; Rousseeuw & Van Driessen 2006.
    """
    points = check_points(x, y, x_err, y_err)
    pairs = draw_pairs(points.x, rng)
    fits: dict[float, _Kept] = {}

    def excess(scatter: float) -> float:
        fits[scatter] = _clip_from_inside(points, scatter, clip, pairs)
        return fits[scatter].chi2_per_dof - 1.0

    scatter = 0.0
    if excess(0.0) > 0:
        first = fits[0.0]
        spread = np.std((points.y - first.slope * points.x - first.intercept)[first.used], ddof=_PARAMETERS)
        high = float(spread * (1 + 3 / np.sqrt(2 * points.x.size)))
        while excess(high) > 0:
            high *= 2
        scatter = float(brentq(excess, 0.0, high, xtol=1e-4 * high, rtol=1e-3))
        excess(scatter)
    kept = fits[scatter]
    return finish_fit(
        "lts", points, kept.slope, kept.intercept, _covariance(points, scatter, kept), scatter, _scatter_error(points, scatter, kept),
        kept.used, pivot,
    )  # fmt: skip
