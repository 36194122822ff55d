"""Kinematic position angle: the axis about which a velocity map is closest to bi-antisymmetric.

Implemented from the description of Krajnovic+2006 App. C. Angles on the image are degrees
counter-clockwise from +x to the receding side; `orientation` ties them to the sky.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tullyflow import flags

__all__ = ["PositionAngle", "fit_position_angle"]

_COARSE_DEG = 3.0
_FINE_DEG = 6.0  # half-range of the fine search
_SAMPLES_PER_CHUNK = 60_000  # angles x pixels worked on at a time: stays in the cache
_DEPTH = 0.1  # the minimum is fitted out to where the curve has risen by this share of its depth
_WEDGE_DEG = 30.0
_ERR_CALIBRATION = 1.12  # these three by Monte-Carlo on simulated discs with noise, beam and gaps: for a deep curve; ...
_SHALLOW = 1.9  # ... noise moves the minimum of a shallow one in second order, less where pixels share it or the minimum is narrow;
_ERR_FLOOR_DEG = 0.03  # ... interpolation alone
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


class _Sampler:
    """Bilinear sampling of a masked map at any points, as value x weight and weight in one gather."""

    def __init__(self, values: NDArray, valid: NDArray, centre: tuple[float, float]):
        ny, nx = values.shape
        padded = np.zeros((ny + 3, nx + 3), dtype=np.complex64)  # real: value where valid, imaginary: 1 where valid
        padded[1 : ny + 1, 1 : nx + 1] = np.where(valid, values, 0.0) + 1j * valid
        self._flat = padded.ravel()
        self._width = nx + 3
        self._limits = (nx + 0.999, ny + 0.999)
        self._centre = (centre[0] + 1, centre[1] + 1)

    def __call__(self, x: NDArray, y: NDArray) -> NDArray:
        """Weighted sum (real) and sum of weights (imaginary) at offsets from the centre, in pixels."""
        x = np.clip(x + self._centre[0], 0, self._limits[0])
        y = np.clip(y + self._centre[1], 0, self._limits[1])
        column, row = x.astype(np.intp), y.astype(np.intp)
        fx, fy = (x - column).astype(np.float32), (y - row).astype(np.float32)
        at = row * self._width + column
        flat, width = self._flat, self._width
        low, high = flat.take(at), flat.take(at + width)
        low += fx * (flat.take(at + 1) - low)
        high += fx * (flat.take(at + width + 1) - high)
        high -= low
        high *= fy
        low += high
        return low


def _mean_of_sampled(sampled: NDArray, weight_min: float = 0.5) -> tuple[NDArray, NDArray]:
    there = sampled.imag >= weight_min
    return np.divide(sampled.real, sampled.imag, out=np.zeros(sampled.shape), where=there), there


def _residuals(theta: NDArray, offsets: NDArray, v: NDArray, sampler: _Sampler) -> tuple[NDArray, NDArray]:
    """v minus its bi-antisymmetric model, and the number of copies in that model: both (angle, pixel)."""
    x, y = offsets
    opposite, has_opposite = _mean_of_sampled(sampler(-x, -y))
    total = v - opposite
    count = 1 + has_opposite.astype(np.int8)
    c, s = np.cos(2 * theta)[:, None], np.sin(2 * theta)[:, None]
    mx, my = c * x + s * y, s * x - c * y  # (angle, pixel): mirrored across the trial axis
    mirrored, has_mirrored = _mean_of_sampled(sampler(mx, my))
    crossed, has_crossed = _mean_of_sampled(sampler(-mx, -my))
    n = count + has_mirrored + has_crossed
    return v - (total + mirrored - crossed) / n, n


def _curve(angles_deg: NDArray, offsets: NDArray, v: NDArray, weight: NDArray, sampler: _Sampler) -> NDArray:
    """Chi-squared of the residuals at each trial angle, per degree of freedom of that angle times that of a full overlap.

    A pixel whose mirrored copies fall outside the data has residual 0 whatever the angle; without the
    division an elongated footprint would prefer the axes along which it overlaps itself least.
    """
    chi2 = np.empty(len(angles_deg))
    step = max(1, _SAMPLES_PER_CHUNK // len(v))
    for k in range(0, len(angles_deg), step):
        residual, n = _residuals(np.radians(angles_deg[k : k + step]), offsets, v, sampler)
        freedom = (weight * (1 - 1 / n)).sum(axis=1)
        chi2[k : k + step] = (weight * residual**2).sum(axis=1) / np.where(freedom > 0, freedom, np.nan)
    return chi2 * 0.75 * weight.sum()


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


def _correlated_pixels(residual: NDArray, offsets: NDArray) -> float:
    """Pixels that share one independent residual: the sum of the autocorrelation over its central peak.

    The peak ends at the first ring of lags (1 pixel wide) where the mean autocorrelation is below 0.1.
    """
    column, row = np.rint(offsets - offsets.min(axis=1, keepdims=True)).astype(int)
    shape = (2 * row.max() + 2, 2 * column.max() + 2)
    image, there = np.zeros(shape), np.zeros(shape)
    image[row, column], there[row, column] = residual, 1.0
    products = np.fft.irfft2(np.abs(np.fft.rfft2(image)) ** 2, shape)
    pairs = np.fft.irfft2(np.abs(np.fft.rfft2(there)) ** 2, shape)
    lag_y, lag_x = np.fft.fftfreq(shape[0], 1 / shape[0])[:, None], np.fft.fftfreq(shape[1], 1 / shape[1])
    ring = np.rint(np.hypot(lag_x, lag_y)).astype(int).ravel()
    total = np.bincount(ring, products.ravel()) / np.maximum(np.bincount(ring, np.rint(pairs).ravel()), 1)
    number = np.bincount(ring)
    if not total[0] > 0:
        return 1.0
    correlation = total / total[0]
    end = int(np.argmax(correlation < 0.1)) if (correlation < 0.1).any() else len(correlation)
    return float(max(1.0, (correlation[:end] * number[:end]).sum()))


def _second_order(chi2: NDArray, shared: float) -> float:
    """Factor on the error for noise that enters the curve squared: it grows as the curve gets shallow beside its minimum."""
    rise = np.median(chi2) - chi2.min()
    if not (chi2.min() > 0 and rise > 0):
        return 1.0
    return float(np.sqrt(1 + _SHALLOW * (chi2.min() / rise) ** 2 * (chi2.std() / rise) ** 4 / np.sqrt(shared)))


def _systemic(v_map: NDArray, good: NDArray, centre: tuple[float, float]) -> tuple[float, int]:
    """Median of v's even part about ``centre`` (needs no axis; NaN without pairs), and the number of pixels with a partner."""
    rows, columns = np.nonzero(good)
    opposite, paired = _mean_of_sampled(_Sampler(v_map, good, centre)(centre[0] - columns, centre[1] - rows))
    n = int(paired.sum())
    return (float(np.median((v_map[good] + opposite)[paired]) / 2) if n else float("nan")), n


