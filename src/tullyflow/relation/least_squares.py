"""Lines by ordinary least squares: y on x, and the bisector of y on x and x on y (Isobe+1990). For comparison only.

Neither knows the errors of the points, an outlier or a limit: every point counts the same.
"""

import numpy as np

from tullyflow.errors import RelationError
from tullyflow.relation.line import LineFit, Points, check_points, finish_fit

__all__ = ["fit_bisector", "fit_ols"]


def _scatter(points: Points, slope: float, intercept: float) -> tuple[float, float]:
    """The rms less the mean error variance, in quadrature (0 where the errors are larger), and its error."""
    variance = np.var(points.y - slope * points.x - intercept, ddof=2)
    scatter = np.sqrt(max(variance - np.mean(points.y_var + slope**2 * points.x_var), 0.0))
    return float(scatter), float(variance / np.sqrt(2 * (points.x.size - 2)) / scatter) if scatter > 0 else float("nan")


def fit_ols(x, y, x_err, y_err, pivot: float) -> LineFit:
    """Fit y on x by ordinary least squares: no weights, no outliers, the slope attenuated by errors of x.

    ``x``, ``y`` (point,); ``x_err``, ``y_err`` (point,) or float, 1 sigma, zero where unknown: they say how much of the rms is
    ``scatter`` and nothing else. ``pivot`` in x. Raises `RelationError` as `check_points` does; NaN is refused.
    """
    points = check_points(x, y, x_err, y_err, errors_needed=False)
    (slope, intercept), inverse = np.polyfit(points.x, points.y, 1, cov="unscaled")
    covariance = inverse * np.var(points.y - slope * points.x - intercept, ddof=2)
    used = np.ones(points.x.size, dtype=bool)
    return finish_fit("ols", points, slope, intercept, covariance, *_scatter(points, slope, intercept), used, pivot)


def fit_bisector(x, y, x_err, y_err, pivot: float) -> LineFit:
    """Fit the line that bisects the angle between least squares of y on x and of x on y.

    It treats x and y alike, and it depends on their units: a table in other units has another bisector, and where slopes
    are far from 1 it lies near one of the two lines. Parameters and errors raised as in `fit_ols`, and
    `RelationError` where x and y are not correlated at all.

    Source: Isobe+1990 (ApJ 364, 104) table 1, slope 3. The errors are theirs, written as the sum over points of the
    squared pull of each on the line, which gives the covariance too.
    """
    points = check_points(x, y, x_err, y_err, errors_needed=False)
    dx, dy = points.x_scale * (points.x - points.x.mean()), points.y_scale * (points.y - points.y.mean())
    sxx, sxy, syy = dx @ dx, dx @ dy, dy @ dy
    if abs(sxy) <= 1e-12 * np.sqrt(sxx * syy):
        raise RelationError(f"bisector: x and y of the {dx.size} points are not correlated; no line bisects their two regressions.")
    on_x, on_y = sxy / sxx, syy / sxy
    root = np.sqrt((1 + on_x**2) * (1 + on_y**2))
    slope = (on_x * on_y - 1 + root) / (on_x + on_y)
    pull_x, pull_y = dx * (dy - on_x * dx) / sxx, dy * (dy - on_y * dx) / sxy  # of each point on the two slopes
    pull = slope / (on_x + on_y) / root * ((1 + on_y**2) * pull_x + (1 + on_x**2) * pull_y)
    scaled = points.x_scale / points.y_scale
    slope, pull = slope * scaled, pull * scaled
    intercept = points.y.mean() - slope * points.x.mean()
    pulls = np.stack([pull, (points.y - slope * points.x - intercept) / dx.size - pull * points.x.mean()])
    used = np.ones(dx.size, dtype=bool)
    return finish_fit("bisector", points, slope, intercept, pulls @ pulls.T, *_scatter(points, slope, intercept), used, pivot)
