"""One relation, one velocity, one fit: from the merged sample to its JSON."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from tullyflow.errors import RelationError
from tullyflow.relation.line import MIN_POINTS, LineFit
from tullyflow.relation.methods import METHODS, Method, fit_by_method
from tullyflow.relation.record import write_record
from tullyflow.relation.shortage import say_shortage
from tullyflow.settings import Relation, Settings
from tullyflow.tables import SAMPLE, VELOCITIES, read_table

__all__ = [
    "RELATIONS", "Method", "RelationName", "RelationPoints", "fit_line", "fit_record", "fit_relation", "log_velocity", "relation_points",
]  # fmt: skip

_LOG = logging.getLogger("tullyflow")
_LOGGED = ("slope", "slope_err", "intercept", "intercept_err", "pivot", "scatter", "rms", "n_used", "n_outliers")
_NO_ERR = 1e-4  # dex or mag: stands for an error that the settings put at zero, beside galaxies that have one

RelationName = Literal["reverse", "forward", "r_band", "baryonic"]
RELATIONS: tuple[RelationName, ...] = get_args(RelationName)


@dataclass(frozen=True)
class RelationPoints:
    """What a relation is fitted to; arrays (galaxy,). ``x_name``, ``y_name`` say what was taken the logarithm of.

    ``rows`` are the index labels of the sample, ``n_missing`` the used galaxies without a finite x, y or velocity error. Of these points
    ``n_corrected`` carry a drift correction; ``drift`` is its kind where they are half of the points or more, else off.
    """

    rows: np.ndarray
    x: np.ndarray
    y: np.ndarray
    x_err: np.ndarray
    y_err: np.ndarray
    x_name: str
    y_name: str
    pivot: float
    drift: str
    n_corrected: int
    n_missing: int


def log_velocity(sample: pd.DataFrame, velocity: str, relation: Relation) -> tuple[np.ndarray, np.ndarray, str, np.ndarray]:
    """Return log10 of a velocity of the sample (km/s), its 1 sigma (dex), its name, and whose was corrected for drift.

    Arrays (galaxy,); NaN where the velocity is missing or not positive.
    """
    kind = "" if relation.drift == "off" else "_circ"
    v = sample[f"{velocity}{kind}_kms"].to_numpy(dtype=float)
    log_v = np.log10(v, out=np.full(v.shape, np.nan), where=v > 0)
    differs = np.nan_to_num(v) != np.nan_to_num(sample[f"{velocity}_kms"].to_numpy(dtype=float))
    log_v_err = sample[f"log_{velocity}{kind}_err"].to_numpy(dtype=float)
    return log_v, log_v_err, f"log10({velocity}{kind}_kms)", differs


def _baryonic_mass(sample: pd.DataFrame, log_mstar: np.ndarray, log_mstar_err: np.ndarray, gas_err: float) -> tuple[np.ndarray, np.ndarray]:
    """log10 of stars and gas together and its 1 sigma (dex), the two errors as independent; NaN without a gas mass."""
    stars, gas = 10**log_mstar, 10 ** sample["log_mgas"].to_numpy(dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(stars + gas), np.hypot(stars * log_mstar_err, gas * gas_err) / (stars + gas)


def relation_points(sample: pd.DataFrame, relation: RelationName, velocity: str, settings: Settings) -> RelationPoints:
    """Take the used galaxies' x and y of a relation.

    ``reverse`` is log V on log M*, ``forward`` log M* on log V, ``r_band`` M_r on log V (with ``relation.internal_extinction``
    M_r less the sample's extinction_r_mag), ``baryonic`` log V on the log of stars and gas, where a gas mass is known. The
    velocity is the drift-corrected one unless ``relation.drift`` is off. A mass without an error, and gas masses, get
    ``relation.log_mstar_err``. A pivot that is null in the settings, and that of ``baryonic``, is the median of x. Galaxies
    with a value that is not finite are left out and counted.

    Raises `RelationError` for an unknown relation or velocity. Source: thesis eqs 4.5-4.7.
    """
    cuts = settings.relation
    if velocity not in VELOCITIES:
        raise RelationError(f"relation: unknown velocity {velocity!r}; known: {', '.join(VELOCITIES)}.")
    chosen = sample[sample["used"]]
    log_v, log_v_err, v_name, corrected = log_velocity(chosen, velocity, cuts)
    mass = chosen["log_mstar"].to_numpy(dtype=float)
    mass_err = chosen["log_mstar_err"].to_numpy(dtype=float)
    assumed_err = max(cuts.log_mstar_err, _NO_ERR)
    mass_err = np.where((mass_err > 0) & np.isfinite(mass_err), mass_err, assumed_err)
    magnitude, magnitude_name = chosen["abs_mag_r"].to_numpy(dtype=float), "abs_mag_r"
    if cuts.internal_extinction != "off":
        magnitude, magnitude_name = magnitude - chosen["extinction_r_mag"].to_numpy(dtype=float), "abs_mag_r - extinction_r_mag"
    v_axis, mass_axis = (log_v, log_v_err, v_name), (mass, mass_err, "log_mstar")
    magnitude_axis = (magnitude, np.full(magnitude.shape, max(cuts.abs_mag_err, _NO_ERR)), magnitude_name)
    axes = {
        "reverse": (mass_axis, v_axis, cuts.pivot_log_mstar),
        "forward": (v_axis, mass_axis, cuts.pivot_log_v),
        "r_band": (v_axis, magnitude_axis, cuts.pivot_log_v),
        "baryonic": ((*_baryonic_mass(chosen, mass, mass_err, assumed_err), "log10(10^log_mstar + 10^log_mgas)"), v_axis, None),
    }
    if relation not in axes:
        raise RelationError(f"relation: unknown relation {relation!r}; known: {', '.join(axes)}.")
    (x, x_err, x_name), (y, y_err, y_name), pivot = axes[relation]
    known = np.isfinite(x) & np.isfinite(y) & (log_v_err > 0) & np.isfinite(log_v_err)
    x, y, x_err, y_err = (values[known] for values in (x, y, x_err, y_err))
    if pivot is None:
        pivot = float(np.median(x)) if x.size else float("nan")
    rows, n_corrected = chosen.index.to_numpy()[known], int(corrected[known].sum())
    drift = cuts.drift if n_corrected and 2 * n_corrected >= x.size else "off"
    return RelationPoints(rows, x, y, x_err, y_err, x_name, y_name, float(pivot), drift, n_corrected, int((~known).sum()))


def fit_line(points: RelationPoints, method: Method, settings: Settings) -> LineFit:
    """Fit the points by one method with the seed of the settings; raise `RelationError` where that is impossible."""
    return fit_by_method(
        method, points.x, points.y, points.x_err, points.y_err, points.pivot,
        clip=settings.relation.clip, rng=np.random.default_rng(settings.seed),
    )  # fmt: skip


def fit_record(
    sample: pd.DataFrame, relation: RelationName, velocity: str, method: Method, settings: Settings, pivot: float | None = None
) -> dict:  # fmt: skip
    """Fit one relation to the used galaxies of ``sample`` (rows of ``tables.SAMPLE``, those not used say why there are so few).

    ``pivot`` replaces that of the settings. Returns what `fit_relation` writes. Raises `RelationError` for an unknown relation,
    velocity or method only.
    """
    if method not in METHODS:
        raise RelationError(f"relation: unknown method {method!r}; known: {', '.join(METHODS)}.")
    points = relation_points(sample, relation, velocity, settings)
    points = points if pivot is None else replace(points, pivot=float(pivot))
    record = {
        "relation": relation, "method": method, "velocity": velocity, "drift": points.drift, "x": points.x_name, "y": points.y_name,
        "pivot": points.pivot, "n_corrected": points.n_corrected, "n_missing": points.n_missing,
        "surveys": sorted(sample.loc[points.rows, "survey"].unique()), "imf": settings.cosmology.imf, "h": settings.cosmology.h,
    }  # fmt: skip
    try:
        fit = fit_line(points, method, settings)
    except RelationError as err:
        why = f" {say_shortage(sample, points.n_missing, relation)}" if points.x.size < MIN_POINTS else ""
        return record | {"error": f"{err}{why}", "n_used": int(points.x.size)}
    names = ("slope", "slope_err", "intercept", "intercept_err", "covariance", "scatter", "scatter_err", "rms", "n_used", "n_outliers")
    record |= {name: getattr(fit, name) for name in names}
    record["outliers"] = sorted(sample.loc[points.rows[~fit.used], "galaxy"])
    return record


def fit_relation(
    sample_path: str | Path,
    relation: RelationName,
    velocity: str,
    method: Method,
    settings: Settings,
    out_path: str | Path,
    survey: str | None = None,
) -> dict:
    """Fit one relation to the used galaxies of the merged sample (of one survey where given) and write it as JSON.

    The file holds relation, method, x, y, velocity, drift, pivot, slope, intercept and scatter with errors, their
    covariance, rms, n_used, n_outliers, n_missing, surveys, imf and h of the masses, and the outliers' names. ``drift`` is off unless
    half of the velocities were corrected; ``n_corrected`` says how many were. Where no line can be fitted it holds ``error``, what is
    wrong and which cuts took the galaxies, and the number there were: the report is still made.

    Raises `CatalogueError` for an unreadable sample, `RelationError` for an unknown relation, velocity or method.
    """
    sample = read_table(sample_path, SAMPLE)
    if survey is not None:
        sample = sample[sample["survey"] == survey]
    record = fit_record(sample, relation, velocity, method, settings)
    if "error" in record:
        _LOG.warning("%s %s %s: %s", relation, velocity, method, record["error"])
    else:
        _LOG.info(
            "%s %s %s: slope %.4f ± %.4f, intercept %.4f ± %.4f at %.3f, scatter %.3f, rms %.3f, %d used, %d outliers",
            relation, velocity, method, *(record[key] for key in _LOGGED),
        )  # fmt: skip
    write_record(out_path, record)
    return record