def _error_from_centre(v_map: NDArray, good: NDArray, centre: tuple[float, float], angle: float, err: float) -> float:
    """1 sigma of v_sys (km/s) for a centre uncertain by ``err`` pixels along the axis: half the change between its two ends."""
    dx, dy = err * np.cos(np.radians(angle)), err * np.sin(np.radians(angle))
    ends = [_systemic(v_map, good, (centre[0] + sign * dx, centre[1] + sign * dy))[0] for sign in (-1, 1)]
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
    err_floor_kms: float = 3.0,
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
        Added to the errors in quadrature: real discs depart from bi-antisymmetry by about this much, and without
        it the few brightest pixels decide.
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
    v, weight = v_map[good], 1 / (err_map[good] ** 2 + err_floor_kms**2)

    v_sys, n_paired = _systemic(v_map, good, centre)
    if n_paired < _MIN_PIXELS:
        return _failed(f"{n_paired} pixels have a partner across the centre, fewer than {_MIN_PIXELS}", n_pixels)
    sampler = _Sampler(v_map - v_sys, good, centre)
    coarse = np.arange(0.0, 180.0, _COARSE_DEG)
    chi2 = _curve(coarse, offsets, v - v_sys, weight, sampler)
    if not np.isfinite(chi2).all() or np.ptp(chi2) <= 0:
        return _failed("the curve over position angle is flat", n_pixels, coarse, chi2)
    steps = int(np.ceil(_FINE_DEG / step_deg))
    fine = coarse[chi2.argmin()] + step_deg * np.arange(-steps, steps + 1)
    fine_chi2 = _curve(fine, offsets, v - v_sys, weight, sampler)
    angle, curvature = _minimum(np.r_[coarse, fine], np.r_[chi2, fine_chi2], float(fine[fine_chi2.argmin()]))
    residual, n = (a[0] for a in _residuals(np.radians([angle]), offsets, v - v_sys, sampler))
    trust = _trust(residual, weight)
    if (trust < 1).any():
        weight = weight * trust
        chi2, fine_chi2 = (_curve(a, offsets, v - v_sys, weight, sampler) for a in (coarse, fine))
        angle, curvature = _minimum(np.r_[coarse, fine], np.r_[chi2, fine_chi2], angle)
        residual, n = (a[0] for a in _residuals(np.radians([angle]), offsets, v - v_sys, sampler))
    minimum = float(min(fine_chi2.min(), chi2.min()))
    shift = float(np.median(residual))
    v_sys += shift
    freedom = float((1 - 1 / n).sum())
    residual -= shift
    shared = _correlated_pixels(residual * np.sqrt(weight), offsets)
    scale = float((weight * residual**2).sum()) / max(freedom, 1.0) * shared
    within = float((chi2 - minimum <= 9 * scale).mean()) * 90  # half the range of angles, of 180 deg
    err = _ERR_CALIBRATION * max(float(np.sqrt(2 * scale / curvature)) if curvature > 0 else 0.0, (within - _COARSE_DEG / 2) / 3)
    err = float(np.hypot(err * _second_order(np.r_[chi2, fine_chi2], shared), _ERR_FLOOR_DEG))
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
    mean = float((np.sign(along) * v)[wedge].mean())
    err = float(np.std(residual)) * np.sqrt(max(shared, 1.0) / wedge.sum())
    return (angle if mean >= 0 else angle + 180) % 360, abs(mean) / err if err > 0 else np.inf * abs(mean)
