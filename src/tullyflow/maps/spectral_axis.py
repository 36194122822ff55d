"""What a radio cube's header says: the velocity of each channel, the beam, the sky axes. Old headers say it in many ways."""

import re
import warnings

import numpy as np
from astropy import units as u
from astropy.coordinates import ICRS
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import fit_wcs_from_points, pixel_to_skycoord, proj_plane_pixel_scales, wcs_to_celestial_frame
from numpy.typing import NDArray

from tullyflow.conventions import C_KMS, optical_from_radio
from tullyflow.errors import DataError
from tullyflow.flags import GALAXY

__all__ = ["beam_fwhm_arcsec", "channel_velocities", "sky_axes", "spectral_axis_number"]

_SPECTRAL = ("FREQ", "VELO", "FELO", "VOPT", "VRAD")
_CLEAN_BEAM = re.compile(r"BMAJ=\s*([0-9.E+-]+)\s+BMIN=\s*([0-9.E+-]+)", re.IGNORECASE)
_FITTED_FRAMES = {"icrs", "fk5"}  # near enough to the catalogues' ICRS


def spectral_axis_number(header: fits.Header, name: str) -> int:
    """FITS number (1-based) of the one axis that is frequency or velocity; raise `DataError` (NO_WCS) where there is none."""
    kinds = {k: str(header.get(f"CTYPE{k}", "")).upper() for k in range(1, header["NAXIS"] + 1)}
    found = [k for k, kind in kinds.items() if kind.startswith(_SPECTRAL)]
    if len(found) != 1:
        raise DataError(GALAXY.NO_WCS, f"{name}: no axis of frequency or velocity; CTYPE are {', '.join(kinds.values()) or 'absent'}.")
    return found[0]


def channel_velocities(header: fits.Header, axis: int, name: str) -> NDArray[np.float64]:
    """Optical velocity cz (km/s) of each channel.

    FREQ needs a rest frequency; VRAD, and VELO with VELREF above 256, are radio velocities; VELO and VOPT are taken as
    optical and linear; FELO and VOPT-F2W as optical on a grid linear in frequency (AIPS Memo 27). The frame (HEL, LSR, ...)
    is kept: it moves v_sys by up to 20 km/s and nothing else. Raises `DataError` (NO_WCS) where the header does not say.
    """
    kind = str(header[f"CTYPE{axis}"]).upper()
    try:
        n, start, step, pixel = (float(header[f"{key}{axis}"]) for key in ("NAXIS", "CRVAL", "CDELT", "CRPIX"))
    except (KeyError, TypeError, ValueError) as err:
        raise DataError(GALAXY.NO_WCS, f"{name}: axis {axis} ({kind}) lacks CRVAL, CDELT or CRPIX: {err}.") from err
    offset = np.arange(1, int(n) + 1) - pixel
    scale = _unit_scale(header, axis, "Hz" if kind.startswith("FREQ") else "km/s", name)
    if kind.startswith("FREQ"):
        rest = next((float(header[key]) for key in ("RESTFRQ", "RESTFREQ", "FREQ0") if header.get(key)), 0.0)
        if not rest > 0:
            raise DataError(GALAXY.NO_WCS, f"{name}: a frequency axis needs RESTFRQ (Hz), the line's rest frequency.")
        with np.errstate(divide="ignore"):
            velocity = C_KMS * (rest / ((start + offset * step) * scale) - 1)
    elif kind.startswith("FELO") or kind == "VOPT-F2W":
        v0 = start * scale
        velocity = C_KMS * ((1 + v0 / C_KMS) / (1 - offset * step * scale / (C_KMS + v0)) - 1)
    else:
        velocity = (start + offset * step) * scale
        if kind.startswith("VRAD") or (kind.startswith("VELO") and int(header.get("VELREF", 0)) > 256):
            velocity = optical_from_radio(velocity)
    if not (np.isfinite(velocity).all() and len(velocity) > 1 and np.all(np.diff(velocity) != 0)):
        raise DataError(GALAXY.NO_WCS, f"{name}: axis {axis} ({kind}) gives no distinct velocities.")
    return velocity


def _unit_scale(header: fits.Header, axis: int, target: str, name: str) -> float:
    text = str(header.get(f"CUNIT{axis}", "")).strip()
    default = "Hz" if target == "Hz" else "m/s"
    try:
        unit = u.Unit({"KM/S": "km/s", "M/S": "m/s", "HZ": "Hz", "GHZ": "GHz", "MHZ": "MHz"}.get(text.upper(), text) or default)
        return float(unit.to(target))
    except (ValueError, u.UnitConversionError) as err:
        raise DataError(GALAXY.NO_WCS, f"{name}: axis {axis} has unit {text!r}, expected one of {target}.") from err


def beam_fwhm_arcsec(header: fits.Header) -> float:
    """Geometric mean of the beam's axes (arcsec) from BMAJ and BMIN (deg) or AIPS's HISTORY; NaN where neither says."""
    major, minor = header.get("BMAJ"), header.get("BMIN")
    if not (_positive(major) and _positive(minor)):
        found = [_CLEAN_BEAM.search(str(line)) for line in header.get("HISTORY", [])]
        last = [match for match in found if match][-1:]
        if not last:
            return float("nan")
        major, minor = float(last[0][1]), float(last[0][2])
    return float(np.sqrt(float(major) * float(minor)) * 3600) if _positive(major) and _positive(minor) else float("nan")


def _positive(value) -> bool:
    return isinstance(value, int | float) and np.isfinite(value) and value > 0


def sky_axes(header: fits.Header, name: str) -> tuple[WCS, float]:
    """Sky axes (2-D, ICRS) and pixel size (arcsec) of a cube; raise `DataError` (NO_WCS) where there are none.

    Axes in FK4 (equinox 1950) or Galactic coordinates are replaced by a tangential projection in ICRS fitted to them.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wcs = WCS(header).celestial
            frame = wcs_to_celestial_frame(wcs).name
            if frame not in _FITTED_FRAMES:
                nx, ny = (int(header[f"NAXIS{k}"]) for k in (1, 2))
                x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, nx - 1, 7), np.linspace(0, ny - 1, 7)))
                wcs = fit_wcs_from_points((x, y), pixel_to_skycoord(x, y, wcs).transform_to(ICRS()), projection="TAN")
            scale = float(np.sqrt(np.prod(proj_plane_pixel_scales(wcs)))) * 3600
    except Exception as err:  # wcslib's errors share no base class
        raise DataError(GALAXY.NO_WCS, f"{name}: the sky axes cannot be used: {' '.join(str(err).split())[:160]}.") from err
    if not (wcs.naxis == 2 and np.isfinite(scale) and scale > 0):
        raise DataError(GALAXY.NO_WCS, f"{name}: the header has no sky axes.")
    return wcs, scale
