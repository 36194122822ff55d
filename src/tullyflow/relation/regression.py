"""Marginalised normal regression (Bartlett & Desmond 2023), the unbiased cross-check of LTS.

The true x are drawn from N(mu, w^2) with free mu and w, and marginalised: without that prior on x a line with errors
in both coordinates is biased. Per point, with e = y - a - b (mu + k (x - mu)) and k = w^2 / (w^2 + sx^2),

    log L = log N(x; mu, w^2 + sx^2) + log[(1 - f) N(e; 0, v + s^2) + f N(e; d, v + t^2)],   v = sy^2 + b^2 k sx^2,

which is the bivariate normal of covariance [[w^2 + sx^2, b w^2], [b w^2, b^2 w^2 + sy^2 + s^2]], split into x and
y given x. The second term is the outliers': a share f of the points, offset by d from the line, with a scatter t of at
least three times the robust rms. Where y is an upper limit, N(e; ...) is the normal's integral below it.
"""

from dataclasses import dataclass, replace

import emcee
import numpy as np
from scipy.optimize import minimize
from scipy.special import log_ndtr

from tullyflow.relation.line import LineFit, Points, check_points, finish_fit
from tullyflow.relation.lts import best_half, draw_pairs

__all__ = ["fit_mnr"]

WALKERS = 32
BURN_IN = 150
STEPS = 350
_MAX_OUTLIERS = 0.5
_OUTLIER_SCATTER = (3.0, 100.0)  # in robust rms
_FAR = 4.0  # robust rms beyond which a point starts as an outlier
_GAUSSIAN_MAD = 1.4826
_TINY = 1e-30  # below any variance that matters


@dataclass(frozen=True)
class _Start:
    """Where the search begins, what one sigma roughly is, and the limits; all (parameter,)."""

    theta: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray


