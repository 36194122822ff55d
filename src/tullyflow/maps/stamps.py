"""A galaxy's maps on the 64x64 stamp: major axis along x, receding side at +x, centre at (31.5, 31.5).

One resampling does the rotation and the scale. It is a proper rotation of the native image, never a mirror, so a
stamp does not depend on how the image lies on the sky.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tullyflow import flags
from tullyflow.conventions import (
    FWHM_PER_SIGMA,
    HALF_WIDTH,
    R_E_PER_SCALE_LENGTH,
    STAMP,
    STAMP_CENTRE,
    inclination_from_axis_ratio,
)
from tullyflow.flags import PIXEL
from tullyflow.surveys import GalaxyMaps

__all__ = ["Stamp", "dispersion_from_square", "empty_stamp", "field_half_width", "half_width", "make_stamp", "photometric_intensity"]

_WEIGHT_MIN = 1e-3  # a native pixel with less of a stamp pixel's weight does not decide whether that is valid
_SHARE_MIN = 0.5  # downsampling: least valid share of a stamp pixel's area
_OVERSAMPLE = 4
_COS_MIN = 0.05
_WIDEST = 1.8  # times the data's extent: the network knows data that fill at least 0.55 of the field
_CONSTANT_ERR = 0.01  # of the maximum, where an intensity comes without error


@dataclass(frozen=True)
class Stamp:
    """Six images and a mask (64, 64), float32 and int32; NaN where masked. Units as in ``tables.STAMP_HDUS``.

    ``intensity`` is divided by ``intensity_norm``, its maximum over the valid pixels; ``velocity`` has v_sys removed, km/s;
    ``scale_arcsec`` is the stamp pixel.
    """

    intensity: NDArray[np.float32]
    intensity_err: NDArray[np.float32]
    velocity: NDArray[np.float32]
    velocity_err: NDArray[np.float32]
    dispersion: NDArray[np.float32]
    dispersion_err: NDArray[np.float32]
    mask: NDArray[np.int32]
    scale_arcsec: float
    intensity_norm: float


def empty_stamp() -> Stamp:
    """A stamp with nothing in it: NaN everywhere, mask NO_COVERAGE."""
    nan = np.full((STAMP, STAMP), np.nan, dtype=np.float32)
    return Stamp(nan, nan, nan, nan, nan, nan, np.full((STAMP, STAMP), PIXEL.NO_COVERAGE, dtype=np.int32), np.nan, np.nan)


def half_width(valid: NDArray, centre: tuple[float, float], image_angle_deg: float, pixel_scale_arcsec: float) -> float:
    """Half-width of the stamp (arcsec): the data's extent along the rotated axes, and a native pixel.

    The extent is the larger of the 98th percentiles of |x'| and |y'| over the valid pixels (y, x).
    """
    x, y = _rotated(valid, centre, image_angle_deg)
    return float(max(np.percentile(np.abs(x), 98), np.percentile(np.abs(y), 98)) + 1) * pixel_scale_arcsec


def field_half_width(data_arcsec: float, r_e_arcsec: float, r_scale_max: float | None) -> tuple[float, str]:
    """Half-width of the field (arcsec), and what chose it: the ``data``, or the disc (``r_e``) where it is too large for them.

    The field is the data's extent, ``data_arcsec``, widened so that the catalogue's scale length, R_e / 1.678, is at most
    ``r_scale_max`` half-widths (None: never), but to no more than 1.8 times the data. R_e that is NaN or not positive widens nothing.
    """
    if r_scale_max is None or not r_e_arcsec > 0:
        return data_arcsec, "data"
    wanted = min(r_e_arcsec / R_E_PER_SCALE_LENGTH / r_scale_max, _WIDEST * data_arcsec)
    return (wanted, "r_e") if wanted > data_arcsec else (data_arcsec, "data")


def make_stamp(
    maps: GalaxyMaps, mask: NDArray, image_angle_deg: float, v_sys_kms: float, half_width_arcsec: float
) -> Stamp:
    """Resample one galaxy to its stamp.

    Parameters
    ----------
    maps, mask
        Native maps and their mask (y, x) from `masks.mask_maps`.
    image_angle_deg
        Direction of the receding side on the image, counter-clockwise from +x.
    v_sys_kms
        Systemic velocity on the map's zero point, km/s.
    half_width_arcsec
        What 32 stamp pixels span.

    Notes
    -----
    Bilinear: on mock discs its error is a fifth to a half of that of exact areas where stamp pixels are smaller than native
    ones, the usual case, and no larger elsewhere (benchmarks/stamps.py). A stamp pixel is valid only if every native pixel with more than
    0.1 % of its weight is valid; where stamp pixels are larger than native ones, each is the mean of n x n bilinear samples,
    n the ratio rounded up, over its valid part, which must be at least half. Masked values never enter. Variances are
    averaged with the same weights, so that errors stay those of native pixels: interpolated neighbours are correlated and a
    beam spans several of them. The dispersion is averaged as its square, negative values included; where that mean is
    negative the dispersion is NaN and the mask says NEGATIVE_DISPERSION; a valid pixel whose natives lack a dispersion has
    NaN there. Without intensity the intensity images are NaN (see `photometric_intensity`); intensity without error gets
    1 % of its maximum.
    """
    scale = half_width_arcsec / HALF_WIDTH
    sampler = _StampSampler(mask, maps.centre, image_angle_deg, scale / maps.pixel_scale_arcsec)
    valid = sampler.valid
    stamp_mask = np.where(valid, 0, sampler.bits | np.where(sampler.bits == 0, PIXEL.NO_COVERAGE, 0)).astype(np.int32)

    velocity = sampler(maps.velocity) - v_sys_kms
    velocity_err = np.sqrt(sampler(np.square(maps.velocity_err)))
    nothing = np.full((STAMP, STAMP), np.nan)
    intensity, intensity_err, norm = nothing, nothing, np.nan
    if maps.intensity is not None:
        intensity = sampler(maps.intensity)
        norm = float(np.max(intensity[valid], initial=-np.inf))
        norm = norm if norm > 0 and np.isfinite(norm) else np.nan
        intensity = intensity / norm
        intensity_err = np.where(valid, _CONSTANT_ERR, np.nan)
        if maps.intensity_err is not None:
            intensity_err = np.sqrt(sampler(np.square(maps.intensity_err))) / norm
    dispersion, dispersion_err = nothing, nothing
    if maps.dispersion_sq is not None:
        square = sampler(maps.dispersion_sq)
        square_err = np.sqrt(sampler(np.square(maps.dispersion_sq_err))) if maps.dispersion_sq_err is not None else nothing
        dispersion, dispersion_err = dispersion_from_square(square, square_err)
        stamp_mask[valid & (square < 0)] |= PIXEL.NEGATIVE_DISPERSION
    images = (intensity, intensity_err, velocity, velocity_err, dispersion, dispersion_err)
    return Stamp(*(image.astype(np.float32) for image in images), stamp_mask, scale, norm)


def dispersion_from_square(square: NDArray, square_err: NDArray) -> tuple[NDArray, NDArray]:
    """Root of a squared dispersion (km^2/s^2) and its 1 sigma, both km/s; NaN where the square is negative or NaN.

    The error is the upper one, sqrt(s2 + e) - sqrt(s2): e / 2s for a dispersion well measured, finite at zero.
    """
    square, square_err = np.asarray(square, dtype=float), np.asarray(square_err, dtype=float)
    with np.errstate(invalid="ignore"):
        root = np.where(square >= 0, np.sqrt(np.maximum(square, 0)), np.nan)
        return root, np.sqrt(root**2 + square_err) - root


def photometric_intensity(
    r_e_arcsec: float, axis_ratio: float, scale_arcsec: float, psf_fwhm_arcsec: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw the exponential disc the photometry describes on a stamp, maximum not normalised, and its constant error 0.01.

    A thin disc along +x: exp(-R/r_scale), r_scale = R_e/1.678, R^2 = x^2 + (y / cos i)^2 with i from the axis ratio of an
    oblate disc (thickness 0.2). Averaged over each pixel, convolved with a round Gaussian beam where its FWHM is known.
    ``axis_ratio`` must be in 0-1 and lengths positive; a NaN beam means none.
    """
    n = STAMP * _OVERSAMPLE
    axis = (np.arange(n) + 0.5) / _OVERSAMPLE - STAMP / 2  # offsets from the centre, stamp pixels
    cos = max(float(np.cos(np.radians(inclination_from_axis_ratio(axis_ratio)))), _COS_MIN)
    r_scale = r_e_arcsec / R_E_PER_SCALE_LENGTH / scale_arcsec
    fine = np.exp(-np.hypot(axis, axis[:, None] / cos) / r_scale)
    disc = fine.reshape(STAMP, _OVERSAMPLE, STAMP, _OVERSAMPLE).mean(axis=(1, 3))
    if np.isfinite(psf_fwhm_arcsec) and psf_fwhm_arcsec > 0:
        disc = gaussian_filter(disc, psf_fwhm_arcsec / FWHM_PER_SIGMA / scale_arcsec, mode="nearest")
    return disc, np.full_like(disc, _CONSTANT_ERR)


