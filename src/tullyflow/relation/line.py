"""What a fitted line is, and which points can be fitted at all."""

from dataclasses import dataclass

import numpy as np

from tullyflow.errors import RelationError

__all__ = ["MIN_POINTS", "LineFit", "Points", "check_points", "move_pivot"]

MIN_POINTS = 10


@dataclass(frozen=True)
class LineFit:
    """A line y = slope (x - pivot) + intercept and how well it is known.

    ``covariance`` (2, 2) is of (slope, intercept). ``scatter`` is the intrinsic one, in y; ``rms`` the observed
    standard deviation of the used points about the line: never the same thing. ``used`` (point,) is False for outliers.
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

    def predict(self, x) -> np.ndarray:
        """Return y of the line at ``x`` (any shape). NaN stays NaN."""
        return self.slope * (np.asarray(x, dtype=float) - self.pivot) + self.intercept


@dataclass(frozen=True)
class Points:
    """Checked points (point,): x and y relative to their medians, so that slope and intercept hardly correlate."""

    x: np.ndarray
    y: np.ndarray
    x_var: np.ndarray
    y_var: np.ndarray
    x_centre: float
    y_centre: float


def check_points(x, y, x_err, y_err) -> Points:
    """Return the points ready to fit; errors may be scalars.

    Raises `RelationError` with one sentence for fewer than `MIN_POINTS` points, values or errors that are not
    finite, errors below zero, or an x that is the same for all. One axis may be free of errors (all zero), not both;
    a zero among other errors is a missing value and refused.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        raise RelationError(f"fit: x and y must be equally long lists, found shapes {x.shape} and {y.shape}.")
    if x.size < MIN_POINTS:
        raise RelationError(f"fit: {x.size} point(s) to fit, at least {MIN_POINTS} are needed; loosen the cuts of 'relation'.")
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
        if bad == 0 and values.any():
            bad = int(np.sum(values == 0))
        if bad:
            raise RelationError(f"fit: the error of {name} is not a positive number for {bad} of {x.size} points; leave them out.")
    if not (errors["x"].any() or errors["y"].any()):
        raise RelationError(f"fit: the errors of x and y are zero for all {x.size} points; at least one of them must be positive.")
    if np.ptp(x) == 0:
        raise RelationError(f"fit: x is {x[0]:g} for all {x.size} points; a line needs different x.")
    x_centre, y_centre = float(np.median(x)), float(np.median(y))
    return Points(x - x_centre, y - y_centre, errors["x"] ** 2, errors["y"] ** 2, x_centre, y_centre)


def move_pivot(slope: float, intercept: float, covariance: np.ndarray, shift: float) -> tuple[float, np.ndarray]:
    """Return intercept and covariance (2, 2) of (slope, intercept) at a pivot ``shift`` further along x."""
    jacobian = np.array([[1.0, 0.0], [shift, 1.0]])
    return intercept + slope * shift, jacobian @ covariance @ jacobian.T
