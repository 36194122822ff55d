"""Found against true, galaxy by galaxy: the parameters of the discs of a mock run."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tullyflow.conventions import R_80_PER_SCALE_LENGTH, wrap_degrees

__all__ = ["BIAS_TOLERANCE", "HONEST_PULL_RMS", "galaxy_table", "parameter_rows", "true_velocities", "velocity_bias_rows"]

BIAS_TOLERANCE = 0.01  # dex: the mean offset of log V the method itself may have
HONEST_PULL_RMS = (0.4, 2.0)
_BIAS_SIGMAS = 3.0
_JUDGED_ERRORS = ("inclination_deg", "pa_deg", "v_max_sini_kms", "v_max_kms")
_GAUSSIAN_MAD = 1.4826


@dataclass(frozen=True)
class _Parameter:
    """A column of the sample, its error and its unit; ``period`` is the full turn of an angle, 0 otherwise.

    ``truth`` is the column of the truth where that has another name.
    """

    name: str
    column: str
    err: str
    unit: str
    period: float = 0.0
    truth: str = ""


_PARAMETERS = (
    _Parameter("inclination_deg", "inclination_used_deg", "inclination_used_err_deg", "deg"),
    _Parameter("pa_deg", "pa_deg", "pa_err_deg", "deg", 360.0),
    _Parameter("v_sys_kms", "v_sys_kms", "v_sys_err_kms", "km/s"),
    _Parameter("v_max_sini_kms", "v_max_sini_kms", "v_max_sini_kms_err", "km/s"),
    _Parameter("v_max_kms", "v_max_kms", "v_max_kms_err", "km/s"),
    _Parameter("r_scale_arcsec", "r_scale_arcsec", "r_scale_arcsec_err", "arcsec"),
    _Parameter("r_turn_arcsec", "r_turn_arcsec", "r_turn_arcsec_err", "arcsec"),
    _Parameter("outer_dispersion_kms", "outer_dispersion_kms", "outer_dispersion_err_kms", "km/s", truth="gas_dispersion_kms"),
)


def true_velocities(joined: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the true rotation velocities (km/s), each at the radius its name says.

    V(R) = (2/pi) V_max arctan(R / r_turn) (Dawson+2021 eq. 4) of the true curve, at 2.2 true scale lengths, at the
    catalogue's R_e and at the r_max of the data. ``joined`` has the sample's columns and the truth's ending in ``_true``.
    """

    def at(radius):
        return joined["v_max_kms_true"] * (2 / np.pi) * np.arctan(radius / joined["r_turn_arcsec_true"])

    return {
        "v_max": joined["v_max_kms_true"],
        "v_22": at(2.2 * joined["r_scale_arcsec_true"]),
        "v_80": at(R_80_PER_SCALE_LENGTH * joined["r_scale_arcsec_true"]),
        "v_re": at(joined["r_e_arcsec"]),
        "v_rmax": at(joined["r_max_arcsec"]),
    }


def _truth(joined: pd.DataFrame, parameter: _Parameter) -> pd.Series:
    if parameter.name == "v_max_sini_kms":
        return joined["v_max_kms_true"] * np.sin(np.radians(joined["inclination_deg_true"]))
    return joined[f"{parameter.truth or parameter.name}_true"]


def _difference(joined: pd.DataFrame, parameter: _Parameter) -> np.ndarray:
    difference = (joined[parameter.column] - _truth(joined, parameter)).to_numpy(dtype=float)
    half = parameter.period / 2
    return wrap_degrees(difference + half, parameter.period) - half if parameter.period else difference


def parameter_rows(joined: pd.DataFrame) -> list[dict]:
    """Summarise found minus true per parameter: median, robust standard deviation, rms of the pull, share within 1 sigma.

    A galaxy without a value or a positive error is left out of a parameter; ``n`` counts those that are in.
    ``errors_honest``, for inclination, pa, V_max sin i and V_max: whether the rms of the pull is between 0.4 and 2; None for
    the others and where there is no galaxy.
    """
    rows = []
    for parameter in _PARAMETERS:
        difference, err = _difference(joined, parameter), joined[parameter.err].to_numpy(dtype=float)
        known = np.isfinite(difference) & (err > 0) & np.isfinite(err)
        difference, pull = difference[known], difference[known] / err[known]
        row = {"parameter": parameter.name, "unit": parameter.unit, "n": int(known.sum())}
        if known.any():
            median = float(np.median(difference))
            row |= {
                "median": median,
                "robust_std": float(_GAUSSIAN_MAD * np.median(np.abs(difference - median))),
                "pull_rms": float(np.sqrt(np.mean(pull**2))),
                "within_1_sigma": float(np.mean(np.abs(pull) < 1)),
            }
        else:
            row |= dict.fromkeys(("median", "robust_std", "pull_rms", "within_1_sigma"), float("nan"))
        low, high = HONEST_PULL_RMS
        judged = parameter.name in _JUDGED_ERRORS and row["n"] > 0
        rows.append(row | {"errors_honest": bool(low <= row["pull_rms"] <= high) if judged else None})
    return rows


def velocity_bias_rows(joined: pd.DataFrame, columns: Mapping[str, str]) -> list[dict]:
    """Average log10 V found minus true over the galaxies, one row per velocity: a bias all share, whatever errors they claim.

    ``columns`` names the column (km/s) of each velocity. ``mean`` and its standard error ``err`` = std / sqrt(n) come from the
    differences alone; ``agrees`` where |mean| < ``limit`` = 3 err + `BIAS_TOLERANCE`. A galaxy without a positive velocity,
    found or true, is left out; with fewer than two the error is NaN and nothing agrees. All in dex.
    """
    rows, true = [], true_velocities(joined)
    for velocity, column in columns.items():
        pairs = np.stack([joined[column].to_numpy(dtype=float), true[velocity].to_numpy(dtype=float)])
        found, put_in = pairs[:, np.isfinite(pairs).all(axis=0) & (pairs > 0).all(axis=0)]
        difference = np.log10(found / put_in)
        n = difference.size
        mean = float(difference.mean()) if n else float("nan")
        err = float(difference.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
        limit = _BIAS_SIGMAS * err + BIAS_TOLERANCE
        rows.append({"velocity": velocity, "column": column, "n": n, "mean": mean, "err": err, "limit": limit, "agrees": abs(mean) < limit})
    return rows


def galaxy_table(joined: pd.DataFrame) -> pd.DataFrame:
    """Return galaxy, survey and, per parameter, ``{name}_true``, ``{name}_found``, ``{name}_err``."""
    columns = {"galaxy": joined["galaxy"], "survey": joined["survey"]}
    for parameter in _PARAMETERS:
        columns |= {
            f"{parameter.name}_true": _truth(joined, parameter),
            f"{parameter.name}_found": joined[parameter.column],
            f"{parameter.name}_err": joined[parameter.err],
        }
    return pd.DataFrame(columns)
