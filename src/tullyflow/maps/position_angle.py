"""Kinematic position angle: the axis about which a velocity map is closest to bi-antisymmetric.

Implemented from the description of Krajnovic+2006 App. C. Angles on the image are degrees
counter-clockwise from +x to the receding side; `orientation` ties them to the sky.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tullyflow import flags
from tullyflow.maps.antisymmetry import Sampler, chi_squared, correlated_pixels, pixel_weights, residuals, systemic_velocity

__all__ = ["ERR_FLOOR_KMS", "PositionAngle", "fit_position_angle"]

ERR_FLOOR_KMS = 2.0

_COARSE_DEG = 3.0
_FINE_DEG = 6.0  # half-range of the fine search
_DEPTH = 0.05  # the minimum is fitted out to where the curve has risen by this share of its depth
_WEDGE_DEG = 30.0
_ERR_CALIBRATION = 1.16  # these three by Monte-Carlo on simulated discs with noise, beam and gaps: for a deep curve; ...
_SHALLOW = 2.8  # ... noise moves the minimum of a shallow one in second order, less where pixels share it or the minimum is narrow;
_BROAD_MAX = 1.3  # a round map's standard deviation over depth; that of a narrow strip of data has a spike, and is more
_ERR_FLOOR_DEG = 0.03  # ... interpolation alone
_ERR_CEILING_DEG = 180 / 12**0.5  # any axis is as good as another
_OUTLIER_SIGMA = 4.0  # residuals beyond it lose weight (Huber)
_MIN_PIXELS = 10
_CENTRE_ERR = 0.3  # native pixels


@dataclass(frozen=True)
class PositionAngle:
    """Kinematic axis of one velocity map.

    ``image_angle_deg`` is the direction of the receding side, counter-clockwise from +x on the image, 0-360;
    ``err_deg`` its 1 sigma; ``v_sys_kms`` the systemic velocity on the map's zero point; ``angles_deg`` and
    ``chi2`` the curve searched (modulo 180); ``flags`` is 0 or ``flags.GALAXY.PA_FAILED`` and ``message`` says why.
    """

    image_angle_deg: float
    err_deg: float
    v_sys_kms: float
    v_sys_err_kms: float
    n_pixels: int
    independent_pixels: float
    angles_deg: NDArray[np.float64]
    chi2: NDArray[np.float64]
    flags: int = 0
    message: str = ""


def _minimum(angles: NDArray, chi2: NDArray, start: float) -> tuple[float, float]:
    """Centre and curvature (per deg^2) of the even quartic closest to the curve about its minimum.

    The window reaches to where the curve has risen by a set share of its depth, so that the noise of a shallow
    curve is averaged and a narrow minimum (a disc seen edge-on) is not blurred.
    """
    depth = np.median(chi2) - chi2.min()
    centre, curvature = start, np.nan
    offset = (angles - centre + 90) % 180 - 90
    risen = np.abs(offset[chi2 > chi2.min() + _DEPTH * depth])
    window = float(np.clip(risen.min() if risen.size else 45.0, _FINE_DEG, 45.0))
    for _ in range(6):
        offset = (angles - centre + 90) % 180 - 90
        near = np.abs(offset) <= window
        t = offset[near] / window
        for powers in ([0, 1, 2, 4], [0, 1, 2]):
            terms = np.linalg.lstsq(t[:, None] ** powers, chi2[near], rcond=None)[0]
            if terms[2] > 0:
                break
        else:
            return start, np.nan
        centre += float(np.clip(-terms[1] / (2 * terms[2]), -0.5, 0.5)) * window
        curvature = 2 * float(terms[2]) / window**2
    return float(np.clip(centre, start - window, start + window)), curvature


def _trust(residual: NDArray, weight: NDArray) -> NDArray:
    """Huber's weights: 1, and less in proportion beyond ``_OUTLIER_SIGMA`` robust sigma of the normalised residuals."""
    away = np.abs(residual - np.median(residual)) * np.sqrt(weight)
    limit = _OUTLIER_SIGMA * 1.4826 * float(np.median(away))
    return np.minimum(1.0, np.divide(limit, away, out=np.ones_like(away), where=away > 0)) if limit > 0 else np.ones_like(away)


