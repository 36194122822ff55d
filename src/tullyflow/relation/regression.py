"""Marginalised normal regression (Bartlett & Desmond 2023), the unbiased cross-check of LTS.

The true x are drawn from N(mu, w^2) with free mu and w, and marginalised: without that prior on x a line with errors
in both coordinates is biased. Per point, with e = y - a - b (mu + k (x - mu)) and k = w^2 / (w^2 + sx^2),

    log L = log N(x; mu, w^2 + sx^2) + log[(1 - f) N(e; 0, v + s^2) + f N(e; d, v + t^2)],   v = sy^2 + b^2 k sx^2,

which is the bivariate normal of covariance [[w^2 + sx^2, b w^2], [b w^2, b^2 w^2 + sy^2 + s^2]], split into x and
y given x. The second term is the outliers': a share f of the points, offset by d from the line, with a scatter t of at
least three times the robust rms. Where y is an upper limit, N(e; ...) is the normal's integral below it. Where the sample was
selected by measured x or y, L is divided by the chance of being selected.
"""

from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_ndtr, ndtr

from tullyflow.errors import RelationError
from tullyflow.relation.line import EVERYWHERE, MIN_POINTS, LineFit, Points, check_points, finish_fit
from tullyflow.relation.lts import best_half, draw_pairs
from tullyflow.relation.posterior import Start, sample_posterior

__all__ = ["fit_mnr"]

_MAX_OUTLIERS = 0.5
_OUTLIER_SCATTER = (3.0, 100.0)  # in robust rms
_FAR = 4.0  # robust rms beyond which a point starts as an outlier
_GAUSSIAN_MAD = 1.4826
_LEAST_SHARE = 1e-12  # of the outliers: a point far from the line has a density all the same
_ELEMENTS = 12_288  # of a (trial, point) array worked on at a time: it stays in the processor's cache
_TINY = 1e-30  # below any variance that matters


def _pieces(points: Points, theta: np.ndarray) -> tuple[np.ndarray, ...]:
    """Variance and squared deviation of x; residual of y given x, and its variance without scatter; all (trial, point)."""
    slope, intercept, _, mu, width = (theta[:, k, None] for k in range(5))
    x_total = width**2 + points.x_var
    dx = points.x - mu
    shrink = width**2 / x_total
    residual = points.y - intercept - slope * (mu + shrink * dx)
    return x_total, dx**2 / x_total, residual, points.y_var + slope**2 * shrink * points.x_var