def _log_parts(points: Points, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-densities (trial, point) of line and outliers, each with its share; ``theta`` (trial, parameter).

    Parameters: slope, intercept, scatter, mu, w and, with outliers, their share f, log t and offset d.
    """
    slope, intercept, scatter, mu, width = (theta[:, k, None] for k in range(5))
    x_total = width**2 + points.x_var
    dx = points.x - mu
    shrink = width**2 / x_total
    log_x = -0.5 * (dx**2 / x_total + np.log(x_total)) - np.log(2 * np.pi)
    residual = points.y - intercept - slope * (mu + shrink * dx)
    variance = points.y_var + slope**2 * shrink * points.x_var

    def normal(deviation, extra):
        total = variance + extra**2
        density = -0.5 * (deviation**2 / total + np.log(total))
        if points.upper.any():
            below = log_ndtr(deviation[:, points.upper] / np.sqrt(np.maximum(total[:, points.upper], _TINY)))
            density[:, points.upper] = below + 0.5 * np.log(2 * np.pi)  # the constant that the densities leave to log_x
        return density

    if theta.shape[1] == 5:
        return log_x + normal(residual, scatter), np.full(residual.shape, -np.inf)
    share, log_outlier, offset = (theta[:, k, None] for k in (5, 6, 7))
    outlier = normal(residual - offset, np.exp(log_outlier))
    with np.errstate(divide="ignore"):
        return log_x + normal(residual, scatter) + np.log1p(-share), log_x + outlier + np.log(share)


def _log_likelihood(points: Points, theta: np.ndarray) -> np.ndarray:
    """Log-likelihood (trial,) of ``theta`` (trial, parameter)."""
    line, outlier = _log_parts(points, theta)
    high = np.maximum(line, outlier)
    return np.sum(high + np.log1p(np.exp(-np.abs(line - outlier))), axis=1)


def _begin(points: Points, outliers: bool, rng: np.random.Generator) -> _Start:
    """Start from the best half of the points, so that no outlier has a say; upper limits have none either."""
    kept = ~points.upper
    points = replace(points, **{name: getattr(points, name)[kept] for name in ("x", "y", "x_var", "y_var", "upper")})
    n = points.x.size
    ols = np.polyfit(points.x, points.y, 1)
    rms = _GAUSSIAN_MAD * np.median(np.abs(points.y - np.polyval(ols, points.x)))
    slope, intercept, _ = best_half(points, max(rms, 1e-6 * np.ptp(points.y) + 1e-12), draw_pairs(points.x, rng))
    rms = _GAUSSIAN_MAD * float(np.median(np.abs(points.y - intercept - slope * points.x)))
    rms = max(rms, np.sqrt(np.median(points.y_var)), 1e-9)
    noise = np.median(points.y_var + slope**2 * points.x_var)
    scatter = np.sqrt(max(rms**2 - noise, (0.2 * rms) ** 2))
    spread = float(np.std(points.x))
    width = np.sqrt(max(spread**2 - np.mean(points.x_var), (0.2 * spread) ** 2))
    theta = [slope, intercept, scatter, float(np.mean(points.x)), width]
    scale = [rms / spread / np.sqrt(n), rms / np.sqrt(n), rms / np.sqrt(2 * n), spread / np.sqrt(n), spread / np.sqrt(2 * n)]
    low, high = [-np.inf, -np.inf, 0.0, -np.inf, 1e-6 * spread], [np.inf] * 5
    if outliers:
        limits = np.multiply(_OUTLIER_SCATTER, rms)
        residual = points.y - intercept - slope * points.x
        far = residual[np.abs(residual) > _FAR * rms]
        share = np.clip(far.size / n, 1 / n, 0.9 * _MAX_OUTLIERS)
        spread_far, offset = (2 * limits[0], 0.0) if far.size < 3 else (np.clip(np.std(far), 1.1 * limits[0], limits[1]), far.mean())
        theta += [share, np.log(spread_far), offset]
        scale += [np.sqrt(share / n), 0.3, spread_far / np.sqrt(share * n)]
        low += [0.0, np.log(limits[0]), -limits[1]]
        high += [_MAX_OUTLIERS, np.log(limits[1]), limits[1]]
    return _Start(*(np.array(values, dtype=float) for values in (theta, scale, low, high)))


def _maximise(points: Points, start: _Start) -> np.ndarray:
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


def _sample(points: Points, best: np.ndarray, start: _Start, rng: np.random.Generator) -> np.ndarray:
    """Draw (draw, parameter) from the posterior with priors flat within the limits (log t: flat in the logarithm)."""

    def log_probability(theta):
        inside = np.all((theta >= start.low) & (theta <= start.high), axis=1)
        result = np.full(theta.shape[0], -np.inf)
        if inside.any():
            result[inside] = _log_likelihood(points, theta[inside])
        return result

    first = best + start.scale * rng.standard_normal((WALKERS, best.size))
    over, under = first > start.high, first < start.low
    first = np.where(over, 2 * start.high - first, np.where(under, 2 * start.low - first, first))  # reflect at the limits
    first = np.clip(first, start.low, start.high)
    sampler = emcee.EnsembleSampler(WALKERS, best.size, log_probability, vectorize=True)
    sampler.random_state = np.random.RandomState(int(rng.integers(2**32))).get_state()
    sampler.run_mcmc(first, BURN_IN + STEPS)
    return sampler.get_chain(discard=BURN_IN, flat=True)


def fit_mnr(x, y, x_err, y_err, pivot: float, outliers: bool = True, *, y_upper=None, rng: np.random.Generator) -> LineFit:
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
    rng : numpy.random.Generator
        Start and sampling.

    Returns
    -------
    LineFit
        Values of largest likelihood; errors are standard deviations of an emcee sample. Outliers are the points
        that more likely belong to the outliers' component; ``rms`` leaves them and the limits out.

    Raises
    ------
    RelationError
        Fewer than 10 points, NaN anywhere, errors that are not positive, identical x.

    Source: Bartlett & Desmond 2023 (arXiv 2309.00948); the outliers' component after Hogg+2010.
    """
    points = check_points(x, y, x_err, y_err, y_upper)
    start = _begin(points, outliers, rng)
    best = _maximise(points, start)
    chain = _sample(points, best, start, rng)
    line, outlier = _log_parts(points, best[None])
    used = (line >= outlier)[0]
    covariance = np.cov(chain[:, :2], rowvar=False)
    return finish_fit("mnr", points, best[0], best[1], covariance, best[2], np.std(chain[:, 2]), used, pivot)
