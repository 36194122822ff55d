"""What the primary header of a MaNGA file (MAPS or cube) says: whose it is, which release's, where the galaxy lies, how good it is."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tullyflow.errors import DataError
from tullyflow.flags import GALAXY
from tullyflow.surveys.manga_quality import judge_quality

__all__ = ["centre_of", "check_galaxy", "file_flags", "is_before_dr17", "of_another_analysis", "psf_of"]

_MAJOR_VERSION = {"DR15": 2, "DR16": 2, "DR17": 3}  # of the data analysis pipeline


def check_galaxy(primary, galaxy: str, path: Path) -> None:
    """Raise `DataError` (UNREADABLE_FILE) where the file is another galaxy's."""
    if str(primary.get("PLATEIFU", galaxy)).strip() != galaxy:
        raise DataError(GALAXY.UNREADABLE_FILE, f"{path.name}: holds {primary['PLATEIFU']}, not {galaxy}.")


def centre_of(wcs, primary, target: Mapping) -> tuple[float, float]:
    """Pixel (x, y), 0-based, of the object (OBJRA, OBJDEC), where SPX_SKYCOO is (0, 0); raise `DataError` (NO_WCS) where there is none."""
    ra, dec = primary.get("OBJRA", target.get("ra_deg")), primary.get("OBJDEC", target.get("dec_deg"))
    x, y = wcs.wcs_world2pix([[float(ra), float(dec)]], 0)[0]
    if not np.isfinite([x, y]).all():
        raise DataError(GALAXY.NO_WCS, f"{target['galaxy']}: the object's position is not on the map's sky.")
    return float(x), float(y)


def psf_of(primary, target: Mapping) -> float:
    """FWHM (arcsec) of the r-band PSF: the catalogue's, else the file's."""
    width = float(target.get("psf_fwhm_arcsec", np.nan))
    return width if np.isfinite(width) else float(primary.get("RFWHM", np.nan))


def file_flags(primary) -> tuple[int, tuple[str, ...]]:
    """Galaxy flags of the file's quality masks, and their sentences."""
    judged = [judge_quality(key, int(primary.get(key, 0))) for key in ("DRP3QUAL", "DAPQUAL")]
    flags = judged[0][0] | judged[1][0] | (GALAXY.MOCK if primary.get("MOCK") is True else 0)
    return flags, tuple(sentence for _, sentence in judged if sentence)


def is_before_dr17(primary, release: str) -> bool:
    """Whether the line-spread function is the older one: by the pipeline's version in the file (2 until DR16), else by the release."""
    stated = _major_version(primary)
    return (_MAJOR_VERSION.get(release, 3) if stated is None else stated) < 3


def of_another_analysis(primary, release: str, daptype: str | None) -> tuple[str, ...]:
    """Sentences where the file's pipeline version or DAPTYPE is not that of ``release`` and of the settings (None = not set)."""
    stated, expected = _major_version(primary), _MAJOR_VERSION.get(release)
    analysis = str(primary.get("DAPTYPE", "")).strip()
    said = []
    if stated is not None and expected is not None and stated != expected:
        said.append(f"Not a file of {release}: its pipeline version is {primary['VERSDAP']}, which decides the line-spread function.")
    if analysis and daptype and analysis != daptype:
        said.append(f"Its DAPTYPE is {analysis}, manga.daptype says {daptype}.")
    return tuple(said)


def _major_version(primary) -> int | None:
    found = re.match(r"\s*v?(\d+)", str(primary.get("VERSDAP", "")))
    return int(found[1]) if found else None