def _rotated(valid: NDArray, centre: tuple[float, float], image_angle_deg: float) -> tuple[NDArray, NDArray]:
    """Offsets (pixels) of the valid pixels from the centre, along the major axis and across it."""
    rows, columns = np.nonzero(valid)
    x, y = columns - centre[0], rows - centre[1]
    c, s = np.cos(np.radians(image_angle_deg)), np.sin(np.radians(image_angle_deg))
    return c * x + s * y, c * y - s * x


class _StampSampler:
    """Where each stamp pixel comes from; calling it resamples one native image, NaN where the stamp is not valid."""

    def __init__(self, mask: NDArray, centre: tuple[float, float], image_angle_deg: float, ratio: float):
        n = max(1, int(np.ceil(ratio - 1e-9)))
        axis = ((np.arange(STAMP * n) + 0.5) / n - 0.5 - STAMP_CENTRE) * ratio  # native pixels
        c, s = np.cos(np.radians(image_angle_deg)), np.sin(np.radians(image_angle_deg))
        x = c * axis - s * axis[:, None] + centre[0] + 1  # a border of one pixel is put around the image
        y = s * axis + c * axis[:, None] + centre[1] + 1
        ny, nx = mask.shape
        inside = (x >= 0) & (x < nx + 1) & (y >= 0) & (y < ny + 1)
        x, y = np.where(inside, x, 0.0), np.where(inside, y, 0.0)
        column, row = x.astype(np.intp), y.astype(np.intp)
        fx, fy = x - column, y - row
        padded = np.full((ny + 2, nx + 2), PIXEL.NO_COVERAGE, dtype=np.int32)
        padded[1:-1, 1:-1] = mask
        self._n, self._good = n, np.zeros(padded.shape, dtype=bool)
        self._good[1:-1, 1:-1] = (mask & flags.BAD_VELOCITY) == 0
        self._at, self._weight = [], []
        sound, bits = inside, np.where(inside, 0, PIXEL.NO_COVERAGE)
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = (fx if dx else 1 - fx) * (fy if dy else 1 - fy)
            r, k = np.minimum(row + dy, ny + 1), np.minimum(column + dx, nx + 1)
            counts = weight > _WEIGHT_MIN
            sound = sound & (self._good[r, k] | ~counts)
            bits = bits | np.where(counts, padded[r, k], 0)
            self._at.append((r, k))
            self._weight.append(weight * self._good[r, k])
        self._sound = sound
        total = sum(self._weight)
        share = np.where(sound, 1.0, 0.0)
        self._weight = [np.divide(w * share, total, out=np.zeros_like(w), where=total > 0) for w in self._weight]
        self._share = self._mean(share)
        self.valid = self._share >= (_SHARE_MIN if n > 1 else 1.0)  # (64, 64)
        blocks = bits.reshape(STAMP, n, STAMP, n) & flags.BAD_VELOCITY
        self.bits = np.bitwise_or.reduce(np.bitwise_or.reduce(blocks, axis=3), axis=1)  # why not, where it is not valid

    def _mean(self, fine: NDArray) -> NDArray:
        return fine.reshape(STAMP, self._n, STAMP, self._n).mean(axis=(1, 3))

    def __call__(self, image: NDArray) -> NDArray[np.float64]:
        padded = np.zeros(self._good.shape)
        padded[1:-1, 1:-1] = image
        padded[~self._good] = 0.0
        hole = ~np.isfinite(padded)
        padded[hole] = 0.0
        mean = self._resample(padded)
        if hole.any():  # a valid pixel without this quantity
            mean = np.where(self._resample(hole.astype(float)) > _WEIGHT_MIN, np.nan, mean)
        return np.where(self.valid, mean, np.nan)

    def _resample(self, padded: NDArray) -> NDArray:
        total = sum(w * padded[at] for w, at in zip(self._weight, self._at, strict=True))
        return self._mean(total) / np.where(self.valid, self._share, 1.0)
