"""What a radio cube's header says: the velocity of each channel, the beam, the sky axes. Old headers say it in many ways."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.coordinates import ICRS
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import fit_wcs_from_points, pixel_to_skycoord, proj_plane_pixel_scales, wcs_to_celestial_frame
from numpy.typing import NDArray

from tullyflow.conventions import C_KMS, optical_from_radio, optical_from_relativistic
from tullyflow.errors import DataError
from tullyflow.flags import GALAXY
from tullyflow.surveys.fits_images import clean_beams

__all__ = [
    "SpectralAxis", "beam_fwhm_arcsec", "channel_velocities", "read_spectral_axis", "sky_axes", "spectral_axis_number", "velocity_frame",
]  # fmt: skip

_SPECTRAL = ("FREQ", "VELO", "FELO", "VOPT", "VRAD")
_FITTED_FRAMES = {"icrs", "fk5"}  # near enough to the catalogues' ICRS
_UNITS = {
    "M/S": ("M/S", "MS-1", "M/SEC", "METER/SEC", "METERS/SEC", "METRE/SEC", "METR/SEC"),
    "KM/S": ("KM/S", "KMS-1", "KM/SEC", "KILOMETER/SEC"), "HZ": ("HZ", "HERTZ"), "KHZ": ("KHZ",), "MHZ": ("MHZ",), "GHZ": ("GHZ",),
}  # fmt: skip
_SCALES = {"M/S": 1e-3, "KM/S": 1.0, "HZ": 1.0, "KHZ": 1e3, "MHZ": 1e6, "GHZ": 1e9}
_NARROW_M_S = 100.0  # no cube of a galaxy has narrower channels: a step below it without a unit is km/s
_FRAMES = {"LSR": "LSRK", "LSK": "LSRK", "LSD": "LSRD", "HEL": "HELIOCEN", "BAR": "BARYCENT", "OBS": "TOPOCENT", "TOP": "TOPOCENT",
           "GEO": "GEOCENTR", "GAL": "GALACTOC", "SOU": "SOURCE"}  # fmt: skip
_VELREF = {1: "LSRK", 2: "HELIOCEN", 3: "TOPOCENT"}  # AIPS; 256 more where velocities are radio
_SUN_IN_LSR = {  # km/s, ICRS x, y, z: 20 km/s to 18h +30 deg (1900), and (9, 12, 7) km/s in Galactic coordinates
    "LSRK": (0.29004, -17.31726, 10.00141),
    "LSRD": (-0.63823, -14.58542, 7.80116),
}
_AT_REST = {"HELIOCEN", "BARYCENT"}  # 15 m/s apart at most


@dataclass(frozen=True)
class SpectralAxis:
    """Optical velocity cz (km/s) of each channel, heliocentric where ``frame`` could be told, and what was done to get there."""

    velocity_kms: NDArray[np.float64]
    convention: str
    frame: str
    messages: tuple[str, ...] = ()


def read_spectral_axis(header: fits.Header, axis: int, name: str, direction: Mapping | tuple[float, float] | None = None) -> SpectralAxis:
    """Velocities of a cube's channels, brought from the local standard of rest to the Sun.

    ``direction`` is (RA, Dec) in deg, ICRS, of the map's middle: 1 + z (heliocentric) = (1 + z (LSR)) (1 - V/c), V the Sun's motion in
    the LSR (LSRK 20 km/s, LSRD 16.6 km/s) along that direction. The shift is one for the whole cube: it moves v_sys by up to
    20 km/s, not the rotation. Any other frame is kept and said. Raises `DataError` (NO_WCS) as `channel_velocities`.
    """
    velocity = channel_velocities(header, axis, name)
    frame, messages = velocity_frame(header, axis), []
    text, step = str(header.get(f"CUNIT{axis}", "")).strip(), abs(float(_step(header, axis)))
    if not text and not str(header[f"CTYPE{axis}"]).upper().startswith("FREQ") and step < _NARROW_M_S:
        messages.append(f"{name}: no CUNIT{axis}; a step of {step:g} is taken as km/s.")
    if frame in _SUN_IN_LSR and direction is not None:
        ra, dec = np.radians(direction)
        along = float(np.dot(_SUN_IN_LSR[frame], (np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec))))
        velocity = (C_KMS + velocity) * (1 - along / C_KMS) - C_KMS
        messages.append(f"{name}: velocities are {frame}, made heliocentric by {-along:+.1f} km/s.")
    elif frame not in _AT_REST:
        off = {"TOPOCENT": "topocentric: v_sys may be off by 30 km/s"}.get(frame, f"{frame}: v_sys is not heliocentric")
        said = off if frame else "relative to what (LSR or Sun) the header does not say: v_sys may be off by 20 km/s"
        messages.append(f"{name}: velocities are {said}.")
    return SpectralAxis(velocity, _convention(header, axis), frame, tuple(messages))


def velocity_frame(header: fits.Header, axis: int) -> str:
    """Where velocities are at rest, by SPECSYS, the ending of CTYPE (VELO-LSR) or VELREF, as SPECSYS would say it; "" if unsaid."""
    said = str(header.get("SPECSYS", "")).strip().upper()
    if said:
        return {"LSR": "LSRK", "HEL": "HELIOCEN", "BARY": "BARYCENT", "TOPO": "TOPOCENT"}.get(said, said)
    ending = str(header.get(f"CTYPE{axis}", "")).strip().upper().partition("-")[2]
    return _FRAMES.get(ending[-3:], "") or _VELREF.get(_velref(header) % 256, "")


def _velref(header: fits.Header) -> int:
    value = header.get("VELREF", 0)
    return int(value) if isinstance(value, int | float) and np.isfinite(value) else 0


def _step(header: fits.Header, axis: int) -> float:
    return header.get(f"CDELT{axis}", header.get(f"CD{axis}_{axis}"))


def _convention(header: fits.Header, axis: int) -> str:
    """Which velocity is linear along the axis: frequency, optical, radio, relativistic, or 'optical on frequencies' (FELO)."""
    kind = str(header[f"CTYPE{axis}"]).strip().upper()
    by_kind = {"FREQ": "frequency", "FELO": "optical on frequencies", "VRAD": "radio", "VOPT": "optical"}
    exactly = {"VOPT-F2W": "optical on frequencies", "VELO-F2V": "relativistic on frequencies"}
    if kind in exactly or kind[:4] in by_kind:
        return exactly.get(kind) or by_kind[kind[:4]]
    if _velref(header):
        return "radio" if _velref(header) > 256 else "optical"
    if kind == "VELO" and "SPECSYS" in header:
        return "relativistic"
    return "radio" if "miriad" in str(header.get("ORIGIN", "")).lower() else "optical"


def spectral_axis_number(header: fits.Header, name: str) -> int:
    """FITS number (1-based) of the one axis that is frequency or velocity; raise `DataError` (NO_WCS) where there is none."""
    kinds = {k: str(header.get(f"CTYPE{k}", "")).upper() for k in range(1, header["NAXIS"] + 1)}
    found = [k for k, kind in kinds.items() if kind.startswith(_SPECTRAL)]
    if len(found) != 1:
        raise DataError(GALAXY.NO_WCS, f"{name}: no axis of frequency or velocity; CTYPE are {', '.join(kinds.values()) or 'absent'}.")
    return found[0]


def channel_velocities(header: fits.Header, axis: int, name: str) -> NDArray[np.float64]:
    """Optical velocity cz (km/s) of each channel, in the header's own frame.

    FREQ needs a rest frequency. VRAD, VELO with VELREF above 256, and Miriad's VELO are radio velocities; VELO with a SPECSYS
    and no VELREF is relativistic (FITS paper III), VELO-F2V likewise on a grid linear in frequency; any other VELO, and VOPT,
    are optical and linear (AIPS); FELO and VOPT-F2W optical on a grid linear in frequency (AIPS Memo 27).
    Raises `DataError` (NO_WCS) where the header does not say.
    """
    kind = str(header[f"CTYPE{axis}"]).strip().upper()
    try:
        n, start, pixel = (float(header[f"{key}{axis}"]) for key in ("NAXIS", "CRVAL", "CRPIX"))
        step = float(_step(header, axis))
    except (KeyError, TypeError, ValueError) as err:
        raise DataError(GALAXY.NO_WCS, f"{name}: axis {axis} ({kind}) lacks CRVAL, CDELT or CRPIX: {err}.") from err
    offset = np.arange(1, int(n) + 1) - pixel
    scale = _unit_scale(header, axis, name)
    start, step, convention = start * scale, step * scale, _convention(header, axis)
    with np.errstate(divide="ignore", invalid="ignore"):
        if convention == "frequency":
            rest = next((float(header[key]) for key in ("RESTFRQ", "RESTFREQ", "FREQ0") if _positive(header.get(key))), 0.0)
            if not rest > 0:
                raise DataError(GALAXY.NO_WCS, f"{name}: a frequency axis needs RESTFRQ (Hz), the line's rest frequency.")
            velocity = C_KMS * (rest / (start + offset * step) - 1)
        elif convention == "optical on frequencies":
            velocity = C_KMS * ((1 + start / C_KMS) / (1 - offset * step / (C_KMS + start)) - 1)
        elif convention == "relativistic on frequencies":
            beta = start / C_KMS
            ratio = np.sqrt((1 - beta) / (1 + beta))  # frequency over rest frequency, at the reference channel
            slope = -ratio / (1 - beta**2) / C_KMS  # and its change with velocity there
            velocity = C_KMS * (1 / (ratio + slope * offset * step) - 1)
        else:
            velocity = start + offset * step
            velocity = {"radio": optical_from_radio, "relativistic": optical_from_relativistic}.get(convention, np.asarray)(velocity)
    if not (np.isfinite(velocity).all() and len(velocity) > 1 and np.all(np.diff(velocity) != 0)):
        raise DataError(GALAXY.NO_WCS, f"{name}: axis {axis} ({kind}) gives no distinct velocities.")
    return velocity


def _unit_scale(header: fits.Header, axis: int, name: str) -> float:
    """What CRVAL and CDELT are multiplied by to be Hz or km/s."""
    text, frequency = str(header.get(f"CUNIT{axis}", "")).strip(), str(header[f"CTYPE{axis}"]).upper().startswith("FREQ")
    if not text:
        return 1.0 if frequency or abs(float(_step(header, axis))) < _NARROW_M_S else 1e-3
    short = re.sub(r"[\s.*^()]", "", text).upper()
    for unit, names in _UNITS.items():
        if short in names and unit.endswith("HZ") == frequency:
            return _SCALES[unit]
    try:
        return float(u.Unit(text).to("Hz" if frequency else "km/s"))
    except (ValueError, u.UnitConversionError) as err:
        raise DataError(
            GALAXY.NO_WCS, f"{name}: axis {axis} has unit {text!r}, expected one of {'Hz, MHz, GHz' if frequency else 'm/s, km/s'}."
        ) from err


def beam_fwhm_arcsec(header: fits.Header, beams: fits.FITS_rec | None = None) -> float:
    """Geometric mean of the beam's axes (arcsec); NaN where nothing says.

    From BMAJ and BMIN (deg), else the median over the channels of a table BEAMS (CASA; arcsec, or the unit of its column), else
    AIPS's HISTORY, the last entry.
    """
    major, minor = header.get("BMAJ"), header.get("BMIN")
    if not (_positive(major) and _positive(minor)) and beams is not None:
        return _median_beam(beams)
    if not (_positive(major) and _positive(minor)):
        lines = clean_beams(header)
        if not lines:
            return float("nan")
        major, minor = (float(value) for value in lines[-1][:2])
    return float(np.sqrt(float(major) * float(minor)) * 3600) if _positive(major) and _positive(minor) else float("nan")


def _median_beam(beams: fits.FITS_rec) -> float:
    try:
        area = np.ones(len(beams))
        for key in ("BMAJ", "BMIN"):
            unit = str(beams.columns[key].unit or "arcsec").strip().lower().replace("degree", "deg")
            area = area * np.asarray(beams[key], dtype=float) * u.Unit(unit).to("arcsec")
    except (KeyError, ValueError, TypeError):
        return float("nan")
    area = area[np.isfinite(area) & (area > 0)]
    return float(np.sqrt(np.median(area))) if area.size else float("nan")


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
