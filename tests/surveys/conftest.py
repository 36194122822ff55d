"""Builders of small files in the archives' layouts, and settings that find the shipped table of releases."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from tullyflow.settings import Settings, parse_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def configure():
    """Settings with the shipped releases table."""

    def make(**keys) -> Settings:
        return parse_settings({"releases": str(ROOT / "config/releases.csv"), **keys})

    return make


def sky_header(shape: tuple[int, int], ra: float = 150.0, dec: float = 20.0) -> fits.Header:
    """North up, east left, 0.5 arcsec pixels; (ra, dec) is the centre of the pixel in the middle, rounded down."""
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRPIX1"], header["CRPIX2"] = shape[1] // 2 + 1, shape[0] // 2 + 1
    header["CRVAL1"], header["CRVAL2"] = ra, dec
    header["CDELT1"], header["CDELT2"] = -0.5 / 3600, 0.5 / 3600
    header["CUNIT1"], header["CUNIT2"] = "deg", "deg"
    return header


LINES = ("OII-3727", "Hb-4862", "NII-6549", "Ha-6564", "NII-6585")


@pytest.fixture
def maps_file(tmp_path):
    """Write a MAPS file of five lines whose planes differ in everything; ``change(hdus)`` spoils it. Returns its path."""

    def write(change=None, name: str = "manga-9999-3701-MAPS-HYB10-MILESHC-MASTARSSP.fits.gz", lines=LINES) -> Path:
        y, x = np.mgrid[:20, :24].astype(float)
        primary = fits.PrimaryHDU()
        primary.header.update({"PLATEIFU": "9999-3701", "DRP3QUAL": 0, "DAPQUAL": 0, "VERSDAP": "3.1.0", "OBJRA": 150.0, "OBJDEC": 20.0,
                               "RFWHM": 2.5, "SCINPVEL": 9000.0})  # fmt: skip
        snr = np.where(np.hypot(x - 12, y - 10) < 9, 30.0, 0.0)

        def hdu(name, data, channels=False):
            made = fits.ImageHDU(data, sky_header((20, 24)), name=name)
            if channels:
                made.header.update({f"C{k + 1:02d}": line for k, line in enumerate(lines)})
            return made

        def cube(offset, slope, dtype="f4"):
            return np.array([offset + 100 * k + slope * (x + 2 * y) for k in range(len(lines))], dtype=dtype)

        zeros = np.zeros((len(lines), 20, 24), dtype="i4")
        ones = np.ones((len(lines), 20, 24), dtype="f4")
        hdus = fits.HDUList([
            primary, hdu("SPX_SNR", snr.astype("f4")), hdu("BINID", np.arange(5 * 480, dtype="i4").reshape(5, 20, 24)),
            hdu("STELLAR_VEL", (5 * (x - 12)).astype("f4")), hdu("STELLAR_VEL_IVAR", ones[0] / 64),
            hdu("STELLAR_VEL_MASK", zeros[0].copy()),
            hdu("EMLINE_GFLUX", cube(1, 0.1), True), hdu("EMLINE_GFLUX_IVAR", 4 * ones, True), hdu("EMLINE_GFLUX_MASK", zeros.copy(), True),
            hdu("EMLINE_GVEL", cube(-1500, 3), True), hdu("EMLINE_GVEL_IVAR", ones / 25, True), hdu("EMLINE_GVEL_MASK", zeros.copy(), True),
            hdu("EMLINE_GSIGMA", cube(-230, 1), True), hdu("EMLINE_GSIGMA_IVAR", ones / 9, True),
            hdu("EMLINE_GSIGMA_MASK", zeros.copy(), True), hdu("EMLINE_INSTSIGMA", cube(-230, 0), True),
        ])  # fmt: skip
        if change is not None:
            change(hdus)
        path = tmp_path / name
        hdus.writeto(path, overwrite=True)
        return path

    return write
