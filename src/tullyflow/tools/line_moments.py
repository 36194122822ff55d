"""Moment maps of one cube as a FITS file and a picture: what `tullyflow moments CUBE` writes."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

import tullyflow
from tullyflow import flags
from tullyflow.errors import DataError, SettingsError
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.maps.cube_file import CubeFile
from tullyflow.maps.moments import CubeMoments, moments_from_cube
from tullyflow.maps.spectral_axis import read_spectral_axis
from tullyflow.settings import Maps, Settings
from tullyflow.surveys.cubes import find_cube
from tullyflow.tables import whole_file

__all__ = ["LineSpectrum", "line_spectrum", "write_moments"]

log = logging.getLogger("tullyflow")


@dataclass(frozen=True)
class LineSpectrum:
    """Sum of a cube over the pixels with a velocity, by channel (channel,): ``flux`` in ``unit`` with 1 sigma ``flux_err``."""

    velocity_kms: NDArray[np.float64]
    flux: NDArray[np.float64]
    flux_err: NDArray[np.float64]
    unit: str


def write_moments(path: Path, settings: Settings, folder: Path, hdu: str = "") -> tuple[Path, Path]:
    """Write ``<name>-moments.fits`` and ``<name>-moments.png`` of a cube into a folder; return both paths.

    The FITS file holds MOM0, MOM1 (km/s, optical), MOM2 (km2/s2, the channels' width taken out, so that noise may make it
    negative) and DISPERSION (its root; NaN where it is negative), each with its error (``_ERR``) and the sky axes, and MASK
    (``flags.PIXEL``). Raises `SettingsError` where there is no such file, `DataError` where it is no cube whose axes are known, or
    holds no line.
    """
    path = Path(path)
    if not path.is_file():
        raise SettingsError(f"{path}: no such file.")
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"--out: {folder} is a file; name a folder.")
    number, _ = find_cube(path, hdu)
    found = moments_from_cube(path, settings.maps, number)
    valid = (found.mask & flags.BAD_VELOCITY) == 0
    if not valid.any():
        limit = f"{settings.maps.cube_snr_high:g} sigma of the smoothed cube (maps.cube_snr_high)"
        raise DataError(GALAXY.NO_VALID_PIXEL, f"{path.name}: no line was found: no region that counts reaches {limit}.")
    with CubeFile(path, number, settings.maps.blank) as cube:
        spectrum, header = line_spectrum(cube, found), cube.header
    stem = folder / f"{path.name.split('.fit')[0]}-moments"
    out, picture = stem.with_name(f"{stem.name}.fits"), stem.with_name(f"{stem.name}.png")
    _write(out, found, header, settings.maps, path)

    from tullyflow.report.figures.moments import plot_moments
    from tullyflow.report.figures.style import save_picture

    save_picture(plot_moments(path.name.split(".fit")[0], found, spectrum), picture)
    for message in found.messages:
        log.info(message)
    step = np.abs(np.gradient(spectrum.velocity_kms))
    log.info(
        "%s: %d channels of %.2f km/s, %d pixels with a velocity (%.0f to %.0f km/s), noise %.3g %s, flux %.4g %s km/s",
        path.name, len(spectrum.flux), found.channel_kms, valid.sum(), *np.nanpercentile(found.velocity[valid], (1, 99)), found.rms,
        str(header.get("BUNIT", "")).strip(), float(np.sum(spectrum.flux * step)), spectrum.unit,
    )  # fmt: skip
    log.info("%s and %s written; the axis: tullyflow position-angle %s --hdu MOM1 --error-hdu MOM1_ERR", out, picture, out)
    return out, picture


def line_spectrum(cube: CubeFile, found: CubeMoments) -> LineSpectrum:
    """Sum every channel over the pixels that have a velocity; NaN counts as nothing.

    A cube in .../beam whose beam is known is divided by the beam's area in pixels: ``unit`` then is the flux itself (Jy). The
    error takes pixels within a beam for fully correlated.
    """
    valid = (found.mask & flags.BAD_VELOCITY) == 0
    pixels = int(valid.sum())
    unit, area = str(cube.header.get("BUNIT", "")).strip(), 1.0
    beam = found.beam_fwhm_arcsec / found.pixel_scale_arcsec
    if np.isfinite(beam):
        area = np.pi / (4 * np.log(2)) * beam**2  # pixels in a Gaussian beam
    per_beam = unit.upper().replace(" ", "").endswith("/BEAM") and np.isfinite(beam)
    summed = np.array([np.nansum(cube[k][valid], dtype=float) for k in range(len(cube))])
    err = found.noise.channel_rms * np.sqrt(pixels * max(area, 1.0))
    name = unit[: unit.index("/")].strip() if per_beam else f"{unit}, summed over {pixels} pixels".strip(", ")
    middle = tuple(float(a) for a in found.wcs.wcs_pix2world([[(n - 1) / 2 for n in cube.shape[:0:-1]]], 0)[0])
    velocity = read_spectral_axis(cube.header, cube.axis, cube.name, middle).velocity_kms
    scale = 1 / area if per_beam else 1.0
    return LineSpectrum(velocity, summed * scale, err * scale, {"JY": "Jy", "MJY": "mJy"}.get(name.upper(), name))


def _write(out: Path, found: CubeMoments, header: fits.Header, limits: Maps, source: Path) -> None:
    with np.errstate(invalid="ignore", divide="ignore"):
        dispersion = np.sqrt(np.where(found.dispersion_sq > 0, found.dispersion_sq, np.nan))
        dispersion_err = found.dispersion_sq_err / (2 * dispersion)
    images = {
        "MOM0": (found.intensity, found.intensity_err, found.intensity_unit),
        "MOM1": (found.velocity, found.velocity_err, "km/s"),
        "MOM2": (found.dispersion_sq, found.dispersion_sq_err, "km2/s2"),
        "DISPERSION": (dispersion, dispersion_err, "km/s"),
    }
    sky = found.wcs.to_header()
    sky.remove("SPECSYS", ignore_missing=True)
    if "OBJECT" in header:
        sky["OBJECT"] = header["OBJECT"]
    if found.beam is not None:
        major, minor, angle = found.beam
        sky.update(BMAJ=major / 3600, BMIN=minor / 3600, BPA=angle)
    frame = dict(found.history)["VELFRAME"]
    frame = "HELIOCEN" if frame in ("LSRK", "LSRD") else frame  # moments_from_cube has brought these to the Sun
    if np.isfinite(found.beam_fwhm_arcsec):
        sky["BEAMFWHM"] = (found.beam_fwhm_arcsec, "arcsec, geometric mean of the beam's axes")
    made = [
        ("CREATOR", f"tullyflow {tullyflow.__version__}", "what wrote this file"),
        ("CUBE", source.name[:64], ""),
        ("CUBEHIGH", limits.cube_snr_high, "seeds of the mask, sigma of the smoothed cube"),
        ("CUBELOW", limits.cube_snr_low, "connected voxels around the seeds"),
        ("CUBENOIS", found.rms, "noise of a voxel, unit of the cube"),
        ("CHANKMS", found.channel_kms, "km/s, width of a channel"),
        ("CHANSIG", found.channel_dispersion_kms, "km/s, of a channel, taken out of MOM2"),
    ]
    first = fits.PrimaryHDU()
    first.header.extend(made)
    for text in (*(f"{key}: {said}" for key, said in found.history), *found.messages):
        first.header.add_history(text.encode("ascii", "replace").decode())
    hdus = [first]
    for name, (image, err, unit) in images.items():
        for suffix, pixels in (("", image), ("_ERR", err)):
            hdu = fits.ImageHDU(pixels.astype(np.float32), sky, name=name + suffix)
            hdu.header["BUNIT"] = unit
            if name == "MOM1" and frame.isupper():
                hdu.header["SPECSYS"] = (frame, "velocities are optical, cz")
            hdus.append(hdu)
    hdus.append(fits.ImageHDU(found.mask, sky, name="MASK"))
    for flag in PIXEL:
        hdus[-1].header[f"BIT{flag.bit:02d}"] = (flag.name, "mask bit")
    for hdu in hdus:
        hdu.add_datasum(when="no date")
        hdu.add_checksum(when="no date", override_datasum=False)
    with whole_file(out) as part:
        fits.HDUList(hdus).writeto(part, output_verify="fix")
