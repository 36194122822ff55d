"""Asymmetric drift: from the rotation velocity of the gas to the circular velocity of the potential (thesis eq. 4.4)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["Drift", "correct_drift", "drift_factor"]

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
