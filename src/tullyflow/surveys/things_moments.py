"""Read the moment maps the THINGS archive serves: three files of one galaxy, as AIPS wrote them.

What is known of these files only at second hand (BUNIT of MOM1 and MOM2, the velocity convention, the beams of the shipped
table) is checked on every file read; a check that fails says what was found and what to do.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits

from tullyflow.conventions import C_KMS, FWHM_PER_SIGMA, optical_from_radio
from tullyflow.errors import DataError
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.maps.spectral_axis import beam_fwhm_arcsec, sky_axes
from tullyflow.settings import Settings
from tullyflow.surveys import GalaxyMaps
from tullyflow.surveys.cubes import centre_from_position, check_on_map
from tullyflow.surveys.fits_images import beam_of, image, image_hdu, open_fits, path_of
from tullyflow.surveys.local_maps import noise_of_intensity

__all__ = ["MOMENTS", "read_moments"]

MOMENTS = ("mom0", "mom1", "mom2")

_KMS = {"M/S": 1e-3, "METR/SEC": 1e-3, "METRE/SEC": 1e-3, "METER/SEC": 1e-3, "MS-1": 1e-3, "KM/S": 1.0, "KMS-1": 1.0}
_FAR_KMS = 600.0  # no THINGS galaxy rotates so fast that its median velocity is further from its systemic one
_CHANNEL_KMS = (0.5, 11.0)  # THINGS channels are 1.3, 2.6 or 5.2 km/s; an axis step outside is none of a channel
_BEAM_DIFFERS = 0.05  # of the beam, between the file and the shipped table


def read_moments(paths: Mapping[str, Path], target: Mapping, settings: Settings) -> GalaxyMaps:
    """Moment maps ``mom0`` (JY/B*M/S), ``mom1`` and ``mom2`` (m/s) of a galaxy as `GalaxyMaps`, in Jy/beam km/s and km/s.

    Axes of length one (frequency or velocity, and Stokes, in either order) are dropped; the sky axes keep their rotation
    (CROTA2). A BUNIT of MOM1 or MOM2 that is no velocity is replaced by the one that brings the map's median to the
    catalogue's systemic velocity, and said; where neither does, or a known unit leaves it 600 km/s away, the galaxy is out.
    There are no error maps: the intensity takes the noise its negative pixels show, the velocity one constant error
    (``maps.velocity_err_default``, NO_ERROR_MAP). MOM2 is the dispersion as observed: the channel's width / 2.355 is removed
    in quadrature where the header's third axis still is a channel's. Without MOM2 there is no dispersion. NaN, and the values
    of ``maps.blank``, are no value; a pixel without positive flux is LOW_SNR. The beam is the file's (BMAJ, or AIPS's
    HISTORY), else the catalogue's; ``fov_pixels`` counts the pixels with a velocity.
    Raises `DataError`: MISSING_FILE, UNREADABLE_FILE (broken, units that cannot be told, or a map of another part of the sky),
    MISSING_HDU (no map, or maps of different size), NO_WCS. Source: Walter+2008; headers as audited in the archive.
    """
    galaxy = str(target["galaxy"])
    intensity, flux_header, path = _image(paths, "mom0", target, settings)
    velocity, header, path1 = _image(paths, "mom1", target, settings)
    _same_shape(velocity, intensity, path1, path)
    wcs, scale = sky_axes(_two_axes(header), path1.name)
    centre, said = centre_from_position(wcs, target, velocity.shape)
    messages = [said] if said else []

    v_sys = float(target.get("z", np.nan)) * C_KMS
    velocity, said = _velocity(velocity, header, v_sys, path1.name)
    messages += said
    intensity, unit, said = _intensity(intensity, flux_header, path.name)
    messages += said
    intensity_err, said = noise_of_intensity(intensity)
    messages += [said, f"No velocity errors: {settings.maps.velocity_err_default:g} km/s everywhere."]
    dispersion_sq, said = _dispersion(paths, target, velocity.shape, settings)
    messages += said
    beam, said = _beam((flux_header, header), target)
    messages += said

    mask = np.where(np.isfinite(intensity), 0, PIXEL.NO_COVERAGE) | np.where(np.isfinite(velocity), 0, PIXEL.NO_VALUE)
    mask[~(intensity > 0)] |= PIXEL.LOW_SNR
    mock = any(head.get("MOCK") is True for head in (flux_header, header))
    return GalaxyMaps(
        galaxy=galaxy, velocity=velocity, velocity_err=np.full(velocity.shape, settings.maps.velocity_err_default),
        mask=mask.astype(np.int32), wcs=wcs, centre=centre, pixel_scale_arcsec=scale, intensity=intensity,
        intensity_err=intensity_err, intensity_unit=unit, dispersion_sq=dispersion_sq, psf_fwhm_arcsec=beam, beam=beam_of(header),
        fov_pixels=int(np.isfinite(velocity).sum()), absolute=True, flags=GALAXY.NO_ERROR_MAP | (GALAXY.MOCK if mock else 0),
        messages=tuple(messages), history={"MOM0": path.name, "MOM1": path1.name},
    )  # fmt: skip


def _image(paths: Mapping[str, Path], product: str, target: Mapping, settings: Settings) -> tuple[np.ndarray, fits.Header, Path]:
    path = path_of(paths, product, str(target["galaxy"]))
    with open_fits(path) as hdus:
        hdu = image_hdu(hdus, "", path)
        pixels, header = image(hdu, path), hdu.header.copy()
    if "RA" in (str(header.get(f"CTYPE{axis}"))[:2] for axis in (1, 2)):
        check_on_map(sky_axes(_two_axes(header), path.name)[0], target, pixels.shape, path.name)
    pixels[~np.isfinite(pixels) | np.isin(pixels, settings.maps.blank)] = np.nan
    return pixels, header, path


def _same_shape(pixels: np.ndarray, like: np.ndarray, path: Path, other: Path) -> None:
    if pixels.shape != like.shape:
        raise DataError(GALAXY.MISSING_HDU, f"{path.name}: {pixels.shape} pixels, {other.name} has {like.shape}.")


def _two_axes(header: fits.Header) -> fits.Header:
    """The header of a map whose third and fourth axis, of one pixel each, say nothing of the sky."""
    sky = header.copy()
    for axis in (3, 4):
        for key in ("NAXIS", "CTYPE", "CRVAL", "CDELT", "CRPIX", "CROTA", "CUNIT"):
            sky.remove(f"{key}{axis}", ignore_missing=True)
    sky["NAXIS"] = 2
    return sky


def _unit(header: fits.Header) -> str:
    return re.sub(r"[\s.]", "", str(header.get("BUNIT", ""))).upper()


def _velocity(pixels: np.ndarray, header: fits.Header, v_sys_kms: float, name: str) -> tuple[np.ndarray, list[str]]:
    """The map in km/s, optical; raises `DataError` (UNREADABLE_FILE) where its unit cannot be told."""
    unit, middle = _unit(header), float(np.nanmedian(pixels)) if np.isfinite(pixels).any() else np.nan
    shown, messages = header.get("BUNIT") or "absent", []
    if unit in _KMS:
        factor = _KMS[unit]
    else:
        away = {label: abs(middle * scale - v_sys_kms) for label, scale in (("m/s", 1e-3), ("km/s", 1.0))}
        best = min(away, key=away.get)
        if not (away[best] <= _FAR_KMS < max(away.values())):
            raise DataError(
                GALAXY.UNREADABLE_FILE,
                f"{name}: BUNIT is {shown}, expected M/S, and its median {middle:.6g} does not tell the unit (systemic velocity "
                f"{v_sys_kms:.0f} km/s); look at the file, then correct its BUNIT or the galaxy's z (overrides).",
            )
        factor = 1e-3 if best == "m/s" else 1.0
        messages.append(f"{name}: BUNIT is {shown}, expected M/S: values taken as {best}, which puts their median at v_sys.")
    velocity = pixels * factor
    if np.isfinite(v_sys_kms) and abs(middle * factor - v_sys_kms) > _FAR_KMS:
        raise DataError(
            GALAXY.UNREADABLE_FILE,
            f"{name}: with BUNIT {shown} its median is {middle * factor:.6g} km/s, the galaxy's systemic velocity {v_sys_kms:.0f}; look at "
            "the file, then correct its BUNIT or the galaxy's z (overrides).",
        )
    if int(header.get("VELREF", 0) or 0) > 256:
        velocity = optical_from_radio(velocity)
        messages.append(f"{name}: VELREF {header['VELREF']}: radio velocities, made optical.")
    return velocity, messages


def _intensity(pixels: np.ndarray, header: fits.Header, name: str) -> tuple[np.ndarray, str, list[str]]:
    """The map in Jy/beam km/s; in its own unit, and said, where BUNIT is another. Only its shape matters further on."""
    known = re.fullmatch(r"JY/B(?:EAM)?\*?(METR/SEC|M/S|KM/S)", _unit(header))
    if known:
        return pixels * _KMS[known[1]], "JY/BEAM km/s", []
    shown = str(header.get("BUNIT", "")).strip()
    return pixels, shown, [f"{name}: BUNIT is {shown or 'absent'}, expected JY/B*M/S: the values are kept as they are."]


def _dispersion(
    paths: Mapping[str, Path], target: Mapping, shape: tuple[int, int], settings: Settings
) -> tuple[np.ndarray | None, list[str]]:
    """Squared dispersion (km^2/s^2), the channel removed where its width is known; None where there is no MOM2."""
    if "mom2" not in paths:
        return None, ["No second moment: no dispersion."]
    pixels, header, path = _image(paths, "mom2", target, settings)
    if pixels.shape != shape:
        raise DataError(GALAXY.MISSING_HDU, f"{path.name}: {pixels.shape} pixels, the velocity has {shape}.")
    unit = _unit(header)
    if unit not in _KMS:
        shown = header.get("BUNIT") or "absent"
        return None, [f"{path.name}: BUNIT is {shown}, expected M/S: the dispersion is not used; correct BUNIT in the file to use it."]
    square = (pixels * _KMS[unit]) ** 2
    channel = _channel_kms(header)
    if np.isfinite(channel):
        return square - (channel / FWHM_PER_SIGMA) ** 2, [f"Dispersion: a channel of {channel:.2f} km/s removed."]
    return square, ["Dispersion: nothing removed, the width of the channels is not in the header."]


def _channel_kms(header: fits.Header) -> float:
    """Width of a channel by the step of the third or fourth axis; NaN where that is absent or cannot be a channel's."""
    for axis in (3, 4):
        kind, step = str(header.get(f"CTYPE{axis}", "")).upper(), header.get(f"CDELT{axis}")
        if not isinstance(step, int | float):
            continue
        if kind.startswith(("VELO", "FELO", "VOPT", "VRAD")):
            width = abs(step) / 1e3
        elif kind.startswith("FREQ") and header.get(f"CRVAL{axis}"):
            width = C_KMS * abs(step / float(header[f"CRVAL{axis}"]))
        else:
            continue
        return width if _CHANNEL_KMS[0] <= width <= _CHANNEL_KMS[1] else float("nan")
    return float("nan")


def _beam(headers: tuple[fits.Header, ...], target: Mapping) -> tuple[float, list[str]]:
    """FWHM (arcsec) of the beam: the files', else the catalogue's; a sentence where they differ or neither knows."""
    listed = float(target.get("psf_fwhm_arcsec", np.nan))
    found = next((width for width in map(beam_fwhm_arcsec, headers) if np.isfinite(width)), float("nan"))
    if np.isfinite(found) and np.isfinite(listed) and abs(found / listed - 1) > _BEAM_DIFFERS:
        return found, [f"Beam {found:.2f} arcsec in the file, {listed:.2f} in the catalogue (from memory): the file's is used."]
    if not np.isfinite(found) and not np.isfinite(listed):
        return found, ["Neither the files nor the catalogue say how wide the beam is: give psf_fwhm_arcsec (overrides)."]
    return (found if np.isfinite(found) else listed), []
