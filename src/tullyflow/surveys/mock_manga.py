"""Write a mock galaxy as a MaNGA DAP MAPS file, and its row as drpall has it (layouts of DR15 and DR17).

Every extension of the real file is there, by name and in order, with its channels, units and companions. Only Halpha is
a galaxy: the other lines run backwards and 300 km/s off, so that a reader that takes the wrong channel fails loudly.
Extensions no reader of velocities needs hold zeros of one pixel per channel.
"""

import gzip
import io
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from tullyflow.conventions import C_KMS
from tullyflow.surveys.mock_disc import OpticalMaps

if TYPE_CHECKING:
    from tullyflow.surveys.mock_population import MockGalaxy

__all__ = ["INSTRUMENT_KMS", "LINES", "maps_bytes", "stated_instrument_kms"]

INSTRUMENT_KMS = 70.0  # true instrumental dispersion at Halpha
LINE = "Ha-6564"
DRP3QUAL_CRITICAL = 1 << 30
DAPQUAL_FORESTAR = 1
NOCOV, LOWCOV, FORESTAR, NOVALUE, UNRELIABLE, DONOTUSE = 1, 2, 8, 16, 32, 1 << 30

_BLUE = "NeIII-3968 Heps-3971 Hdel-4102 Hgam-4341 HeII-4687 Hb-4862 OIII-4960 OIII-5008"
_RED = "HeI-5877 OI-6302 OI-6365 NII-6549 Ha-6564 NII-6585 SII-6718 SII-6732"
LINES = {
    "DR15": f"OII-3727 OII-3729 Hthe-3798 Heta-3836 NeIII-3869 Hzet-3890 {_BLUE} {_RED}".split(),
    "DR17": (
        f"OII-3727 OII-3729 H12-3751 H11-3771 Hthe-3798 Heta-3836 NeIII-3869 HeI-3889 Hzet-3890 {_BLUE} NI-5199 NI-5201 {_RED} "
        "HeI-7067 ArIII-7137 ArIII-7753 Peta-9017 SIII-9071 Pzet-9231 SIII-9533 Peps-9548"
    ).split(),
}  # fmt: skip
_INDICES = (  # noqa: SIM905
    "CN1 CN2 Ca4227 G4300 Fe4383 Ca4455 Fe4531 C24668 Hb Fe5015 Mg1 Mg2 Mgb Fe5270 Fe5335 Fe5406 Fe5709 Fe5782 NaD TiO1 TiO2 HDeltaA "
    "HGammaA HDeltaF HGammaF CaHK CaII1 CaII2 CaII3 Pa17 Pa14 Pa12 MgICvD NaICvD MgIIR FeHCvD NaI bTiO aTiO CaH1 CaH2 NaISDSS TiO2SDSS "
    "D4000 Dn4000 TiOCvD"
).split()
_MERIT = (
    "rms;frms;rchi2;68th perc frac resid;99th perc frac resid;max frac resid;68th perc per pix chi;99th perc per pix chi;max per pix chi"
)
_FLUX = "1E-17 erg/s/cm^2/spaxel"
_DENSITY = "1E-17 erg/s/cm^2/ang/spaxel"
_VERSIONS = {"DR15": ("v2_4_3", "2.2.1"), "DR17": ("v3_1_1", "3.1.0")}

