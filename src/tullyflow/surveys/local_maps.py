"""Read the maps of one row of a user's catalogue, saying aloud whatever had to be assumed."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tullyflow.conventions import optical_from_radio
from tullyflow.errors import DataError
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.maps.spectral_axis import sky_axes, velocity_frame
from tullyflow.settings import Settings
from tullyflow.surveys import GalaxyMaps
from tullyflow.surveys.cubes import TAKEN_AS_CENTRE, centre_from_position
from tullyflow.surveys.fits_images import beam_of, celestial_wcs, image, image_hdu, open_fits, path_of, plane_of, sky_wcs

__all__ = ["ABSOLUTE", "noise_of_intensity", "read_maps"]

log = logging.getLogger("tullyflow")

_OF_THE_LINE = ("velocity_err", "dispersion", "dispersion_err")  # of the same spectra as the velocities
_VELOCITIES = (*_OF_THE_LINE, "stellar_velocity", "stellar_velocity_err")
_LARGEST_KMS = 1e5  # beyond this a value is no velocity of a galaxy
_ABSOLUTE_KMS = 600.0  # a median |velocity| above it is a systemic velocity, not a map's own zero point
ABSOLUTE = "Velocities are absolute (cz): divided by 1 + v_sys/c."
_FEWEST_NEGATIVE = 20  # pixels below zero needed to tell the noise of an intensity map


def read_maps(paths: Mapping[str, Path], row: Mapping, target: Mapping, settings: Settings, *, sky_needed: bool = True) -> GalaxyMaps:
    """Maps of one galaxy from files named in ``row`` (the catalogue's line).

    Blank values (``maps.blank``) are NaN everywhere; a velocity that is not finite or above 1e5 km/s is NO_VALUE. Velocities
    are km/s, or m/s where BUNIT says so. Without an error map one constant error is used (NO_ERROR_MAP). Without intensity
    the photometry must describe a disc (INTENSITY_FROM_PHOTOMETRY), else NO_PHOTOMETRY. An intensity without errors takes
    the noise its negative pixels show, where there are enough of them; else pixels without flux are LOW_SNR. The dispersion is
    taken as free of the instrument.
    Velocities whose median |v| is above 600 km/s are absolute (cz; radio ones by VRAD or VELREF are made optical); smaller ones
    count as relative to the galaxy's redshift. Sky axes are in ICRS, whatever the header's.
    ``row["plane"]`` (number from 1, or a line's name) is the plane of every map whose extension has three axes.
    The field of view is unknown: ``fov_pixels`` counts the pixels with a velocity. Without ``sky_needed`` a map whose header has
    no usable sky axes has ``wcs`` None and a NaN pixel scale, and a sentence says so.
    Raises `DataError`: MISSING_FILE, UNREADABLE_FILE, MISSING_HDU (extension absent, or maps of different size), NO_WCS.
    """
    galaxy = str(target["galaxy"])
    flags, messages = 0, []
    velocity, header, path, mock = _read(paths, "velocity", row, galaxy, settings)
    factor, said = _to_kms(header)
    messages += said
    velocity = velocity * factor
    velocity[np.abs(velocity) > _LARGEST_KMS] = np.nan

    absolute = bool(np.isfinite(velocity).any() and np.nanmedian(np.abs(velocity)) > _ABSOLUTE_KMS)
    stretch = 1.0
    if absolute:
        velocity, stretch, said = _optical(velocity, header)
        messages += [*said, ABSOLUTE]

    def further(name: str) -> np.ndarray | None:
        pixels, said = _optional(name, velocity.shape, paths, row, galaxy, settings, factor)
        messages.extend(said)
        return pixels * stretch if pixels is not None and name in _OF_THE_LINE else pixels

    velocity_err = further("velocity_err")
    if velocity_err is None:
        velocity_err = np.full(velocity.shape, settings.maps.velocity_err_default)
        flags |= GALAXY.NO_ERROR_MAP
        messages.append(f"No velocity errors: {settings.maps.velocity_err_default:g} km/s everywhere.")
    else:
        wrong = int((np.isfinite(velocity) & ~(velocity_err > 0)).sum())
        if wrong:
            messages.append(f"{wrong} velocities have an error that is not positive, or none: left out.")
        velocity_err = np.where(velocity_err > 0, velocity_err, np.nan)
    try:
        wcs, scale = _sky(header, row, target, velocity.shape, path)
    except DataError as err:
        if sky_needed:
            raise DataError(err.flag, f"{err} Give pixel_scale_arcsec in the catalogue if north is up and east is left.") from err
        wcs, scale = None, float(row.get("pixel_scale_arcsec", np.nan))
        messages.append(str(err))
    if wcs is not None and "CTYPE1" not in header:
        messages.append(f"No sky axes in the file: north up, east left and {scale:g} arcsec pixels assumed (pixel_scale_arcsec).")
    centre, guessed = _centre(wcs, row, target, velocity.shape)
    messages += [guessed] if guessed else []

    intensity = further("intensity")
    intensity_err = further("intensity_err")
    if intensity is None:
        disc = np.isfinite([float(target.get(k, np.nan)) for k in ("axis_ratio", "r_e_arcsec")]).all()
        flags |= GALAXY.INTENSITY_FROM_PHOTOMETRY if disc else GALAXY.NO_PHOTOMETRY
    elif intensity_err is None:
        intensity_err, said = noise_of_intensity(intensity)
        messages.append(said)
    dispersion = further("dispersion")
    dispersion_err = further("dispersion_err")
    stellar = further("stellar_velocity")
    if stellar is not None:
        stellar[np.abs(stellar) > _LARGEST_KMS] = np.nan

    mask = np.zeros(velocity.shape, dtype=np.int32)
    mask[~np.isfinite(velocity + velocity_err)] |= PIXEL.NO_VALUE
    if intensity is not None:
        mask[~np.isfinite(intensity)] |= PIXEL.NO_VALUE
        if intensity_err is None:
            mask[intensity <= 0] |= PIXEL.LOW_SNR
    flags |= GALAXY.MOCK if mock else 0
    return GalaxyMaps(
        galaxy=galaxy, velocity=velocity, velocity_err=velocity_err, mask=mask, wcs=wcs, centre=centre, pixel_scale_arcsec=scale,
        intensity=intensity, intensity_err=intensity_err, intensity_unit=_unit(paths, row, galaxy),
        dispersion_sq=None if dispersion is None else dispersion**2,
        dispersion_sq_err=None if dispersion is None or dispersion_err is None else 2 * dispersion * dispersion_err,
        stellar_velocity=stellar, stellar_velocity_err=further("stellar_velocity_err"),
        psf_fwhm_arcsec=_beam(header, target), beam=beam_of(header), fov_pixels=int(np.isfinite(velocity).sum()), absolute=absolute,
        centre_guessed=bool(guessed), flags=flags, messages=tuple(messages), history={"FILE": Path(row["velocity"]).name},
    )  # fmt: skip


def _source(paths: Mapping[str, Path], name: str, row: Mapping, galaxy: str) -> tuple[Path, str] | None:
    """File and extension of a map, None where the row names neither; a map given by its extension alone sits in the velocity's file.

    An error map given by its extension alone sits in the file of its map.
    """
    key = row.get(f"{name}_hdu", "")
    if name in row:
        return path_of(paths, name, galaxy), key
    owner = name.removesuffix("_err")
    file = owner if owner in row else "velocity"
    return (path_of(paths, file, galaxy), key) if key else None


def _read(paths, name: str, row: Mapping, galaxy: str, settings: Settings):
    path, key = _source(paths, name, row, galaxy)
    with open_fits(path, [key]) as hdus:
        hdu = image_hdu(hdus, key, path)
        header = hdu.header.copy()
        pixels = image(hdu, path, plane_of(header, row.get("plane", ""), path))
        mock = header.get("MOCK") is True or hdus[0].header.get("MOCK") is True
    pixels[~np.isfinite(pixels) | np.isin(pixels, settings.maps.blank)] = np.nan
    return pixels, header, path, mock


def _optional(
    name: str, shape: tuple[int, int], paths, row: Mapping, galaxy: str, settings: Settings, factor: float
) -> tuple[np.ndarray | None, list[str]]:
    """A further map, or None where the row names none, and what should be said of it.

    Velocities and dispersions are brought to km/s, errors of velocities without a unit by the ``factor`` of their map. Variances
    and inverse variances, known by HDUCLAS3 or the extension's name, become errors.
    """
    if _source(paths, name, row, galaxy) is None:
        return None, []
    pixels, header, path, _ = _read(paths, name, row, galaxy, settings)
    if pixels.shape != shape:
        raise DataError(GALAXY.MISSING_HDU, f"{path.name}: {name} has {pixels.shape} pixels, the velocity {shape}.")
    said = ""
    if name.endswith("_err"):
        pixels, said = _standard_deviation(pixels, header)
    if name not in _VELOCITIES:
        return pixels, [said] if said else []
    own, unknown = _to_kms(header)
    return pixels * (factor if said or (unknown and name == "velocity_err") else own), [said] if said else []


def _standard_deviation(pixels: np.ndarray, header) -> tuple[np.ndarray, str]:
    """Errors, of variances or their inverses where HDUCLAS3 or the extension's name says that these they are; and a sentence then."""
    kind, name = (str(header.get(key, "")).upper() for key in ("HDUCLAS3", "EXTNAME"))
    inverse = kind == "INVMSE" or name.endswith("IVAR")
    if not (inverse or kind == "MSE" or name.endswith(("_VAR", "VARIANCE"))):
        return pixels, ""
    with np.errstate(divide="ignore", invalid="ignore"):
        err = pixels ** (-0.5 if inverse else 0.5)
    err[~np.isfinite(err)] = np.nan
    what = "inverse variances" if inverse else "variances"
    return err, f"{name or 'The errors'}: {what} by the header, made standard deviations."


def _optical(velocity: np.ndarray, header) -> tuple[np.ndarray, float, list[str]]:
    """Absolute velocities as cz, what their differences were stretched by, and what the header says of convention and rest frame."""
    said, name, stretch = [], "The velocities", 1.0
    frame = velocity_frame(header, 3)
    if str(header.get("CTYPE3", "")).upper().startswith("VRAD") or _number(header.get("VELREF")) > 256:
        typical = float(np.nanmedian(velocity))
        velocity, stretch = optical_from_radio(velocity), float((optical_from_radio(typical) / typical) ** 2)
        said.append(f"{name} are radio ones by their header: made optical (cz), {float(np.nanmedian(velocity)) - typical:+.1f} km/s.")
    if frame in ("LSRK", "LSRD", "TOPOCENT"):
        said.append(f"{name} are {frame} by their header: v_sys is not heliocentric.")
    return velocity, stretch, said


def _number(value) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _to_kms(header) -> tuple[float, list[str]]:
    """Factor that brings a map to km/s, by BUNIT; a unit that is absent or no velocity counts as km/s and is said."""
    from astropy import units as u

    text = str(header.get("BUNIT", "")).strip()
    for spelling in (text, text.lower()):
        try:
            return float(u.Unit(spelling).to(u.km / u.s)), []
        except (ValueError, TypeError, u.UnitConversionError):
            continue
    return 1.0, [f"Velocity unit {text or 'not given'}: km/s assumed."]


def _sky(header, row: Mapping, target: Mapping, shape: tuple[int, int], path: Path):
    """Sky axes and pixel size; a catalogue's pixel_scale_arcsec stands in for absent ones, north up and east left."""
    scale = float(row.get("pixel_scale_arcsec", np.nan))
    if "CTYPE1" not in header and scale > 0:
        middle = (row.get("x_centre", (shape[1] - 1) / 2), row.get("y_centre", (shape[0] - 1) / 2))
        return sky_wcs(float(target.get("ra_deg", np.nan)), float(target.get("dec_deg", np.nan)), scale, middle), scale
    celestial_wcs(header, path)
    return sky_axes(header, path.name)  # in ICRS: north of a Galactic header is not the pole of the Galaxy


def _centre(wcs, row: Mapping, target: Mapping, shape: tuple[int, int]) -> tuple[tuple[float, float], str]:
    if "x_centre" in row and "y_centre" in row:
        return (float(row["x_centre"]), float(row["y_centre"])), ""
    if wcs is None:
        return ((shape[1] - 1) / 2, (shape[0] - 1) / 2), f"{target['galaxy']}: the middle of the map {TAKEN_AS_CENTRE}"
    return centre_from_position(wcs, target, shape)


def noise_of_intensity(intensity: np.ndarray) -> tuple[np.ndarray | None, str]:
    """One error for an intensity map without any: the root mean square of its negative pixels (noise is symmetric)."""
    negative = intensity[intensity < 0]
    if len(negative) < _FEWEST_NEGATIVE:
        return None, "No intensity errors, and no noise to tell them from: only pixels without flux are masked."
    rms = float(np.sqrt(np.mean(negative**2)))
    return np.full(intensity.shape, rms), f"No intensity errors: {rms:.3g} everywhere, from {len(negative)} negative pixels."


def _beam(header, target: Mapping) -> float:
    """FWHM of the beam (arcsec): the catalogue's, else the geometric mean of the header's BMAJ and BMIN."""
    width = float(target.get("psf_fwhm_arcsec", np.nan))
    if not np.isfinite(width) and {"BMAJ", "BMIN"} <= set(header):
        width = 3600 * float(np.sqrt(header["BMAJ"] * header["BMIN"]))
    return width


def _unit(paths, row: Mapping, galaxy: str) -> str:
    source = _source(paths, "intensity", row, galaxy)
    if source is None:
        return ""
    with open_fits(source[0], [source[1]]) as hdus:
        return str(image_hdu(hdus, source[1], source[0]).header.get("BUNIT", "")).strip()
