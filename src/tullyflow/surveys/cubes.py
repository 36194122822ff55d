"""Turn one spectral cube into a galaxy's maps: the moments, and where the galaxy's centre lies on them."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tullyflow.errors import DataError
from tullyflow.flags import BAD_VELOCITY, GALAXY
from tullyflow.settings import Settings
from tullyflow.surveys import GalaxyMaps
from tullyflow.surveys.fits_images import image_hdu, open_fits

__all__ = ["TAKEN_AS_CENTRE", "centre_from_position", "check_on_map", "find_cube", "read_cube"]

log = logging.getLogger("tullyflow")

TAKEN_AS_CENTRE = "is taken as the centre."  # how a sentence on a guessed centre ends


def read_cube(path: Path, target: Mapping, settings: Settings, hdu: str | int = "") -> GalaxyMaps:
    """Moment maps of a cube (three axes, or four with one Stokes plane) as `GalaxyMaps`.

    The centre is the target's position where that lies on the map, else the map's middle (said in a message). The field
    of view is unknown for an interferometer: ``fov_pixels`` counts the pixels that have a velocity.
    Raises `DataError`: UNREADABLE_FILE, MISSING_HDU, NO_WCS.
    """
    from tullyflow.maps.moments import moments_from_cube

    galaxy = str(target["galaxy"])
    number, mock = find_cube(path, hdu)
    cube = moments_from_cube(path, settings.maps, hdu=number)
    centre, message = centre_from_position(cube.wcs, target, cube.velocity.shape)
    history = dict(cube.history)
    log.info("%s: %s; line: %s; velocities %s, %s", galaxy, *(history[key] for key in ("NOISE", "LINE", "VELCONV", "VELFRAME")))
    return GalaxyMaps(
        galaxy=galaxy, velocity=cube.velocity, velocity_err=cube.velocity_err, mask=cube.mask, wcs=cube.wcs, centre=centre,
        pixel_scale_arcsec=cube.pixel_scale_arcsec, intensity=cube.intensity, intensity_err=cube.intensity_err,
        intensity_unit=cube.intensity_unit, dispersion_sq=cube.dispersion_sq, dispersion_sq_err=cube.dispersion_sq_err,
        psf_fwhm_arcsec=_beam(cube.beam_fwhm_arcsec, target), beam=cube.beam, fov_pixels=int(((cube.mask & BAD_VELOCITY) == 0).sum()),
        absolute=True, centre_guessed=bool(message), flags=GALAXY.MOCK if mock else 0,
        messages=(*filter(None, [message]), *cube.messages), history=history,
    )  # fmt: skip


def find_cube(path: Path, hdu: str | int = "") -> tuple[int, bool]:
    """Number of the extension (name or number; empty = the first image) that holds a whole cube, and whether it is a mock.

    Raises `DataError`: MISSING_FILE, UNREADABLE_FILE, MISSING_HDU.
    """
    with open_fits(path) as hdus:
        found = image_hdu(hdus, hdu, path)
        axes = [found.header[f"NAXIS{k + 1}"] for k in range(found.header["NAXIS"])]
        if sum(n > 1 for n in axes) < 3:
            raise DataError(GALAXY.MISSING_HDU, f"{path.name}: axes {axes}; a cube has three longer than one.")
        _whole(found, path)
        return hdus.index(found), found.header.get("MOCK") is True or hdus[0].header.get("MOCK") is True


def _whole(hdu, path: Path) -> None:
    where = hdu.fileinfo()
    end = getattr(where["file"], "size", 0) if where else 0
    if end and where["datLoc"] + hdu.size > end:
        raise DataError(GALAXY.UNREADABLE_FILE, f"{path.name}: truncated: the cube ends after the file does.")


def _beam(beam_arcsec: float, target: Mapping) -> float:
    """The cube's beam (it is what made the data), else the catalogue's."""
    return float(beam_arcsec) if np.isfinite(beam_arcsec) else float(target.get("psf_fwhm_arcsec", np.nan))


def centre_from_position(wcs, target: Mapping, shape: tuple[int, int]) -> tuple[tuple[float, float], str]:
    """Pixel (x, y) of the target's position; where that is unknown or outside, a stand-in with a sentence that says so.

    The stand-in is the reference pixel, which in a map of one galaxy is the pointing, if it lies in the inner half of the map
    (both axes); else the map's middle.
    """
    ny, nx = shape
    position = float(target.get("ra_deg", np.nan)), float(target.get("dec_deg", np.nan))
    if np.isfinite(position).all():
        x, y = wcs.wcs_world2pix([position], 0)[0]
        if np.isfinite([x, y]).all() and -0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5:
            return (float(x), float(y)), ""
        why = "the position given is outside the map"
    else:
        why = "no position is given"
    reference = (float(wcs.wcs.crpix[0]) - 1, float(wcs.wcs.crpix[1]) - 1)
    if all(0.25 * (n - 1) <= pixel <= 0.75 * (n - 1) for pixel, n in zip(reference, (nx, ny), strict=True)):
        return reference, f"{target['galaxy']}: {why}; the reference pixel {TAKEN_AS_CENTRE}"
    return ((nx - 1) / 2, (ny - 1) / 2), f"{target['galaxy']}: {why}; the middle of the map {TAKEN_AS_CENTRE}"


def check_on_map(wcs, target: Mapping, shape: tuple[int, int], name: str) -> None:
    """Raise `DataError` (UNREADABLE_FILE) where the target's position is known and not on the map of file ``name``: another galaxy's."""
    _, said = centre_from_position(wcs, target, shape)
    position = np.array([float(target.get(key, np.nan)) for key in ("ra_deg", "dec_deg")])
    if said and np.isfinite(position).all():
        raise DataError(
            GALAXY.UNREADABLE_FILE,
            f"{name}: {target['galaxy']} ({position[0]:.4f}, {position[1]:.4f} deg) is not on this map, which is about "
            f"({wcs.wcs.crval[0]:.4f}, {wcs.wcs.crval[1]:.4f}): another galaxy's file? Fetch it again or correct the position (overrides).",
        )