# name | channels | unit | companions, in the file's order
_HEAD = f"""
SPX_SKYCOO|On-sky X;On-sky Y|arcsec|
SPX_ELLCOO|@ell||
SPX_MFLUX||{_DENSITY}|IVAR-
SPX_SNR|||
BINID|Binned spectra;Stellar continua;Em. line moments;Em. line models;Spectral indices||
BIN_LWSKYCOO|Lum. weighted on-sky X;Lum. weighted on-sky Y|arcsec|
BIN_LWELLCOO|@lwell||
BIN_AREA||arcsec^2|
BIN_FAREA|||
BIN_MFLUX||{_DENSITY}|IVAR MASK
BIN_SNR|||
STELLAR_VEL||km/s|IVAR MASK
STELLAR_SIGMA||km/s|IVAR MASK
"""
_LAYOUTS = {
    "DR15": f"""{_HEAD}
STELLAR_SIGMACORR||km/s|
STELLAR_CONT_FRESID|68th percentile;99th percentile||
STELLAR_CONT_RCHI2|||
EMLINE_SFLUX|@sums|{_FLUX}|IVAR MASK
EMLINE_SEW|@sums|ang|IVAR MASK
EMLINE_GFLUX|@lines|{_FLUX}|IVAR MASK
EMLINE_GEW|@lines|ang|IVAR MASK
EMLINE_GVEL|@lines|km/s|IVAR MASK
EMLINE_GSIGMA|@lines|km/s|IVAR MASK
EMLINE_INSTSIGMA|@lines|km/s|
EMLINE_TPLSIGMA|@lines|km/s|
SPECINDEX|@indices||IVAR MASK CORR
""",
    "DR17": f"""{_HEAD}
STELLAR_SIGMACORR|resolution difference;fit|km/s|
STELLAR_FOM|{_MERIT}||
EMLINE_SFLUX|@sums|{_FLUX}|IVAR MASK
EMLINE_SEW|@sums|ang|CNT IVAR MASK
EMLINE_GFLUX|@lines|{_FLUX}|IVAR MASK
EMLINE_GEW|@lines|ang|CNT IVAR MASK
EMLINE_GVEL|@lines|km/s|IVAR MASK
EMLINE_GSIGMA|@lines|km/s|IVAR MASK
EMLINE_INSTSIGMA|@lines|km/s|
EMLINE_TPLSIGMA|@lines|km/s|
EMLINE_GA|@lines|{_DENSITY}|
EMLINE_GANR|@lines||
EMLINE_FOM|{_MERIT}||
EMLINE_LFOM|@lines||
SPECINDEX|@indices||IVAR MASK CORR MODEL
SPECINDEX_BF|@indices||IVAR MASK CORR MODEL
SPECINDEX_WGT|@indices||IVAR MASK CORR MODEL
""",
}


def stated_instrument_kms(release: str, lsf_factor: float) -> float:
    """Return what INSTSIGMA says: DR15's pipeline underestimates the true dispersion by ``lsf_factor`` (Law+2021)."""
    return INSTRUMENT_KMS / lsf_factor if release == "DR15" else INSTRUMENT_KMS


def _channels(text: str, release: str) -> list[str]:
    lines = LINES[release]
    radius = ["Elliptical radius", "R/Re", *(["R h/kpc"] if release == "DR17" else []), "Elliptical azimuth"]
    weighted = [f"Lum. weighted {radius[0].lower()}", *radius[1:-1], f"Lum. weighted {radius[-1].lower()}"]
    named = {"@ell": radius, "@lwell": weighted, "@lines": lines, "@sums": ["OIId-3728", *lines[1:]], "@indices": _INDICES}
    return named[text] if text in named else [name for name in text.split(";") if name]


