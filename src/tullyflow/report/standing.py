"""Where one galaxy stands in each fitted relation: how far from the line, in dex and in sigma, and whether the fit used it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tullyflow.errors import RelationError
from tullyflow.relation.tully_fisher import relation_points
from tullyflow.settings import Settings

__all__ = ["Standing", "find_standings", "place_galaxies"]


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
    """Place one galaxy (a frame of one row with the columns of ``tables.SAMPLE``) beside every fit that succeeded; see `place_galaxies`."""
    return place_galaxies(row, fits, settings)[0]


def place_galaxies(sample: pd.DataFrame, fits: Sequence[Mapping], settings: Settings) -> list[list[Standing]]:
    """Place every galaxy of ``sample`` (columns of ``tables.SAMPLE``) beside every fit that succeeded, in the order of the rows.

    ``fits`` are the records ``relation/*.json``; one of surveys that are not the galaxy's, or that the galaxy lacks a value for, is left
    out. A galaxy outside the relation is placed all the same: where it would lie.
    """
    everybody = sample.reset_index(drop=True).assign(used=True)
    surveys, names = (sample[column].astype(str).tolist() for column in ("survey", "galaxy"))
    used = sample["used"].astype(bool).tolist()
    full_names = [f"{s}-{r}/{name}" for s, r, name in zip(surveys, sample["release"], names, strict=True)]
    placed: list[list[Standing]] = [[] for _ in names]
    for fit in fits:
        if not all(isinstance(fit.get(key), int | float) for key in ("slope", "intercept", "pivot")):
            continue
        try:
            points = relation_points(everybody, fit["relation"], fit["velocity"], settings)
        except RelationError:
            continue
        lines = fit["slope"] * (points.x - fit["pivot"]) + fit["intercept"]
        sigmas = np.sqrt((fit["slope"] * points.x_err) ** 2 + points.y_err**2 + float(fit.get("scatter") or 0.0) ** 2)
        outliers, of_surveys = set(fit.get("outliers") or ()), fit.get("surveys")
        values = zip(points.rows.tolist(), points.x.tolist(), points.y.tolist(), lines.tolist(), sigmas.tolist(), strict=True)
        for k, x, y, line, sigma in values:
            if of_surveys is not None and surveys[k] not in of_surveys:
                continue
            outlier = names[k] in outliers or full_names[k] in outliers
            part = "left out" if not used[k] else "outlier" if outlier else "used"
            placed[k].append(Standing(
                fit["relation"], fit["velocity"], str(fit.get("method", "")), x, y, line, y - line, sigma,
                (y - line) / sigma if sigma > 0 else float("nan"), part,
            ))  # fmt: skip
    return placed