def _second_order(chi2: NDArray, shared: float) -> float:
    """Factor on the error for noise that enters the curve squared: it grows as the curve gets shallow beside its minimum."""
    rise = np.median(chi2) - chi2.min()
    if not (chi2.min() > 0 and rise > 0):
        return 1.0
    broad = min(chi2.std() / rise, _BROAD_MAX)
    return float(np.sqrt(1 + _SHALLOW * (chi2.min() / rise) ** 2 * broad**4 / np.sqrt(shared)))


def _error_from_centre(v_map: NDArray, good: NDArray, centre: tuple[float, float], angle: float, err: float) -> float:
    """1 sigma of v_sys (km/s) for a centre uncertain by ``err`` pixels along the axis: half the change between its two ends."""
    dx, dy = err * np.cos(np.radians(angle)), err * np.sin(np.radians(angle))
    ends = [systemic_velocity(v_map, good, (centre[0] + sign * dx, centre[1] + sign * dy))[0] for sign in (-1, 1)]
    return abs(ends[1] - ends[0]) / 2


def _failed(message: str, n_pixels: int, angles: NDArray | None = None, chi2: NDArray | None = None) -> PositionAngle:
    angles, chi2 = (np.empty(0), np.empty(0)) if angles is None else (angles, chi2)
    nan = np.nan
    return PositionAngle(nan, nan, nan, nan, n_pixels, nan, angles, chi2, flags.GALAXY.PA_FAILED, message)