def _planes(galaxy: "MockGalaxy", maps: OpticalMaps, stellar: np.ndarray, instsigma: float) -> dict[str, np.ndarray]:
    """Arrays of the extensions that hold something; a line's extension holds every channel."""
    size = galaxy.pixels
    y, x = np.mgrid[:size, :size] - size / 2
    east, north = -x * galaxy.pixel_scale_arcsec, y * galaxy.pixel_scale_arcsec
    pa = np.radians(galaxy.pa_phot_deg)
    major, minor = east * np.sin(pa) + north * np.cos(pa), north * np.sin(pa) - east * np.cos(pa)
    radius, azimuth = np.hypot(major, minor / galaxy.axis_ratio), np.degrees(np.arctan2(minor, major)) % 360
    re = galaxy.r_e_arcsec
    kpc = [radius * galaxy.z * C_KMS / 100 / 206.265] if galaxy.release == "DR17" else []
    continuum = np.where(maps.field, np.exp(-1.678 * radius / re), 0.0)

    # the rim of the bundle is covered too thinly; what lies beyond is not covered at all
    rim = maps.field & (radius_from_centre(x, y) > 0.95 * radius_from_centre(x, y)[maps.field].max())
    used = maps.field & maps.fitted & ~rim & ~maps.star
    nothing = NOCOV | LOWCOV | DONOTUSE if galaxy.release == "DR15" else NOVALUE | DONOTUSE
    mask = np.where(maps.field, 0, nothing)
    mask |= np.where(maps.field & ~maps.fitted, NOVALUE | DONOTUSE, 0) | np.where(rim, LOWCOV | DONOTUSE, 0)
    mask |= np.where(maps.star, FORESTAR | NOVALUE | DONOTUSE, 0) | np.where(maps.column, UNRELIABLE, 0)
    ids = np.where(used, np.cumsum(used).reshape(used.shape) - 1, -1)

    def line(values, other):
        """All channels of a line extension: Halpha's values in its own, ``other`` in the rest, 0 where unused."""
        out = np.repeat(np.where(used, other, 0.0)[None], len(LINES[galaxy.release]), axis=0)
        out[LINES[galaxy.release].index(LINE)] = np.where(used, values, 0.0)
        return out

    masks = np.repeat(mask[None], len(LINES[galaxy.release]), axis=0)
    # values of the other channels are rounded: planes that repeat cost nothing once gzipped
    v, s = np.round(300 - maps.velocity), np.round(2 * maps.dispersion + 50)
    return {
        "SPX_SKYCOO": np.stack([east, north]),
        "SPX_ELLCOO": np.stack([radius, radius / re, *kpc, azimuth]),
        "SPX_MFLUX": continuum,
        "SPX_MFLUX_IVAR": np.where(maps.field, 2500.0, 0.0),
        "SPX_SNR": 50 * continuum,
        "BINID": np.repeat(ids[None], 5, axis=0),
        "BIN_LWSKYCOO": np.stack([east, north]),
        "BIN_LWELLCOO": np.stack([radius, radius / re, *kpc, azimuth]),
        "BIN_MFLUX": continuum,
        "BIN_MFLUX_IVAR": np.where(maps.field, 2500.0, 0.0),
        "BIN_MFLUX_MASK": mask,
        "BIN_SNR": 50 * continuum,
        "STELLAR_VEL": np.where(used, stellar, 0.0),
        "STELLAR_VEL_IVAR": np.where(used, 8.0**-2, 0.0),
        "STELLAR_VEL_MASK": mask,
        "EMLINE_GFLUX": line(maps.flux, np.round(0.3 * maps.flux, 2)),
        "EMLINE_GFLUX_IVAR": line(maps.flux_err**-2, 0.25),
        "EMLINE_GFLUX_MASK": masks,
        "EMLINE_GVEL": line(maps.velocity, v),
        "EMLINE_GVEL_IVAR": line(maps.velocity_err**-2, 0.01),
        "EMLINE_GVEL_MASK": masks,
        "EMLINE_GSIGMA": line(maps.dispersion, s),
        "EMLINE_GSIGMA_IVAR": line(maps.dispersion_err**-2, 0.01),
        "EMLINE_GSIGMA_MASK": masks,
        "EMLINE_INSTSIGMA": line(instsigma, 40.0),
        "EMLINE_TPLSIGMA": line(45.0, 45.0),
    }