def _log_parts(points: Points, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-densities (trial, point) of line and outliers, each with its share; ``theta`` (trial, parameter).

    Parameters: slope, intercept, scatter, mu, w and, with outliers, their share f, log t and offset d.
    """
    x_total, chi_x, residual, variance = _pieces(points, theta)
    log_x = -0.5 * (chi_x + np.log(2 * np.pi * x_total))

    def normal(deviation, extra):
        total = np.maximum(variance + extra**2, _TINY)
        density = -0.5 * (deviation**2 / total + np.log(2 * np.pi * total))
        if points.upper.any():
            density[:, points.upper] = log_ndtr(deviation[:, points.upper] / np.sqrt(total[:, points.upper]))
        return density

    log_x = log_x - _log_chance(points, theta)
    line = log_x + normal(residual, theta[:, 2, None])
    if theta.shape[1] == 5:
        return line, np.full(line.shape, -np.inf)
    share, log_outlier, offset = (theta[:, k, None] for k in (5, 6, 7))
    return line + np.log1p(-share), log_x + normal(residual - offset, np.exp(log_outlier)) + np.log(share)


def _log_likelihood(points: Points, theta: np.ndarray) -> np.ndarray:
    """Log-likelihood (trial,) of ``theta`` (trial, parameter): the sum of the parts of `_log_parts`, by fewer logarithms."""
    if points.upper.any():
        measured, limits = _subset(points, ~points.upper), _subset(points, points.upper)
        return _log_likelihood(measured, theta) + np.logaddexp(*_log_parts(limits, theta)).sum(axis=1)
    theta, rows = theta.astype(points.x.dtype), max(_ELEMENTS // points.x.size, 1)
    return np.concatenate([_log_likelihood_of_some(points, theta[k : k + rows]) for k in range(0, theta.shape[0], rows)])


def _log_likelihood_of_some(points: Points, theta: np.ndarray) -> np.ndarray:
    x_total, chi_x, residual, variance = _pieces(points, theta)
    total = np.maximum(variance + theta[:, 2, None] ** 2, _TINY)
    chi = residual**2 / total
    constant = points.x.size * np.log(2 * np.pi) + _log_chance(points, theta).sum(axis=1)
    if theta.shape[1] == 5:
        return -0.5 * np.sum(chi_x + chi + np.log(x_total * total), axis=1) - constant
    share, log_outlier, offset = (theta[:, k, None] for k in (5, 6, 7))
    total_out = variance + np.exp(2 * log_outlier)
    chi_out = (residual - offset) ** 2 / total_out
    least = np.minimum(chi, chi_out)
    density = (1 - share) * np.exp(0.5 * (least - chi)) + share * np.sqrt(total / total_out) * np.exp(0.5 * (least - chi_out))
    return 0.5 * np.sum(np.log(density**2 / (x_total * total)) - chi_x - least, axis=1) - constant


def _log_chance(points: Points, theta: np.ndarray) -> np.ndarray:
    """Log of the chance (trial, point) that a galaxy of such errors gets into the sample; 0 where nothing is selected."""
    slope, intercept, scatter, mu, width = (theta[:, k, None] for k in range(5))
    if points.x_range != EVERYWHERE:
        return np.log(np.maximum(_within(points.x_range, mu, width**2 + points.x_var), _TINY))
    if points.y_range != EVERYWHERE:
        mean, variance = intercept + slope * mu, (slope * width) ** 2 + points.y_var
        chance = _within(points.y_range, mean, variance + scatter**2)
        if theta.shape[1] > 5:
            share, log_outlier, offset = (theta[:, k, None] for k in (5, 6, 7))
            chance = (1 - share) * chance + share * _within(points.y_range, mean + offset, variance + np.exp(2 * log_outlier))
        return np.log(np.maximum(chance, _TINY))
    return np.zeros((theta.shape[0], points.x.size), dtype=theta.dtype)


def _within(limits: tuple[float, float], mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    deviation = np.sqrt(variance)
    return ndtr((limits[1] - mean) / deviation) - ndtr((limits[0] - mean) / deviation)


def _single(points: Points) -> Points:
    """The points in single precision: good to 1e-3 in a log-likelihood, which is enough to weigh draws, and three times as fast."""
    return replace(points, **{name: getattr(points, name).astype(np.float32) for name in ("x", "y", "x_var", "y_var")})


def _subset(points: Points, chosen: np.ndarray) -> Points:
    return replace(points, **{name: getattr(points, name)[chosen] for name in ("x", "y", "x_var", "y_var", "upper")})


def _begin(points: Points, outliers: bool, rng: np.random.Generator) -> Start:
    """Start from the best half of the points, so that no outlier has a say; upper limits have none either."""
    points = _subset(points, ~points.upper)
    n = points.x.size
    ols = np.polyfit(points.x, points.y, 1)
    rms = _GAUSSIAN_MAD * np.median(np.abs(points.y - np.polyval(ols, points.x)))
    slope, intercept = ols
    with suppress(RelationError):  # half of the points at one x
        slope, intercept, _ = best_half(points, max(rms, 1e-6 * np.ptp(points.y) + 1e-12), draw_pairs(points.x, rng))
    rms = _GAUSSIAN_MAD * float(np.median(np.abs(points.y - intercept - slope * points.x)))
    rms = max(rms, np.sqrt(np.median(points.y_var)), 1e-9)
    noise = np.median(points.y_var + slope**2 * points.x_var)
    scatter = np.sqrt(max(rms**2 - noise, (0.2 * rms) ** 2))
    spread = float(np.std(points.x))
    width = np.sqrt(max(spread**2 - np.mean(points.x_var), (0.2 * spread) ** 2))
    theta = [slope, intercept, scatter, float(np.mean(points.x)), width]
    scale = [rms / spread / np.sqrt(n), rms / np.sqrt(n), rms / np.sqrt(2 * n), spread / np.sqrt(n), spread / np.sqrt(2 * n)]
    far = 10 * spread if (points.x_range, points.y_range) != (EVERYWHERE, EVERYWHERE) else np.inf  # a tail alone has no middle
    low, high = [-np.inf, -np.inf, 0.0, -far, 1e-6 * spread], [np.inf, np.inf, np.inf, far, far]
    if outliers:
        limits = np.multiply(_OUTLIER_SCATTER, rms)
        residual = points.y - intercept - slope * points.x
        far = residual[np.abs(residual) > _FAR * rms]
        share = np.clip(far.size / n, 1 / n, 0.9 * _MAX_OUTLIERS)
        spread_far, offset = (2 * limits[0], 0.0) if far.size < 3 else (np.clip(np.std(far), 1.1 * limits[0], limits[1]), far.mean())
        theta += [share, np.log(spread_far), offset]
        scale += [np.sqrt(share / n), 0.3, spread_far / np.sqrt(share * n)]
        low += [_LEAST_SHARE, np.log(limits[0]), -limits[1]]
        high += [_MAX_OUTLIERS, np.log(limits[1]), limits[1]]
    return Start(*(np.array(values, dtype=float) for values in (theta, scale, low, high)), n)


def _maximise(points: Points, start: Start) -> np.ndarray:
    """Return the parameters of largest likelihood: L-BFGS-B in units of the rough errors, central differences at once."""
    step = 1e-4
    offsets = np.vstack([np.zeros_like(start.theta), np.diag(step * start.scale), -np.diag(step * start.scale)])
    k = start.theta.size

    def negative(z):
        trials = np.clip(start.theta + z * start.scale + offsets, start.low, start.high)
        values = -_log_likelihood(points, trials)
        width = np.diag(trials[1 : k + 1] - trials[k + 1 :]) / start.scale
        return values[0], (values[1 : k + 1] - values[k + 1 :]) / np.where(width > 0, width, 1.0)

    bounds = list(zip((start.low - start.theta) / start.scale, (start.high - start.theta) / start.scale, strict=True))
    found = minimize(negative, np.zeros(k), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500, "ftol": 1e-13})
    return np.clip(start.theta + found.x * start.scale, start.low, start.high)


def _selected(points: Points, x_range, y_range) -> Points:
    """The points with the ranges they were selected by, in their units."""
    x_range = tuple((float(limit) - points.x_centre) / points.x_scale for limit in x_range)
    y_range = tuple((float(limit) - points.y_centre) / points.y_scale for limit in y_range)
    if EVERYWHERE not in (x_range, y_range):
        raise RelationError("mnr: a selection in x and one in y at the same time cannot be taken into account; give one.")
    if y_range != EVERYWHERE and points.upper.any():
        raise RelationError("mnr: a selection in y cannot be taken into account where y has upper limits.")
    for name, values, (low, high) in (("x", points.x, x_range), ("y", points.y, y_range)):
        beyond = int(np.sum(~((values >= low) & (values <= high))))
        if beyond:
            raise RelationError(f"mnr: {beyond} of {values.size} points lie outside the range of {name} they are said to be selected by.")
    return replace(points, x_range=x_range, y_range=y_range)


def fit_mnr(
    x, y, x_err, y_err, pivot: float, outliers: bool = True, *, y_upper=None, x_range=EVERYWHERE, y_range=EVERYWHERE,
    rng: np.random.Generator,
) -> LineFit:  # fmt: skip
    """Fit y = slope (x - pivot) + intercept with intrinsic scatter in y by marginalised normal regression.

    Parameters
    ----------
    x, y : array (point,)
    x_err, y_err : array (point,) or float
        1 sigma; one of the two may be zero throughout.
    pivot : float
        In x; the fit itself does not depend on it.
    outliers : bool
        Allow a share of points with a much larger scatter about the line.
    y_upper : bool array (point,), optional
        Where y is an upper limit: y would have been measured below it. Its y_err, which may be zero, blurs the limit.
    x_range, y_range : (float, float)
        Limits of the measured x, or of the measured y, beyond which nothing could be in the sample: a cut in mass is one in x
        of the reverse relation and in y of the forward one. What was cut off is then taken into account.
    rng : numpy.random.Generator
        Start and sampling.

    Returns
    -------
    LineFit
        Values of largest likelihood; errors are standard deviations of the posterior. Outliers are the points
        that more likely belong to the outliers' component; ``rms`` leaves them and the limits out.

    Raises
    ------
    RelationError
        Fewer than 10 points, NaN anywhere, errors that are not positive, identical x, points beyond the range, ranges of both
        axes, or one of y beside upper limits.

    Source: Bartlett & Desmond 2023 (arXiv 2309.00948); the outliers' component after Hogg+2010.
    """
    points = _selected(check_points(x, y, x_err, y_err, y_upper), x_range, y_range)
    start = _begin(points, outliers, rng)
    best = _maximise(points, start)
    covariance = sample_posterior(partial(_log_likelihood, _single(points)), best, start, rng).covariance()
    line, outlier = _log_parts(points, best[None])
    used = (line >= outlier)[0]
    if used.sum() < MIN_POINTS:
        raise RelationError(f"mnr: {int((~used).sum())} of {used.size} points would be outliers; look for some far off in x or y.")
    return finish_fit("mnr", points, best[0], best[1], covariance[:2, :2], best[2], np.sqrt(covariance[2, 2]), used, pivot)
