"""The bi-antisymmetric model of a velocity map: each pixel the mean of itself and its three mirror images (Krajnovic+2006 App. C)."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sampler", "chi_squared", "correlated_pixels", "middle_of", "pixel_weights", "residuals", "systemic_velocity"]

_SAMPLES_PER_CHUNK = 60_000  # angles x pixels worked on at a time: stays in the cache


def pixel_weights(err_kms: NDArray, floor_kms: float) -> NDArray[np.float64]:
    """1 / (err^2 + median(err)^2 + floor^2) of the pixels that count (pixel,).

    Real discs depart from bi-antisymmetry by more than the errors of their brightest pixels, which would decide alone.
    """
    return 1 / (err_kms**2 + np.median(err_kms) ** 2 + floor_kms**2)


class Sampler:
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


def residuals(theta: NDArray, offsets: NDArray, v: NDArray, sampler: Sampler) -> tuple[NDArray, NDArray]:
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


def chi_squared(angles_deg: NDArray, offsets: NDArray, v: NDArray, weight: NDArray, sampler: Sampler) -> NDArray:
    """Chi-squared of the residuals at each trial angle, per degree of freedom of that angle times that of a full overlap.

    A pixel whose mirrored copies fall outside the data has residual 0 whatever the angle; without the
    division an elongated footprint would prefer the axes along which it overlaps itself least.
    """
    chi2 = np.empty(len(angles_deg))
    step = max(1, _SAMPLES_PER_CHUNK // len(v))
    for k in range(0, len(angles_deg), step):
        residual, n = residuals(np.radians(angles_deg[k : k + step]), offsets, v, sampler)
        freedom = (weight * (1 - 1 / n)).sum(axis=1)
        chi2[k : k + step] = (weight * residual**2).sum(axis=1) / np.where(freedom > 0, freedom, np.nan)
    return chi2 * 0.75 * weight.sum()


def correlated_pixels(residual: NDArray, offsets: NDArray) -> float:
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


def middle_of(valid: NDArray) -> tuple[float, float]:
    """Mean (x, y) of the valid pixels, 0-based: the centre to try where none is known. There must be one."""
    rows, columns = np.nonzero(valid)
    return float(columns.mean()), float(rows.mean())


def systemic_velocity(v_map: NDArray, good: NDArray, centre: tuple[float, float]) -> tuple[float, int]:
    """Median of v's even part about ``centre`` (needs no axis; NaN without pairs), and the number of pixels with a partner."""
    rows, columns = np.nonzero(good)
    opposite, paired = _mean_of_sampled(Sampler(v_map, good, centre)(centre[0] - columns, centre[1] - rows))
    n = int(paired.sum())
    return (float(np.median((v_map[good] + opposite)[paired]) / 2) if n else float("nan")), n