def radius_from_centre(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the hexagonal distance (in x's unit) of a point from the bundle's centre: constant along a rim."""
    return np.maximum(np.abs(y), np.abs(x) * np.sqrt(3) / 2 + np.abs(y) / 2)


def _primary(galaxy: "MockGalaxy", daptype: str) -> fits.PrimaryHDU:
    hdu = fits.PrimaryHDU()
    plate, ifu = galaxy.galaxy.split("-")
    drp, dap = _VERSIONS[galaxy.release]
    cards = {
        "MOCK": True, "VERSDRP2": drp, "VERSDRP3": drp, "TELESCOP": "SDSS 2.5-M", "INSTRUME": "MaNGA", "SRVYMODE": "MaNGA dither",
        "OBJSYS": "ICRS", "EQUINOX": 2000.0, "RADESYS": "FK5", "MNGTARG1": galaxy.target_bits, "MNGTARG2": 0, "MNGTARG3": 0,
        "IFURA": galaxy.ra_deg, "IFUDEC": galaxy.dec_deg, "OBJRA": galaxy.ra_deg, "OBJDEC": galaxy.dec_deg, "PLATEID": int(plate),
        "IFUDSGN": int(ifu), "PLATEIFU": galaxy.galaxy, "MANGAID": f"99-{galaxy.galaxy.replace('-', '')}",
        "DRP3QUAL": DRP3QUAL_CRITICAL if galaxy.hard_case == "quality_bad" else 0, "EBVGAL": 0.02, "MASKNAME": "MANGA_DAPPIXMASK",
        **{f"{band}FWHM": galaxy.psf_fwhm_arcsec for band in "GRIZ"}, "VERSDAP": dap, "DAPTYPE": daptype, "DAPFRMT": "MAPS",
        "SCKEY": {"DR15": "GAU-MILESHC", "DR17": "MILESHCMPL11"}[galaxy.release],
        "ECOOPA": galaxy.pa_phot_deg, "ECOOELL": 1 - galaxy.axis_ratio, "REFF": galaxy.r_e_arcsec, "BINKEY": "HYB10", "BINMINSN": 1.0,
        "VSTEP": 69.02976447828435, "SCINPVEL": C_KMS * galaxy.z, "SCINPSIG": 100.0,
        "DAPQUAL": DAPQUAL_FORESTAR if galaxy.star_radius_arcsec > 0 else 0,
    }  # fmt: skip
    hdu.header.update(cards)
    hdu.header["COMMENT"] = "Simulated galaxy (tullyflow mock, KinMS); not an observation."
    return hdu


def _wcs_cards(galaxy: "MockGalaxy", axes: int) -> dict:
    step = galaxy.pixel_scale_arcsec / 3600
    third = {"CRPIX3": 1.0, "CDELT3": 1.0, "CRVAL3": 1.0} if axes == 3 else {}
    return {
        "WCSAXES": axes, "CRPIX1": galaxy.pixels / 2 + 1, "CRPIX2": galaxy.pixels / 2 + 1, "PC1_1": -step, "PC2_2": step, "CDELT1": 1.0,
        "CDELT2": 1.0, "CUNIT1": "deg", "CUNIT2": "deg", "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": galaxy.ra_deg,
        "CRVAL2": galaxy.dec_deg, "LONPOLE": 180.0, "LATPOLE": galaxy.dec_deg, **third, "RADESYS": "FK5", "EQUINOX": 2000.0,
        "MASKNAME": "MANGA_DAPPIXMASK",
    }  # fmt: skip


def _extensions(galaxy: "MockGalaxy", planes: dict[str, np.ndarray]) -> list[fits.ImageHDU]:
    hdus = []
    for row in _LAYOUTS[galaxy.release].split("\n"):
        if not row:
            continue
        name, channel_text, unit, companions = row.split("|")
        channels = _channels(channel_text, galaxy.release)
        has = companions.replace("-", "").split()
        for suffix in ("", *has):
            full = f"{name}_{suffix}".rstrip("_")
            whole = (len(channels),) if channels else ()
            empty = np.zeros((*whole, *((1, 1) if len(channels) > 5 else (galaxy.pixels, galaxy.pixels))))
            kind = np.int32 if suffix == "MASK" or name == "BINID" else np.float32
            hdu = fits.ImageHDU(planes.get(full, empty).astype(kind), name=full)
            header = hdu.header
            header.update(_wcs_cards(galaxy, 3 if channels else 2))
            for k, channel in enumerate(channels, 1):
                header[f"C{k:0{2 if len(channels) > 9 else 1}d}"] = channel
            its_unit = {"": unit, "IVAR": f"({unit})^{{-2}}" if unit else "", "CNT": _DENSITY}.get(suffix, "")
            if its_unit:
                header["BUNIT"] = its_unit
            header["HDUCLASS"] = "SDSS"
            header["HDUCLAS1"] = "CUBE" if channels or galaxy.release == "DR15" else "IMAGE"
            header["HDUCLAS2"] = {"IVAR": "ERROR", "MASK": "QUALITY"}.get(suffix, "DATA")
            if "IVAR" in has and suffix in ("", "MASK"):
                header["ERRDATA"] = f"{name}_IVAR"
            if "MASK" in has and suffix in ("", "IVAR"):
                header["QUALDATA"] = f"{name}_MASK"
            hdus.append(hdu)
    return hdus


def maps_bytes(galaxy: "MockGalaxy", maps: OpticalMaps, stellar: np.ndarray, daptype: str, lsf_factor: float) -> bytes:
    """Return the gzipped MAPS file of a galaxy; ``stellar`` is the velocity (km/s) of its stars, (y, x).

    The hard cases ``missing_hdu`` (no EMLINE_GVEL) and ``truncated_file`` (the first half of the bytes) are made here.
    """
    planes = _planes(galaxy, maps, stellar, stated_instrument_kms(galaxy.release, lsf_factor))
    hdus = fits.HDUList([_primary(galaxy, daptype), *_extensions(galaxy, planes)])
    if galaxy.hard_case == "missing_hdu":
        del hdus["EMLINE_GVEL"]
    for hdu in hdus:
        hdu.add_checksum(when="mock")
    buffer = io.BytesIO()
    hdus.writeto(buffer)
    packed = gzip.compress(buffer.getvalue(), compresslevel=4, mtime=0)
    return packed[: len(packed) // 2] if galaxy.hard_case == "truncated_file" else packed
