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
_WEDGES_DEG = (30.0, 60.0)  # tried in turn about the major axis, then all pixels
_WEDGE_PIXELS_MIN = 20
_PIXELS_MIN = 5


@dataclass(frozen=True)
class OuterDispersion:
    """Root of the mean squared dispersion of the outer disc and its 1 sigma, km/s (NaN where it cannot be had)."""

    dispersion_kms: float
    err_kms: float
    n_pixels: int


@dataclass(frozen=True)
class Geometry:
    """``r_max_arcsec``: 98th percentile of the radii about the major axis; ``v_abs_max_kms``: 99th percentile of |v - v_sys|."""

    r_max_arcsec: float
    v_abs_max_kms: float
    outer: OuterDispersion


def measure_geometry(
    maps: GalaxyMaps, mask: NDArray, image_angle_deg: float, v_sys_kms: float, *, axis_ratio: float, r_e_arcsec: float,
    psf_fwhm_arcsec: float = float("nan"),
) -> Geometry:  # fmt: skip
    """Measure the valid pixels (y, x) of one galaxy in its disc plane.

    The inclination behind the radii is that of ``axis_ratio`` (oblate disc, thickness 0.2) or, where that is NaN, of the
    second moments of the intensity (of the valid pixels where there is none), at most 75 deg.

    r_max looks only at pixels within 30 deg of the major axis in the disc plane (60 deg, then all, where fewer than 20):
    light the PSF spreads across the disc would be divided by cos i and put beyond the data. ``psf_fwhm_arcsec`` (NaN: not
    known) says how many pixels share one independent value, pi / (4 ln 2) FWHM^2 in pixels, at least 1.
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
    across /= np.cos(np.radians(inclination))
    radius = np.hypot(along, across) * maps.pixel_scale_arcsec
    from_axis = np.degrees(np.arctan2(np.abs(across), np.abs(along)))
    r_max = float(np.percentile(radius[_near_axis(from_axis)], 98))
    outer = OuterDispersion(np.nan, np.nan, 0)
    if maps.dispersion_sq is not None:
        shared = np.fmax(1.0, np.pi / (4 * np.log(2)) * (psf_fwhm_arcsec / maps.pixel_scale_arcsec) ** 2)
        outer = outer_dispersion(radius, from_axis, maps.dispersion_sq[valid], r_max, r_e_arcsec, pixels_per_psf=float(shared))
    return Geometry(r_max, float(np.percentile(np.abs(maps.velocity[valid] - v_sys_kms), 99)), outer)


def _near_axis(from_axis_deg: NDArray) -> NDArray[np.bool_]:
    """Pixels in the narrowest wedge about the major axis that holds enough of them; all where none does."""
    for wedge in _WEDGES_DEG:
        near = from_axis_deg <= wedge
        if near.sum() >= _WEDGE_PIXELS_MIN:
            return near
    return np.ones(from_axis_deg.shape, dtype=bool)


def outer_dispersion(
    radius: NDArray, from_axis_deg: NDArray, dispersion_sq: NDArray, r_max: float, r_e: float, *, pixels_per_psf: float = 1.0
) -> OuterDispersion:
    """Average the squared dispersion (km^2/s^2) from 2 R_e to r_max, or from r_max/2 where r_max < 2 R_e or R_e is NaN.

    Thesis sec. 4.2.5 with the root of the *mean square*: negative squares are averaged too, else noise adds to the result.
    Only pixels whose angle from the major axis in the disc plane, ``from_axis_deg`` (0-90), is at most 30 deg count (60, then
    all, where fewer than 20): on the minor axis the velocity changes most across one PSF, and rotation smeared by it passes
    for dispersion. The rest of the smearing is not yet removed: through a wide PSF the result still lies above the disc's.
    Values further than 5 robust standard deviations from the median are left out on both sides. The error is the
    standard error of the mean, taken through the root; of ``pixels_per_psf`` pixels one counts, as neighbours within a PSF
    share their noise. NaN where fewer than 5 pixels are left or the mean is negative.
    """
    inner = 2 * r_e if np.isfinite(r_e) and r_max >= 2 * r_e else r_max / 2
    outer = (radius >= inner) & (radius <= r_max) & np.isfinite(dispersion_sq)
    square = dispersion_sq[outer][_near_axis(from_axis_deg[outer])]
    if len(square) >= _PIXELS_MIN:
        away = np.abs(square - np.median(square))
        limit = _CLIP * 1.4826 * np.median(away)
        square = square[away <= limit] if limit > 0 else square
    if len(square) < _PIXELS_MIN:
        return OuterDispersion(np.nan, np.nan, len(square))
    root, err = dispersion_from_square(square.mean(), square.std(ddof=1) * np.sqrt(pixels_per_psf / len(square)))
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
