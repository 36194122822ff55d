"""What a fitted line is, and which points can be fitted at all."""

from dataclasses import dataclass

import numpy as np

from tullyflow.errors import RelationError

__all__ = ["EVERYWHERE", "MIN_POINTS", "LineFit", "Points", "check_points", "finish_fit"]

MIN_POINTS = 10
EVERYWHERE = (-np.inf, np.inf)


@dataclass(frozen=True)
class LineFit:
    """A line y = slope (x - pivot) + intercept and how well it is known.

    ``covariance`` (2, 2) is of (slope, intercept). ``scatter`` is the intrinsic one, in y; ``rms`` the observed
    standard deviation of the used points about the line: never the same thing. ``used`` (point,) is False for outliers.
    ``n_limits`` of the used points have only an upper limit in y; they are no part of ``rms``.
    """

    slope: float
    slope_err: float
    intercept: float
    intercept_err: float
    covariance: np.ndarray
    scatter: float
    scatter_err: float
    rms: float
    n_used: int
    n_outliers: int
    pivot: float
    method: str
    used: np.ndarray
    n_limits: int = 0

    def predict(self, x) -> np.ndarray:
        """Return y of the line at ``x`` (any shape). NaN stays NaN."""
        return self.slope * (np.asarray(x, dtype=float) - self.pivot) + self.intercept


@dataclass(frozen=True)
class Points:
    """Checked points (point,): x and y relative to their medians, so that slope and intercept hardly correlate.

    Both are in units of ``x_scale`` and ``y_scale``, powers of two near their spreads: no unit is too large or too small, and
    nothing is rounded. ``upper`` is True where y is an upper limit. Only points whose measured x lies in ``x_range``, and y in
    ``y_range``, could be in the sample.
    """

    x: np.ndarray
    y: np.ndarray
    x_var: np.ndarray
    y_var: np.ndarray
    x_centre: float
    y_centre: float
    x_scale: float
    y_scale: float
    upper: np.ndarray
    x_range: tuple[float, float] = EVERYWHERE
    y_range: tuple[float, float] = EVERYWHERE


def _scale(values: np.ndarray) -> float:
    spread = float(np.std(values))
    return float(2.0 ** np.round(np.log2(spread))) if 0 < spread < np.inf else 1.0


def check_points(x, y, x_err, y_err, y_upper=None, *, errors_needed: bool = True) -> Points:
    """Return the points ready to fit; errors may be scalars.

    ``y_upper`` (point,) is True where y is an upper limit: its y_err may be zero. Without ``errors_needed`` both axes may
    be free of errors.

    Raises `RelationError` with one sentence for fewer than `MIN_POINTS` points that are not limits, values or errors that
    are not finite, errors below zero, or an x that is the same for all. One axis may be free of errors (all zero), not both;
    a zero among other errors is a missing value and refused.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        raise RelationError(f"fit: x and y must be equally long lists, found shapes {x.shape} and {y.shape}.")
    upper = np.zeros(x.shape, dtype=bool) if y_upper is None else np.asarray(y_upper)
    if upper.dtype != bool or upper.shape != x.shape:
        raise RelationError(f"fit: the upper limits must be {x.size} values of true or false, found {upper.dtype} of shape {upper.shape}.")
    measured = x.size - int(upper.sum())
    if measured < MIN_POINTS:
        beside = f" beside {upper.sum()} upper limit(s)" if upper.any() else ""
        raise RelationError(f"fit: {measured} point(s) to fit{beside}, at least {MIN_POINTS} are needed.")
    try:
        errors = {name: np.broadcast_to(np.asarray(err, dtype=float), x.shape) for name, err in (("x", x_err), ("y", y_err))}
    except ValueError as err:
        raise RelationError(f"fit: {x.size} points but errors of another length ({err}).") from err
    for name, values in (("x", x), ("y", y)):
        bad = int(np.sum(~np.isfinite(values)))
        if bad:
            raise RelationError(f"fit: {name} is not finite for {bad} of {x.size} points; leave them out.")
    for name, values in errors.items():
        bad = int(np.sum(~np.isfinite(values) | (values < 0)))
        of_points = values if name == "x" else values[~upper]
        if bad == 0 and of_points.any():
            bad = int(np.sum(of_points == 0))
        if bad:
            raise RelationError(f"fit: the error of {name} is not a positive number for {bad} of {x.size} points; leave them out.")
    if errors_needed and not (errors["x"].any() or errors["y"].any()):
        raise RelationError(f"fit: the errors of x and y are zero for all {x.size} points; at least one of them must be positive.")
    if np.ptp(x[~upper]) == 0:
        raise RelationError(f"fit: x is {x[~upper][0]:g} for all {measured} points; a line needs different x.")
    x_centre, y_centre = float(np.median(x)), float(np.median(y))
    x_scale, y_scale = _scale(x), _scale(y)
    x_var, y_var = (errors["x"] / x_scale) ** 2, (errors["y"] / y_scale) ** 2
    return Points((x - x_centre) / x_scale, (y - y_centre) / y_scale, x_var, y_var, x_centre, y_centre, x_scale, y_scale, upper)


def finish_fit(
    method: str, points: Points, slope: float, intercept: float, covariance: np.ndarray, scatter: float, scatter_err: float,
    used: np.ndarray, pivot: float,
) -> LineFit:  # fmt: skip
    """Return the fit of the scaled points as a `LineFit` about ``pivot``; ``covariance`` (2, 2) is of (slope, intercept)."""
    residual = points.y_scale * (points.y - slope * points.x - intercept)[used & ~points.upper]
    shift = pivot - points.x_centre
    slope, intercept = slope * points.y_scale / points.x_scale, intercept * points.y_scale
    jacobian = np.array([[1.0, 0.0], [shift, 1.0]]) * [points.y_scale / points.x_scale, points.y_scale]
    covariance = jacobian @ covariance @ jacobian.T
    n_used = int(used.sum())
    return LineFit(
        slope=float(slope),
        slope_err=float(np.sqrt(covariance[0, 0])),
        intercept=float(intercept + points.y_centre + slope * shift),
        intercept_err=float(np.sqrt(covariance[1, 1])),
        covariance=covariance,
        scatter=float(scatter * points.y_scale),
        scatter_err=float(scatter_err * points.y_scale),
        rms=float(np.std(residual, ddof=2)),
        n_used=n_used,
        n_outliers=points.x.size - n_used,
        pivot=float(pivot),
        method=method,
        used=used,
        n_limits=int(np.sum(used & points.upper)),
    )
