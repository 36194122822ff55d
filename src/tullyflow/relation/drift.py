"""Asymmetric drift: from the rotation velocity of the gas to the circular velocity of the potential (thesis eq. 4.4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from tullyflow.conventions import velocity_radii
from tullyflow.flags import GALAXY
from tullyflow.tables import VELOCITIES

if TYPE_CHECKING:
    import pandas as pd

    from tullyflow.settings import Relation

__all__ = ["Drift", "correct_drift", "correct_velocities", "corrected_velocities", "drift_factor", "drift_radii"]

Kind = Literal["evans", "isotropic"]


@dataclass(frozen=True)
class Drift:
    """Corrected velocities (km/s), their 1 sigma, and where the correction was applied; all (galaxy,)."""

    v_kms: np.ndarray
    v_err: np.ndarray
    applied: np.ndarray


def drift_factor(r_max, r_scale, kind: Kind) -> np.ndarray:
    """Factor of sigma^2: ``evans`` 2 r_max / r_scale - 1 (thesis eq. 4.4), ``isotropic`` r_max / r_scale. NaN stays NaN."""
    ratio = np.asarray(r_max, dtype=float) / np.asarray(r_scale, dtype=float)
    return 2 * ratio - 1 if kind == "evans" else ratio


def correct_drift(v_kms, v_err, sigma_kms, sigma_err, r_max, r_scale, kind: Kind, r_scale_err=0.0) -> Drift:
    """Correct rotation velocities for asymmetric drift: V^2 + sigma^2 k, with k of `drift_factor`.

    For an exponential disc of constant dispersion and a flat curve; ``evans`` takes sigma for the tangential
    dispersion (the radial one is sqrt 2 larger), ``isotropic`` gas needs about half as much.

    Parameters
    ----------
    v_kms, v_err : array (galaxy,)
        Rotation velocity and its 1 sigma, km/s.
    sigma_kms, sigma_err : array (galaxy,)
        Velocity dispersion of the outer disc, instrument removed, km/s.
    r_max, r_scale : array (galaxy,)
        Radius the velocity belongs to, and the intensity's scale length, in one unit.
    kind : {"evans", "isotropic"}
    r_scale_err : array (galaxy,) or float
        1 sigma of the scale length.

    Returns
    -------
    Drift
        Where k is negative (r_max < r_scale / 2), or dispersion, radius or scale length is NaN, the velocity comes back
        as it was and ``applied`` is False. NaN velocities stay NaN. The three errors are propagated as independent;
        a NaN error of dispersion or scale length adds nothing, a NaN ``v_err`` stays NaN.

    Source: thesis eq. 4.4; Weijmans+2008 appendix A.
    """
    v, v_err, sigma, sigma_err, r_max, r_scale, r_scale_err = np.broadcast_arrays(
        *(np.asarray(a, dtype=float) for a in (v_kms, v_err, sigma_kms, sigma_err, r_max, r_scale, r_scale_err))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = drift_factor(r_max, r_scale, kind)
        by_scale = (2.0 if kind == "evans" else 1.0) * r_max / r_scale**2  # |d factor / d r_scale|
        applied = np.isfinite(v) & (sigma >= 0) & np.isfinite(sigma) & (factor >= 0) & np.isfinite(factor)
        corrected = np.sqrt(v**2 + sigma**2 * factor)
        by_sigma, by_scale = sigma * factor, sigma**2 * by_scale / 2  # times V corrected
        variance = (v * v_err) ** 2 + (by_sigma * np.nan_to_num(sigma_err)) ** 2 + (by_scale * np.nan_to_num(r_scale_err)) ** 2
        corrected_err = np.where(corrected > 0, np.sqrt(variance) / corrected, v_err)
    return Drift(np.where(applied, corrected, v), np.where(applied, corrected_err, v_err), applied)


def drift_radii(sample: "pd.DataFrame | Mapping") -> dict[str, np.ndarray]:
    """Radius (arcsec) the factor of each velocity takes, from columns of a sample: its own, and r_max for V_max as the thesis does."""
    columns = (np.asarray(sample[name], dtype=float) for name in ("r_scale_used_arcsec", "r_e_arcsec", "r_max_arcsec"))
    radii = velocity_radii(*columns)
    return radii | {"v_max": radii["v_rmax"]}


def corrected_velocities(drift: str, drift_at: str) -> tuple[str, ...]:
    """Names of the velocities that settings ``relation.drift`` and ``relation.drift_at`` correct."""
    return () if drift == "off" else VELOCITIES if drift_at == "v_max" else ("v_rmax",)


def correct_velocities(sample: "pd.DataFrame", relation: "Relation") -> None:
    """Fill the ``_circ`` columns of a sample in place; without a correction they equal the rotation velocity.

    The factor takes the radius each velocity belongs to; V_max takes r_max as the thesis does. With ``drift_at: r_max``
    only the velocity at r_max is corrected. The scale length is the one the velocities use; one from the catalogue's R_e (where the
    inclination is photometric) has no error, the network's has its own, and at so many scale lengths the factor is known whatever
    their length. Where a velocity that is there cannot be corrected the galaxy gets NO_DRIFT_CORRECTION.
    """
    r_scale, from_r_e = sample["r_scale_used_arcsec"], (sample["r_e_arcsec"] > 0).to_numpy()
    scale_err = np.where(from_r_e & (sample["inclination_kind"] == "photometric"), 0.0, sample["r_scale_arcsec_err"])
    radii, chosen = drift_radii(sample), corrected_velocities(relation.drift, relation.drift_at)
    by_lengths = {"v_22": True, "v_80": True, "v_re": ~from_r_e}
    for velocity in VELOCITIES:
        v, log_err = sample[f"{velocity}_kms"], sample[f"log_{velocity}_err"]
        if velocity not in chosen:
            sample[f"{velocity}_circ_kms"], sample[f"log_{velocity}_circ_err"] = v, log_err
            continue
        drift = correct_drift(
            v, log_err * v * np.log(10), sample["outer_dispersion_kms"], sample["outer_dispersion_err_kms"],
            radii[velocity], r_scale, relation.drift, np.where(by_lengths.get(velocity, False), 0.0, scale_err),
        )  # fmt: skip
        sample[f"{velocity}_circ_kms"] = drift.v_kms
        with np.errstate(divide="ignore", invalid="ignore"):
            sample[f"log_{velocity}_circ_err"] = drift.v_err / (drift.v_kms * np.log(10))
        sample.loc[v.notna() & ~drift.applied, "flags"] |= GALAXY.NO_DRIFT_CORRECTION
