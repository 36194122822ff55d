"""Numbers one galaxy's native maps give: extent, largest velocity, dispersion of the outer disc, fill factor."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tullyflow import flags
from tullyflow.conventions import inclination_from_axis_ratio
from tullyflow.flags import PIXEL
from tullyflow.maps.stamps import dispersion_from_square
from tullyflow.surveys import GalaxyMaps

__all__ = ["Geometry", "OuterDispersion", "fill_factor", "measure_geometry", "outer_dispersion"]

_INCLINATION_MAX = 75.0  # beyond it the thickness, not the tilt, sets the radii across the disc
_CLIP = 5.0
_PIXELS_MIN = 5


@dataclass(frozen=True)
class OuterDispersion:
    """Root of the mean squared dispersion of the outer disc and its 1 sigma, km/s (NaN where it cannot be had)."""

    dispersion_kms: float
    err_kms: float
    n_pixels: int


@dataclass(frozen=True)
class Geometry:
    """``r_max_arcsec``: 98th percentile of the deprojected radii; ``v_abs_max_kms``: 99th percentile of |v - v_sys|."""

    r_max_arcsec: float
    v_abs_max_kms: float
    outer: OuterDispersion


def measure_geometry(
    maps: GalaxyMaps, mask: NDArray, image_angle_deg: float, v_sys_kms: float, *, axis_ratio: float, r_e_arcsec: float
) -> Geometry:
    """Measure the valid pixels (y, x) of one galaxy in its disc plane.

    The inclination behind the radii is that of ``axis_ratio`` (oblate disc, thickness 0.2) or, where that is NaN, of the
    second moments of the intensity (of the valid pixels where there is none), at most 75 deg.
    """
    valid = (mask & flags.BAD_VELOCITY) == 0
    rows, columns = np.nonzero(valid)
    x, y = columns - maps.centre[0], rows - maps.centre[1]
    c, s = np.cos(np.radians(image_angle_deg)), np.sin(np.radians(image_angle_deg))
    along, across = c * x + s * y, c * y - s * x
    if not np.isfinite(axis_ratio):
        weight = np.ones(len(x)) if maps.intensity is None else np.maximum(maps.intensity[valid], 0)
        axis_ratio = float(np.sqrt(np.divide((weight * across**2).sum(), (weight * along**2).sum())))
    inclination = float(np.minimum(inclination_from_axis_ratio(min(axis_ratio, 1.0)), _INCLINATION_MAX))
    radius = np.hypot(along, across / np.cos(np.radians(inclination))) * maps.pixel_scale_arcsec
    r_max = float(np.percentile(radius, 98))
    nothing = OuterDispersion(np.nan, np.nan, 0)
    outer = nothing if maps.dispersion_sq is None else outer_dispersion(radius, maps.dispersion_sq[valid], r_max, r_e_arcsec)
    return Geometry(r_max, float(np.percentile(np.abs(maps.velocity[valid] - v_sys_kms), 99)), outer)


def outer_dispersion(radius: NDArray, dispersion_sq: NDArray, r_max: float, r_e: float) -> OuterDispersion:
    """Average the squared dispersion (km^2/s^2) from 2 R_e to r_max, or from r_max/2 where r_max < 2 R_e or R_e is NaN.

    Thesis sec. 4.2.5 with the root of the *mean square*: negative squares are averaged too, else noise adds to the result.
    Values further than 5 robust standard deviations from the median are left out on both sides. The error is the
    standard error of the mean, taken through the root. NaN where fewer than 5 pixels are left or the mean is negative.
    """
    inner = 2 * r_e if np.isfinite(r_e) and r_max >= 2 * r_e else r_max / 2
    square = dispersion_sq[(radius >= inner) & (radius <= r_max) & np.isfinite(dispersion_sq)]
    if len(square) >= _PIXELS_MIN:
        away = np.abs(square - np.median(square))
        limit = _CLIP * 1.4826 * np.median(away)
        square = square[away <= limit] if limit > 0 else square
    if len(square) < _PIXELS_MIN:
        return OuterDispersion(np.nan, np.nan, len(square))
    root, err = dispersion_from_square(square.mean(), square.std(ddof=1) / np.sqrt(len(square)))
    return OuterDispersion(float(root), float(err), len(square))


def fill_factor(maps: GalaxyMaps, mask: NDArray) -> float:
    """Valid share of the instrument's field of view; NaN (not tested) for velocity alone, whose field is not known.

    Where the reader does not know the field's pixels, those with coverage stand for it.
    """
    n_valid = int(((mask & flags.BAD_VELOCITY) == 0).sum())
    if maps.intensity is None:
        return float("nan")
    if maps.fov_pixels > 0:
        return n_valid / maps.fov_pixels
    covered = int(((mask & PIXEL.NO_COVERAGE) == 0).sum())
    return n_valid / covered if covered else 0.0
