"""The ways to fit a line, by name, and which of them can take what."""

from typing import Literal, get_args

import numpy as np

from tullyflow.errors import RelationError
from tullyflow.relation.least_squares import fit_bisector, fit_ols
from tullyflow.relation.line import EVERYWHERE, LineFit
from tullyflow.relation.lts import fit_lts
from tullyflow.relation.regression import fit_mnr

__all__ = ["METHODS", "Method", "fit_by_method"]

Method = Literal["lts", "mnr", "ols", "bisector"]
METHODS: tuple[Method, ...] = get_args(Method)


def fit_by_method(
    method: Method, x, y, x_err, y_err, pivot: float, *, clip: float = 2.6, y_upper=None, x_range=EVERYWHERE, y_range=EVERYWHERE,
    rng: np.random.Generator,
) -> LineFit:  # fmt: skip
    """Fit y = slope (x - pivot) + intercept by one of `METHODS`.

    Parameters
    ----------
    x, y : array (point,)
    x_err, y_err : array (point,) or float
        1 sigma; LTS and MNR need one of the two, least squares and the bisector need none (0).
    pivot : float
        In x.
    clip : float
        Of LTS, in standard deviations of the kept residuals.
    y_upper : bool array (point,), optional
        Where y is an upper limit: MNR alone can take them.
    x_range, y_range : (float, float)
        Limits of the measured x or y that selected the sample: MNR alone takes them into account.
    rng : numpy.random.Generator
        Of LTS and MNR.

    Raises
    ------
    RelationError
        Unknown method, points that cannot be fitted (`check_points`), limits or a selection where the method takes none.
    """
    if method not in METHODS:
        raise RelationError(f"relation: unknown method {method!r}; known: {', '.join(METHODS)}.")
    limits = 0 if y_upper is None else int(np.sum(y_upper))
    if limits and method != "mnr":
        raise RelationError(f"fit: {method} cannot take the {limits} upper limit(s) in y; use mnr, or leave them out.")
    if (tuple(x_range), tuple(y_range)) != (EVERYWHERE, EVERYWHERE) and method != "mnr":
        raise RelationError(f"fit: {method} cannot take a selection in x or y into account; use mnr.")
    if method == "lts":
        return fit_lts(x, y, x_err, y_err, pivot, clip=clip, rng=rng)
    if method == "mnr":
        return fit_mnr(x, y, x_err, y_err, pivot, y_upper=y_upper, x_range=x_range, y_range=y_range, rng=rng)
    return {"ols": fit_ols, "bisector": fit_bisector}[method](x, y, x_err, y_err, pivot)
