"""Where one galaxy stands in each fitted relation: how far from the line, in dex and in sigma, and whether the fit used it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tullyflow.errors import RelationError
from tullyflow.relation.tully_fisher import relation_points
from tullyflow.settings import Settings

__all__ = ["Standing", "find_standings"]


@dataclass(frozen=True)
class Standing:
    """A galaxy beside one fit: ``residual`` is y minus the line (dex, or mag in the r band), ``sigmas`` that over ``sigma``.

    ``sigma`` holds the errors of x and y and the intrinsic scatter. ``part``: used, outlier, or left out (by a cut).
    """

    relation: str
    velocity: str
    method: str
    x: float
    y: float
    line: float
    residual: float
    sigma: float
    sigmas: float
    part: str


def find_standings(row: pd.DataFrame, fits: Sequence[Mapping], settings: Settings) -> list[Standing]:
    """Place one galaxy (a frame of one row with the columns of ``tables.SAMPLE``) beside every fit that succeeded.

    ``fits`` are the records ``relation/*.json``; one of surveys that are not the galaxy's, or that the galaxy lacks a value for, is left
    out. A galaxy outside the relation is placed all the same: where it would lie.
    """
    placed = []
    survey, name = str(row["survey"].iloc[0]), str(row["galaxy"].iloc[0])
    full_name = f"{survey}-{row['release'].iloc[0]}/{name}"
    for fit in fits:
        if not all(isinstance(fit.get(key), int | float) for key in ("slope", "intercept", "pivot")):
            continue
        if survey not in fit.get("surveys", [survey]):
            continue
        try:
            points = relation_points(row.assign(used=True), fit["relation"], fit["velocity"], settings)
        except RelationError:
            continue
        if not points.x.size:
            continue
        x, y, x_err, y_err = (float(values[0]) for values in (points.x, points.y, points.x_err, points.y_err))
        line = fit["slope"] * (x - fit["pivot"]) + fit["intercept"]
        sigma = float(np.sqrt((fit["slope"] * x_err) ** 2 + y_err**2 + float(fit.get("scatter") or 0.0) ** 2))
        outlier = name in fit.get("outliers", ()) or full_name in fit.get("outliers", ())
        part = "left out" if not bool(row["used"].iloc[0]) else "outlier" if outlier else "used"
        placed.append(Standing(
            fit["relation"], fit["velocity"], str(fit.get("method", "")), x, y, line, y - line, sigma,
            (y - line) / sigma if sigma > 0 else float("nan"), part,
        ))  # fmt: skip
    return placed
