"""Read the flux, velocity and dispersion of an emission line from a Pipe3D cube of MaNGA (layouts of DR14-DR16 and of DR17).

FLUX_ELINES holds eight blocks of n planes: flux, velocity, dispersion, equivalent width and their errors. Extension and line are
found by name; numbers only confirm. No such file could be looked at when this was written: what the documentation leaves open is
checked in every file, and said.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from tullyflow.conventions import C_KMS, FWHM_PER_SIGMA
from tullyflow.errors import DataError, SettingsError
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.settings import Settings
from tullyflow.surveys import GalaxyMaps
from tullyflow.surveys.fits_images import celestial_wcs, image, image_hdu, open_fits, pixel_scale_arcsec
from tullyflow.surveys.manga_header import centre_of, check_galaxy, file_flags, psf_of

__all__ = ["BLOCKS", "decide_width", "line_planes", "odd_widths", "read_pipe3d"]

BLOCKS = ("flux", "vel", "disp", "ew", "e_flux", "e_vel", "e_disp", "e_ew")
_LINES = {  # the DAP's name: names in Pipe3D (air), wavelength in Angstrom, plane of n = 57 lines
    "Ha-6564": (("ha", "halpha"), 6562.8, 45),
    "Hb-4862": (("hb", "hbeta"), 4861.3, 28),
    "OIII-5008": (("[oiii]", "oiii"), 5006.8, 26),
    "NII-6585": (("[nii]", "nii"), 6583.5, 46),
}
_N_LINES_MANGA = 57
_PREFIX = re.compile(r"^(e_?flux|e_?vel|e_?disp|e_?ew|flux|vel|disp|ew)[\s_]+", re.IGNORECASE)
_BRIGHT = 10.0  # S/N of the spaxels that decide what disp is
_MIN_BRIGHT = 20


def read_pipe3d(path: Path, target: Mapping, settings: Settings) -> GalaxyMaps:
    """Read one emission line (``manga.line``) of a Pipe3D cube.

    Velocities are cz (``absolute``). The dispersion is in Angstrom, observed and with the instrument in it: it is divided by the
    observed wavelength, taken as a standard deviation or as a FWHM (``manga.pipe3d_dispersion``, `decide_width`), and the square of
    ``manga.pipe3d_instrument`` is taken off. The value 0 means none. Spaxels that GAIA_MASK marks are FOREGROUND, those that
    SELECT_REG leaves out UNRELIABLE (DR17 only). Covered is where the continuum (SSP plane 0), else the error of the flux, is not 0.
    Raises `DataError`: UNREADABLE_FILE, MISSING_HDU, NO_WCS; `SettingsError` for a line unknown here.
    """
    galaxy, line = str(target["galaxy"]), settings.manga.line
    with open_fits(path) as hdus:
        primary = hdus[0].header
        check_galaxy(primary, galaxy, path)
        lines = _lines_hdu(hdus, path)
        n, k, said = line_planes(lines.header, line, path)
        maps = {block: image(lines, path, plane=number * n + k) for number, block in enumerate(BLOCKS) if "ew" not in block}
        wcs = celestial_wcs(lines.header if "CTYPE1" in lines.header else primary, path)
        covered = _covered(hdus, maps, path)
        left_out = _map_of(hdus, "SELECT_REG", covered.shape, path, absent=1.0) == 0
        star = _map_of(hdus, "GAIA_MASK", covered.shape, path, absent=0.0) == 1
    messages = [said] if said else []
    values = {block: np.where((plane != 0) & np.isfinite(plane), plane, np.nan) for block, plane in maps.items()}
    mask = np.zeros(covered.shape, dtype=np.int32)
    mask[~covered] |= PIXEL.NO_COVERAGE
    mask[star & covered] |= PIXEL.FOREGROUND
    mask[left_out & covered] |= PIXEL.UNRELIABLE
    no_value = ~np.isfinite(values["flux"] + values["vel"]) | ~(values["e_flux"] > 0) | ~(values["e_vel"] > 0)
    mask[no_value] |= PIXEL.NO_VALUE
    absolute, sentence, flag = _zero_point(values["vel"][mask == 0], float(target.get("z", np.nan)))
    messages += [sentence] if sentence else []

    z1 = 1 + float(target.get("z", np.nan))
    scale = C_KMS / (_LINES[line][1] * (z1 if np.isfinite(z1) else 1 + np.nanmedian(values["vel"][mask == 0]) / C_KMS))
    width, width_err = values["disp"] * scale, values["e_disp"] * scale  # km/s in the rest frame
    bright = (mask == 0) & (values["flux"] > _BRIGHT * values["e_flux"])
    kind, sentence = decide_width(width[bright], settings.manga.pipe3d_instrument, settings.manga.pipe3d_dispersion)
    messages += [sentence] if sentence else []
    dispersion_sq = dispersion_sq_err = None
    if kind:
        sigma, sigma_err = (array / (FWHM_PER_SIGMA if kind == "fwhm" else 1.0) for array in (width, width_err))
        # velocities in cz are 1 + z too large, and what follows divides both by it
        frame = (z1 if np.isfinite(z1) else 1.0) if absolute else 1.0
        dispersion_sq = (sigma**2 - settings.manga.pipe3d_instrument**2) * frame**2
        dispersion_sq_err = 2 * sigma * sigma_err * frame**2
        mask[dispersion_sq < 0] |= PIXEL.NEGATIVE_DISPERSION
    flags, sentences = file_flags(primary)
    return GalaxyMaps(
        galaxy=galaxy, velocity=values["vel"], velocity_err=np.where(values["e_vel"] > 0, values["e_vel"], np.nan), mask=mask, wcs=wcs,
        centre=centre_of(wcs, primary, target), pixel_scale_arcsec=pixel_scale_arcsec(wcs), intensity=values["flux"],
        intensity_err=np.where(values["e_flux"] > 0, values["e_flux"], np.nan), intensity_unit="1e-16 erg/s/cm^2/spaxel",
        dispersion_sq=dispersion_sq, dispersion_sq_err=dispersion_sq_err, psf_fwhm_arcsec=psf_of(primary, target),
        fov_pixels=int(covered.sum()), absolute=absolute, flags=flags | flag, messages=(*sentences, *messages),
        history={"VERSDRP3": str(primary.get("VERSDRP3", "")), "LINE": line, "PRODUCT": "Pipe3D", "DISPKIND": kind or "unknown"},
    )  # fmt: skip


def _lines_hdu(hdus: fits.HDUList, path: Path):
    """FLUX_ELINES, by its name, else HDU 3 (DR14-DR16) or 5 (DR17) if it has eight blocks."""
    if "FLUX_ELINES" in hdus:
        return image_hdu(hdus, "FLUX_ELINES", path)
    for number in (5, 3):
        if number < len(hdus) and hdus[number].is_image and hdus[number].header.get("NAXIS3", 0) >= 8 * len(_LINES):
            return hdus[number]
    raise DataError(GALAXY.MISSING_HDU, f"{path.name}: no extension FLUX_ELINES; there are {', '.join(h.name for h in hdus)}.")


def line_planes(header: fits.Header, line: str, path: Path) -> tuple[int, int, str]:
    """Number of lines n, 0-based index of ``line`` among them, and a sentence where the known number disagrees (else "").

    The header names planes (NAME{i} "vel Halpha", for all 8 n) or lines (NAME{i} "Halpha", for the n of the first block); where
    it does not, WAVE{i} (Angstrom, air) tells. Raises `DataError` (MISSING_HDU) unless exactly one line fits, and where eight
    blocks and the names do not go together; `SettingsError` for a line unknown here.
    """
    if line not in _LINES:
        raise SettingsError(f"manga.line: {line} is not known in Pipe3D cubes; known: {', '.join(_LINES)}.")
    planes = int(header.get("NAXIS3", 0))
    n = planes // 8
    if not n or planes % 8:
        raise DataError(GALAXY.MISSING_HDU, f"{path.name}: FLUX_ELINES has {planes} planes, which are not eight blocks.")
    names, waves = _numbered(header, "NAME"), _numbered(header, "WAVE")
    found = [i for i, text in names.items() if i < n and _is_line(text, line)]
    if not found:
        found = [i for i, text in waves.items() if i < n and abs(_number(text) - _LINES[line][1]) < 3]
    if len(found) != 1:
        there = ", ".join(names.values())[:160] or "no NAME{i} at all"
        raise DataError(GALAXY.MISSING_HDU, f"{path.name}: {len(found)} planes of FLUX_ELINES are {line}, one is needed; found {there}.")
    k = found[0]
    for number, block in enumerate(BLOCKS):
        text = names.get(number * n + k)
        if text is None or (number and not _PREFIX.match(text)):
            continue
        prefix = _PREFIX.match(text)
        said = prefix.group(1).lower().replace("_", "") if prefix else "flux"
        if said != block.replace("_", "") or not _is_line(text, line):
            raise DataError(GALAXY.MISSING_HDU, f"{path.name}: plane {number * n + k} should be {block} of {line}, its name is {text!r}.")
    if k in waves and not abs(_number(waves[k]) - _LINES[line][1]) < 3:
        raise DataError(GALAXY.MISSING_HDU, f"{path.name}: plane {k} is called {names.get(k)!r} but WAVE{k} is {waves[k]}.")
    known = _LINES[line][2]
    sentence = f"{line} is plane {k} of FLUX_ELINES, usually {known}: its name was trusted." if n == _N_LINES_MANGA and k != known else ""
    return n, k, sentence


def _numbered(header: fits.Header, key: str) -> dict[int, str]:
    """Values of KEY0, KEY1, ... (or KEY_0) by 0-based number; headers that count from 1 are moved."""
    found = {}
    for name, value in header.items():
        match = re.fullmatch(rf"{key}_?(\d+)", name)
        if match:
            found[int(match.group(1))] = str(value).strip()
    return {i - 1: text for i, text in found.items()} if found and 0 not in found else found


def _number(text: str) -> float:
    try:
        return float(text.split(maxsplit=1)[0])
    except (ValueError, IndexError):
        return float("nan")


def _is_line(text: str, line: str) -> bool:
    """Whether a name is of the line: one of its names, alone or with its wavelength (a name of several lines needs it)."""
    names, wave, _ = _LINES[line]
    text = re.sub(r"[\s_-]", "", _PREFIX.sub("", text.strip())).lower()
    for name in names:
        rest = text.removeprefix(name)
        if text.startswith(name) and (rest == "" if line.startswith("H") else False):
            return True
        if text.startswith(name) and re.fullmatch(r"\d{4}(\.\d+)?", rest) and abs(float(rest) - wave) < 3:
            return True
    return False


def _map_of(hdus: fits.HDUList, name: str, shape: tuple[int, int], path: Path, absent: float) -> np.ndarray:
    """A map that DR17 has and earlier releases do not; ``absent`` everywhere where there is none."""
    if name not in hdus:
        return np.full(shape, absent)
    plane = image(image_hdu(hdus, name, path), path, plane=0)
    if plane.shape != shape:
        raise DataError(GALAXY.UNREADABLE_FILE, f"{path.name}: {name} has {plane.shape} pixels, FLUX_ELINES {shape}.")
    return plane


def _covered(hdus: fits.HDUList, maps: Mapping[str, np.ndarray], path: Path) -> np.ndarray:
    shape = maps["flux"].shape
    continuum = _map_of(hdus, "SSP", shape, path, absent=np.nan)
    seen = continuum if np.isfinite(continuum).any() else maps["e_flux"]
    return np.isfinite(seen) & (seen != 0)


def _zero_point(velocity: np.ndarray, z: float) -> tuple[bool, str, int]:
    """Whether velocities (km/s, any shape) are cz, by the redshift; a sentence and a flag where they are not."""
    if velocity.size == 0 or not np.isfinite(z):
        return True, "", 0
    median, cz = float(np.median(velocity)), C_KMS * z
    if abs(median - cz) < 1500:
        return True, "", 0
    if abs(median) < 1000:
        return False, f"Velocities of the Pipe3D cube are relative (median {median:.0f} km/s), cz was expected: taken as relative.", 0
    return True, f"Median velocity of the Pipe3D cube is {median:.0f} km/s, cz of the catalogue {cz:.0f}: z?", GALAXY.QUALITY_WARNING


def decide_width(width_kms: np.ndarray, instrument_kms: float, setting: str = "auto") -> tuple[str, str]:
    """Say whether widths (km/s, bright spaxels, instrument included) are standard deviations or FWHM: ("sigma" | "fwhm" | "", sentence).

    No standard deviation can lie below the instrument's: the widths are FWHM where their 16th percentile over 2.35 is still not
    below 0.9 of it. ("", why) for fewer than 20 spaxels, where the dispersion is not used. A ``setting`` other than auto decides.
    """
    if setting != "auto":
        return setting, ""
    width_kms = width_kms[np.isfinite(width_kms)]
    if width_kms.size < _MIN_BRIGHT:
        return "", f"Whether disp of Pipe3D is sigma or FWHM cannot be told of {width_kms.size} spaxels: set manga.pipe3d_dispersion."
    low = float(np.percentile(width_kms, 16))
    kind = "fwhm" if low / FWHM_PER_SIGMA >= 0.9 * instrument_kms else "sigma"
    word = {"fwhm": "a FWHM", "sigma": "a standard deviation"}[kind]
    return kind, (f"disp of Pipe3D taken as {word}: 16th percentile {low:.0f} km/s, instrument {instrument_kms:.0f} km/s (sigma); "
                  "manga.pipe3d_dispersion fixes it.")  # fmt: skip


def odd_widths(kinds: Sequence[str]) -> tuple[NDArray[np.bool_], str]:
    """Mark the galaxies whose widths `decide_width` took for something else than most galaxies', and say so: (marks, sentence).

    ``kinds`` (galaxy,): sigma, fwhm, or anything else where nothing was decided. All files of a release hold the same. All are marked where
    both are equally many; none, with "", where they agree.
    """
    counts = Counter(kind for kind in kinds if kind in ("sigma", "fwhm"))
    if len(counts) < 2:
        return np.zeros(len(kinds), dtype=bool), ""
    few = min(counts.values())
    sentence = (f"disp of Pipe3D is a standard deviation by {counts['sigma']} galaxies of this shard and a FWHM by {counts['fwhm']}; "
                "it is one of them for a whole release: set manga.pipe3d_dispersion to the one.")  # fmt: skip
    return np.array([counts.get(kind) == few for kind in kinds]), sentence
