"""How an image lies on the sky: directions of North and East on it, and position angles of directions."""

import numpy as np
from astropy.wcs import WCS

from tullyflow import conventions, flags
from tullyflow.errors import DataError

__all__ = ["image_axes", "image_to_sky_angle"]

_OBLONG_MAX = 0.01  # of the pixel's side, and of the cosine between its sides


def image_axes(wcs: WCS | None, centre: tuple[float, float]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Unit pixel vectors (x, y) towards North and East at ``centre`` (x, y, 0-based): rotation and parity included.

    Raises `DataError` (NO_WCS) where the header has no celestial axes, they are degenerate, or pixels are not square to 1 %: a
    mirror image across an axis of the grid would then be none on the sky.
    """
    celestial = wcs.celestial if wcs is not None and wcs.has_celestial else None
    if celestial is None:
        raise DataError(flags.GALAXY.NO_WCS, "the map's header has no celestial axes: the position angle on the sky is not defined")
    lon, lat = (float(a) for a in celestial.wcs_pix2world(centre[0], centre[1], 0))
    jacobian = celestial.pixel_scale_matrix
    delta = float(np.sqrt(np.abs(np.linalg.det(jacobian)))) if np.isfinite(jacobian).all() else 0.0
    if not (np.isfinite([lon, lat]).all() and delta > 0):
        raise DataError(flags.GALAXY.NO_WCS, "the map's header has a degenerate sky projection: the position angle is not defined")
    sides = np.hypot(*jacobian)
    cosine = float(abs(jacobian[:, 0] @ jacobian[:, 1]) / np.prod(sides))
    if abs(sides[0] / sides[1] - 1) > _OBLONG_MAX or cosine > _OBLONG_MAX:
        shape = f"{3600 * sides[0]:.4g} x {3600 * sides[1]:.4g} arcsec, sides at {np.degrees(np.arccos(cosine)):.0f} deg"
        raise DataError(flags.GALAXY.NO_WCS, f"pixels of {shape}: a position angle needs square ones; resample the map (reproject) first")
    vectors = []
    for dlon, dlat in ((0.0, delta), (delta / max(np.cos(np.radians(lat)), 1e-9), 0.0)):
        px, py = celestial.wcs_world2pix(lon + dlon, lat + dlat, 0)
        px2, py2 = celestial.wcs_world2pix(lon - dlon, lat - dlat, 0)
        vector = np.array([float(px) - float(px2), float(py) - float(py2)])
        vectors.append(tuple(float(c) for c in vector / np.hypot(*vector)))
    return vectors[0], vectors[1]


def image_to_sky_angle(image_angle_deg: float, north: tuple[float, float], east: tuple[float, float]) -> float:
    """Position angle (deg, North through East, 0-360) of a direction on the image; inverse of `conventions.sky_to_image_angle`."""
    a = np.radians(image_angle_deg)
    # solve direction = cos(pa) north + sin(pa) east, axes not assumed perpendicular
    cos, sin = np.linalg.solve(np.array([[north[0], east[0]], [north[1], east[1]]]), [np.cos(a), np.sin(a)])
    return float(conventions.wrap_degrees(np.degrees(np.arctan2(sin, cos))))
