"""A galaxy's velocity field as it lies on its image: what an eye, or a network that judges fields, looks at.

Unlike a stamp it is not rotated, so that a galaxy without a position angle has one too, and outliers and islands stay in it:
they tell of its quality.
"""

import numpy as np
from numpy.typing import NDArray

from tullyflow.conventions import HALF_WIDTH, STAMP
from tullyflow.flags import BAD_VELOCITY, PIXEL
from tullyflow.surveys import GalaxyMaps

__all__ = ["FEWEST_PIXELS", "empty_field", "make_field", "stellar_valid", "valid_in_field", "velocity_fields"]

FEWEST_PIXELS = 16  # native ones: fewer show no field
_SHARE_MIN = 0.5  # least valid share of a field pixel's area, beside what is usual in the map
_TELLING = PIXEL.VELOCITY_OUTLIER | PIXEL.ISLAND


def empty_field() -> NDArray[np.float32]:
    """A field with nothing in it: NaN everywhere."""
    return np.full((STAMP, STAMP), np.nan, dtype=np.float32)


def valid_in_field(mask: NDArray) -> NDArray[np.bool_]:
    """Return which pixels (y, x) of a mask of ``flags.PIXEL`` a field shows: no bit that spoils a velocity but outliers and islands."""
    return (mask & BAD_VELOCITY & ~_TELLING) == 0


def stellar_valid(maps: GalaxyMaps, mask: NDArray) -> NDArray[np.bool_] | None:
    """Return which pixels (y, x) hold a velocity of the stars, whatever the gas; None where there is no map of theirs, or another size."""
    if maps.stellar_velocity is None or maps.stellar_velocity.shape != mask.shape:
        return None
    return np.isfinite(maps.stellar_velocity) & ((mask & (PIXEL.NO_COVERAGE | PIXEL.FOREGROUND)) == 0)


def velocity_fields(maps: GalaxyMaps, mask: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the fields (64, 64) of gas and stars under a mask (y, x) of ``flags.PIXEL`` bits; see `make_field`."""
    stars = stellar_valid(maps, mask)
    gas = make_field(maps.velocity, valid_in_field(mask))
    return gas, empty_field() if stars is None else make_field(maps.stellar_velocity, stars)


def make_field(velocity: NDArray, valid: NDArray) -> NDArray[np.float32]:
    """Resample a velocity map to its field (64, 64): its unit less the median, NaN where there is no velocity.

    With fewer than 16 valid pixels the field is empty.

    Parameters
    ----------
    velocity, valid
        Native map (y, x) and which of its pixels count; those that are not finite never do.

    Notes
    -----
    The field is centred between the 1st and 99th percentiles of the valid pixels' x and y, and spans the wider of the two and a
    pixel on either side. Each of its pixels is the mean of the native ones, weighted by the area shared with it, over the valid
    part, which must be at least half, or half of what is usual (the 90th percentile) in a map of scattered pixels. A map turned
    by a quarter, or mirrored, has its field so turned.
    """
    velocity = np.asarray(velocity, dtype=float)
    valid = np.asarray(valid, dtype=bool) & np.isfinite(velocity)
    if valid.sum() < FEWEST_PIXELS:
        return empty_field()
    ends = np.array([np.percentile(pixels, (1, 99)) for pixels in np.nonzero(valid)])  # (y, x), (low, high)
    ratio = (np.ptp(ends, axis=1).max() / 2 + 1) / HALF_WIDTH  # native pixels in one of the field
    across_y, across_x = (_shared(middle, ratio, n) for middle, n in zip(ends.mean(axis=1), velocity.shape, strict=True))
    relative = np.where(valid, velocity - np.median(velocity[valid]), 0.0)
    share = across_y @ valid @ across_x.T
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = across_y @ relative @ across_x.T / share
    usual = np.percentile(share[share > 0], 90)
    return np.where(share >= _SHARE_MIN * usual - 1e-9, mean, np.nan).astype(np.float32)


def _shared(middle: float, ratio: float, n: int) -> NDArray[np.float64]:
    """Share (64, n) of each field pixel along one axis that lies in each native pixel; ``middle`` is the field's centre."""
    low = middle + (np.arange(STAMP)[:, None] - STAMP / 2) * ratio
    native = np.arange(n) - 0.5
    return (np.minimum(low + ratio, native + 1) - np.maximum(low, native)).clip(min=0) / ratio
