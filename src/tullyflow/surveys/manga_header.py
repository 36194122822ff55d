"""What the primary header of a MaNGA file (MAPS or cube) says: whose it is, where the galaxy lies, how good the data are."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tullyflow.errors import DataError
from tullyflow.flags import GALAXY
from tullyflow.surveys.manga_quality import judge_quality

__all__ = ["centre_of", "check_galaxy", "file_flags", "psf_of"]


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