def fit_position_angle(
    velocity: ArrayLike,
    velocity_err: ArrayLike | float,
    valid: ArrayLike,
    centre: tuple[float, float],
    *,
    step_deg: float = 1.0,
    err_max_deg: float = 45.0,
    err_floor_kms: float = ERR_FLOOR_KMS,
    centre_err: float = _CENTRE_ERR,
) -> PositionAngle:
    """Find the axis about which a velocity map is closest to bi-antisymmetric, and its receding side.

    Parameters
    ----------
    velocity, velocity_err : (y, x), km/s
        Map and its 1 sigma (or one number), systemic velocity not removed.
    valid : (y, x), bool
        Pixels that count. NaN and errors that are not positive are never used.
    centre : (x, y)
        Centre of rotation, 0-based pixels; need not be on a pixel.
    step_deg
        Step of the fine search about the coarse minimum.
    err_max_deg
        A position angle less certain than this is flagged.
    err_floor_kms
        Added to the errors in quadrature, as is the median error of the map: real discs depart from bi-antisymmetry by more than
        the errors of their brightest pixels, which would decide alone.
    centre_err
        1 sigma of the centre along the major axis, pixels.

    Returns
    -------
    PositionAngle
        Flagged ``PA_FAILED`` (with a sentence, never an exception) where fewer than 10 pixels have mirrored
        partners, the curve is flat (``err_deg`` above ``err_max_deg``), or the halves do not differ by 3 sigma.

    Notes
    -----
    Krajnovic+2006 App. C: at trial angle t the model at a pixel is the mean of v there and of its three copies
    (mirrored in the axis, mirrored across it with the sign turned, opposite with the sign turned), where
    these exist. Errors: where the model is right, half the second derivative of chi2 is the Fisher information
    of t, so 1 sigma is ``sqrt(2/chi2'')``; it is scaled by the reduced chi2, by the number of pixels that share
    one independent residual, and by a factor set by Monte-Carlo that grows where noise makes the curve shallow. A third of
    the half-range with scaled dchi2 <= 9 replaces it where larger (the published limit, 9 + 3 sqrt(2N), is far wider than
    its 3 sigma). Residuals beyond 4 robust sigma lose weight, once.
    The error of v_sys adds, in quadrature, how far ``centre_err`` moves it.
    """
    v_map = np.asarray(velocity, dtype=float)
    err_map = np.broadcast_to(np.asarray(velocity_err, dtype=float), v_map.shape)
    good = np.asarray(valid, dtype=bool) & np.isfinite(v_map) & np.isfinite(err_map) & (err_map > 0)
    n_pixels = int(good.sum())
    if n_pixels < _MIN_PIXELS:
        return _failed(f"{n_pixels} valid pixels, fewer than {_MIN_PIXELS}", n_pixels)
    rows, columns = np.nonzero(good)
    offsets = np.stack([columns - centre[0], rows - centre[1]])  # (x or y, pixel)
    v, weight = v_map[good], pixel_weights(err_map[good], err_floor_kms)

    v_sys, n_paired = systemic_velocity(v_map, good, centre)
    if n_paired < _MIN_PIXELS:
        return _failed(f"{n_paired} pixels have a partner across the centre, fewer than {_MIN_PIXELS}", n_pixels)
    sampler = Sampler(v_map - v_sys, good, centre)
    coarse = np.arange(0.0, 180.0, _COARSE_DEG)
    chi2 = chi_squared(coarse, offsets, v - v_sys, weight, sampler)
    if not np.isfinite(chi2).all() or np.ptp(chi2) <= 0:
        return _failed("the curve over position angle is flat", n_pixels, coarse, chi2)
    steps = int(np.ceil(_FINE_DEG / step_deg))
    fine = coarse[chi2.argmin()] + step_deg * np.arange(-steps, steps + 1)
    fine_chi2 = chi_squared(fine, offsets, v - v_sys, weight, sampler)
    angle, curvature = _minimum(np.r_[coarse, fine], np.r_[chi2, fine_chi2], float(fine[fine_chi2.argmin()]))
    residual, n = (a[0] for a in residuals(np.radians([angle]), offsets, v - v_sys, sampler))
    trust = _trust(residual, weight)
    if (trust < 1).any():
        weight = weight * trust
        chi2, fine_chi2 = (chi_squared(a, offsets, v - v_sys, weight, sampler) for a in (coarse, fine))
        angle, curvature = _minimum(np.r_[coarse, fine], np.r_[chi2, fine_chi2], angle)
        residual, n = (a[0] for a in residuals(np.radians([angle]), offsets, v - v_sys, sampler))
    minimum = float(min(fine_chi2.min(), chi2.min()))
    shift = float(np.median(residual))
    v_sys += shift
    freedom = float((1 - 1 / n).sum())
    residual -= shift
    shared = correlated_pixels(residual * np.sqrt(weight), offsets)
    scale = float((weight * residual**2).sum()) / max(freedom, 1.0) * shared
    within = float((chi2 - minimum <= 9 * scale).mean()) * 90  # half the range of angles, of 180 deg
    err = _ERR_CALIBRATION * max(float(np.sqrt(2 * scale / curvature)) if curvature > 0 else 0.0, (within - _COARSE_DEG / 2) / 3)
    err = float(min(np.hypot(err * _second_order(np.r_[chi2, fine_chi2], shared), _ERR_FLOOR_DEG), _ERR_CEILING_DEG))
    independent = n_pixels / shared
    v_sys_err = 1.2533 * 1.4826 * float(np.median(np.abs(residual))) / np.sqrt(independent * freedom / n_pixels)
    v_sys_err = float(np.hypot(v_sys_err, _error_from_centre(v_map, good, centre, angle, centre_err)))

    image_angle, difference = _receding_side(angle, offsets, v - v_sys, residual, shared)
    order = np.argsort(np.mod(np.r_[coarse, fine], 180.0), kind="stable")
    curve_angles, curve_chi2 = np.mod(np.r_[coarse, fine], 180.0)[order], np.r_[chi2, fine_chi2][order]
    message = ""
    if err > err_max_deg:
        message = f"position angle uncertain by {err:.0f} deg, allowed {err_max_deg:.0f}"
    elif not difference >= 3:
        message = f"the two halves differ by {difference:.1f} sigma, needed 3"
    return PositionAngle(
        image_angle, err, v_sys, v_sys_err, n_pixels, independent, curve_angles, curve_chi2,
        flags.GALAXY.PA_FAILED if message else 0, message,
    )  # fmt: skip


def _receding_side(angle: float, offsets: NDArray, v: NDArray, residual: NDArray, shared: float) -> tuple[float, float]:
    """Direction (deg, 0-360) of the half whose v is positive within 30 deg of the axis, and its significance in sigma."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    along, across = c * offsets[0] + s * offsets[1], c * offsets[1] - s * offsets[0]
    wedge = (np.abs(across) <= np.tan(np.radians(_WEDGE_DEG)) * np.abs(along)) & (along != 0)
    if wedge.sum() < 2:
        return angle % 360, 0.0
    middle = float(np.median((np.sign(along) * v)[wedge]))  # not the mean: a few wild bins at the rim would decide
    away = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
    err = 1.2533 * away * np.sqrt(max(shared, 1.0) / wedge.sum())
    return (angle if middle >= 0 else angle + 180) % 360, abs(middle) / err if err > 0 else np.inf * abs(middle)
