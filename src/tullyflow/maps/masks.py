"""Which pixels of a native map count, and for each that does not, why.

The reader's bits are kept; the cuts of ``settings.maps`` and three looks at the velocity map itself are added.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tullyflow import flags
from tullyflow.flags import PIXEL
from tullyflow.settings import Maps
from tullyflow.surveys import GalaxyMaps

__all__ = ["MaskCounts", "count_mask", "mask_maps"]

_NEIGHBOURS = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if (dy, dx) != (0, 0)]
_OUTLIER_SIGMA = 5.0
_NEIGHBOURS_MIN = 3
_LARGEST_KMS = 1e5
_LARGEST_CONTRAST = 1e6
_ISLAND_SHARE = 0.2  # a patch this large compared with the largest is part of the galaxy


@dataclass(frozen=True)
class MaskCounts:
    """Pixels of a map by fate: kept, and removed by the first reason that applies (pixels without coverage left out)."""

    looked_at: int
    kept: int
    reasons: dict[str, int]


def mask_maps(maps: GalaxyMaps, settings: Maps) -> NDArray[np.int32]:
    """Return the mask (y, x) of ``flags.PIXEL`` bits: the reader's and those of the cuts.

    Cuts, in order; each after NO_VALUE looks only at pixels that passed the ones before:

    - NO_VALUE: velocity, its error, or the intensity (where there is one) is not finite or absurd (|v| above 1e5 km/s, an
      intensity above 1e6 times the median of those that are not zero), or the error not positive.
    - LOW_SNR: intensity / error below ``snr_min``; not tested where there is no intensity or no error of it.
    - UNRELIABLE: velocity error above ``velocity_err_max``.
    - VELOCITY_OUTLIER: further than ``outlier_kms`` and than 5 sigma from the median of the valid pixels among the 24
      around it (with fewer than 3 it is not tested).
    - ISLAND: not in the largest 8-connected patch of valid pixels, nor in one at least a fifth as large.
    - NEGATIVE_DISPERSION: ``dispersion_sq`` < 0; it does not spoil the velocity (``flags.BAD_VELOCITY`` leaves it out).
    """
    mask = np.asarray(maps.mask, dtype=np.int32).copy()
    velocity, err = maps.velocity, maps.velocity_err
    with np.errstate(invalid="ignore", divide="ignore"):
        empty = ~((np.abs(velocity) < _LARGEST_KMS) & np.isfinite(err) & (err > 0))
        if maps.intensity is not None:
            empty |= _absurd(maps.intensity, ~empty)
            if maps.intensity_err is not None:
                mask[~(maps.intensity / maps.intensity_err >= settings.snr_min)] |= PIXEL.LOW_SNR
        mask[empty] |= PIXEL.NO_VALUE
        mask[err > settings.velocity_err_max] |= PIXEL.UNRELIABLE
        if maps.dispersion_sq is not None:
            mask[maps.dispersion_sq < 0] |= PIXEL.NEGATIVE_DISPERSION
    mask[_outliers(velocity, err, _valid(mask), settings.outlier_kms)] |= PIXEL.VELOCITY_OUTLIER
    mask[_islands(_valid(mask))] |= PIXEL.ISLAND
    return mask


def count_mask(mask: NDArray) -> MaskCounts:
    """Count the pixels kept and, per reason, those removed; a pixel with several counts for the lowest bit."""
    seen = (mask & PIXEL.NO_COVERAGE) == 0
    left = seen & ~_valid(mask)
    reasons = {}
    for flag in PIXEL:
        if flag.excludes and flag.mask != PIXEL.NO_COVERAGE:
            here = left & ((mask & flag.mask) != 0)
            reasons[flag.name] = int(here.sum())
            left &= ~here
    return MaskCounts(int(seen.sum()), int((seen & _valid(mask)).sum()), {name: n for name, n in reasons.items() if n})


def _valid(mask: NDArray) -> NDArray[np.bool_]:
    return (mask & flags.BAD_VELOCITY) == 0


def _absurd(intensity: NDArray, there: NDArray) -> NDArray[np.bool_]:
    """Not finite, or so large (1e20 for no value) that it is no light of the galaxy whose velocities are ``there``."""
    light = np.abs(intensity[there & np.isfinite(intensity) & (intensity != 0)])
    limit = _LARGEST_CONTRAST * np.median(light) if light.size else np.inf
    return ~(np.abs(intensity) <= limit)


def _outliers(velocity: NDArray, err: NDArray, valid: NDArray, outlier_kms: float) -> NDArray[np.bool_]:
    rows, columns = np.nonzero(valid)
    padded = np.full((velocity.shape[0] + 4, velocity.shape[1] + 4), np.nan)
    padded[2:-2, 2:-2] = np.where(valid, velocity, np.nan)
    around = np.sort([padded[rows + 2 + dy, columns + 2 + dx] for dy, dx in _NEIGHBOURS], axis=0)  # NaN last
    number = np.isfinite(around).sum(axis=0)
    pixel = np.arange(len(rows))
    low, high = np.maximum((number - 1) // 2, 0), np.minimum(number // 2, len(_NEIGHBOURS) - 1)
    away = np.abs(velocity[valid] - (around[low, pixel] + around[high, pixel]) / 2)
    out = np.zeros(velocity.shape, dtype=bool)
    out[valid] = (number >= _NEIGHBOURS_MIN) & (away > outlier_kms) & (away > _OUTLIER_SIGMA * err[valid])
    return out


def _islands(valid: NDArray) -> NDArray[np.bool_]:
    patches, n = ndimage.label(valid, structure=np.ones((3, 3)))
    if n < 2:
        return np.zeros(valid.shape, dtype=bool)
    size = np.bincount(patches.ravel())
    size[0] = 0
    return valid & (size < _ISLAND_SHARE * size.max())[patches]
