"""MaNGA: targets from drpall, maps from the data analysis pipeline's MAPS files (DR15, DR16, DR17).

Everything is found by extension and line name: the layout moved between releases (H-alpha is channel 19 of 22 in
DR15, 24 of 35 in DR17).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.conventions import magnitude_to_h, mass_to_h
from tullyflow.errors import CatalogueError, DataError, SettingsError
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.settings import Settings
from tullyflow.surveys import GalaxyMaps, Product
from tullyflow.surveys.fits_images import celestial_wcs, channel_of_line, image, image_hdu, open_fits, path_of, pixel_scale_arcsec
from tullyflow.surveys.manga_quality import flag_drp_quality, judge_quality
from tullyflow.surveys.releases import addresses, catalogue_product, galaxy_product
from tullyflow.surveys.rows import add_flag, asked_galaxies, check_names, flag_missing, luminosity_distance_mpc

__all__ = ["HDUS", "catalogue_products", "products", "read", "targets"]

_MAIN_SAMPLE = 1 << 10 | 1 << 11 | 1 << 12  # MNGTARG1: primary, secondary, colour-enhanced
_BAND_R = 4  # of F, N, u, g, r, i, z
_NEEDED = ("plateifu", "objra", "objdec", "z", "drp3qual", "mngtarg1", "rfwhm", "nsa_elpetro_mass", "nsa_elpetro_absmag",
           "nsa_elpetro_th50_r", "nsa_elpetro_ba", "nsa_elpetro_phi")  # fmt: skip
HDUS = ("SPX_SNR", "BINID", "STELLAR_VEL", "STELLAR_VEL_MASK", "EMLINE_GFLUX", "EMLINE_GFLUX_IVAR", "EMLINE_GFLUX_MASK",
         "EMLINE_GVEL", "EMLINE_GVEL_IVAR", "EMLINE_GVEL_MASK", "EMLINE_GSIGMA", "EMLINE_GSIGMA_IVAR", "EMLINE_GSIGMA_MASK",
         "EMLINE_INSTSIGMA")  # fmt: skip

_PIXEL_BITS = (  # MANGA_DAPPIXMASK
    (0, PIXEL.NO_COVERAGE), (3, PIXEL.FOREGROUND), (4, PIXEL.NO_VALUE), (5, PIXEL.UNRELIABLE), (8, PIXEL.NEAR_BOUND),
    (30, PIXEL.DO_NOT_USE),
)  # fmt: skip


def catalogue_products(release: str, settings: Settings) -> list[Product]:
    """List the one catalogue: drpall."""
    return [catalogue_product("manga", release, "drpall", settings)]


def targets(catalogues: Mapping[str, Path], release: str, settings: Settings) -> pd.DataFrame:
    """Return one row per galaxy of drpall, ordered by plate and IFU.

    Only the main sample (MNGTARG1 bits 10-12) if ``manga.main_sample``, but always the galaxies asked for by name.
    NSA masses (elliptical Petrosian, else Sersic; h = 1, Chabrier) and r magnitudes are brought to the settings' h.
    -9999 is NaN; a galaxy without mass keeps its row. Raises `CatalogueError` for an unreadable drpall.
    """
    drpall = _read_drpall(catalogues, release)
    name = drpall["plateifu"]
    asked = asked_galaxies(settings, release)
    keep = (drpall["mngtarg1"] & _MAIN_SAMPLE) != 0 if settings.manga.main_sample else (drpall["mngtarg1"] | drpall.get("mngtarg3", 0)) != 0
    keep = keep | np.isin(name, asked or [])
    order = np.lexsort(tuple(_number(name, part) for part in (1, 0)))
    order = order[keep[order]]
    d = {key: values[order] for key, values in drpall.items()}
    h = settings.cosmology.h
    mass = np.where(_valid(d["nsa_elpetro_mass"], positive=True), d["nsa_elpetro_mass"], d.get("nsa_sersic_mass", np.nan))
    with np.errstate(divide="ignore", invalid="ignore"):
        log_mstar = np.log10(mass_to_h(np.where(mass > 0, mass, np.nan), h))
    z = _value(d["z"])
    if "nsa_z" in d:
        z = np.where(np.isfinite(z), z, _value(d["nsa_z"]))
    frame = pd.DataFrame({
        "galaxy": d["plateifu"], "survey": "manga", "release": release, "shard": "",
        "ra_deg": _value(d["objra"]), "dec_deg": _value(d["objdec"]), "z": z, "distance_mpc": luminosity_distance_mpc(z, settings),
        "log_mstar": log_mstar, "imf": np.where(np.isfinite(log_mstar), "chabrier", ""),
        "r_e_arcsec": _value(d["nsa_elpetro_th50_r"], positive=True), "axis_ratio": _value(d["nsa_elpetro_ba"], positive=True),
        "pa_phot_deg": np.mod(_value(d["nsa_elpetro_phi"]), 180.0),
        "sersic_n": _value(d.get("nsa_sersic_n", np.full(len(z), np.nan)), positive=True),
        "abs_mag_r": magnitude_to_h(_value(d["nsa_elpetro_absmag"][:, _BAND_R]), h),
        "psf_fwhm_arcsec": _value(d["rfwhm"], positive=True), "drp3qual": d["drp3qual"], "flags": 0, "messages": "", "observation": "",
    })  # fmt: skip
    check_names(frame["galaxy"], f"manga {release} drpall")
    flag_drp_quality(frame)
    _flag_repeats(frame, d.get("mangaid"), asked)
    return flag_missing(frame)


def _read_drpall(catalogues: Mapping[str, Path], release: str) -> dict[str, np.ndarray]:
    if "drpall" not in catalogues:
        raise CatalogueError(f"manga {release}: drpall was not fetched; its address is in the releases table, or set 'mirror'.")
    path = Path(catalogues["drpall"])
    try:
        with open_fits(path) as hdus:
            tables = [hdu for hdu in hdus[1:] if not hdu.is_image]
            table = next((hdu for hdu in tables if hdu.name == "MANGA"), tables[0] if tables else None)
            if table is None:
                raise CatalogueError(f"{path}: holds no table called MANGA.")
            names = {str(name).lower(): name for name in table.columns.names}
            missing = [name for name in _NEEDED if name not in names]
            if missing:
                raise CatalogueError(f"{path}: drpall lacks column(s) {', '.join(missing)}.")
            wanted = (*_NEEDED, "mngtarg3", "nsa_sersic_mass", "nsa_sersic_n", "nsa_z", "mangaid")
            columns = {name: np.array(table.data[names[name]]) for name in wanted if name in names}
    except DataError as err:
        raise CatalogueError(f"manga {release}: {err} Fetch it again.") from err
    native = {k: v.astype(v.dtype.newbyteorder("=")) if v.dtype.kind in "iuf" else np.char.strip(v.astype(str)) for k, v in columns.items()}
    return native


def _number(names: np.ndarray, part: int) -> np.ndarray:
    """Plate (part 0) or IFU (part 1) of plate-ifu names, as numbers to sort by; other names come last."""
    pieces = (name.split("-") for name in names)
    return np.array([int(p[part]) if len(p) == 2 and p[part].isdigit() else np.iinfo(np.int64).max for p in pieces])


def _valid(values, positive: bool = False) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    return np.isfinite(values) & (values > (0 if positive else -9000))


def _value(values, positive: bool = False) -> np.ndarray:
    """The survey's -9999 (and, where only positive values make sense, all others) as NaN."""
    return np.where(_valid(values, positive), np.asarray(values, dtype=float), np.nan)


def _flag_repeats(frame: pd.DataFrame, mangaid: np.ndarray | None, asked: list[str] | None) -> None:
    """Flag all but one observation of a galaxy seen more than once: the one kept is not critical and has the largest IFU.

    Where galaxies were asked for by name only those count.
    """
    if mangaid is None:
        return
    known = np.array([text not in ("", "-9999", "NA") for text in mangaid], dtype=bool)
    if asked is not None:
        known &= np.isin(frame["galaxy"], asked)
    bad = (frame["flags"].to_numpy() & GALAXY.QUALITY_BAD != 0) | ~known
    order = np.lexsort((np.arange(len(frame)), -_number(frame["galaxy"].to_numpy(), 1), bad))
    ranked = pd.Series(mangaid[order], index=order)
    repeat = np.zeros(len(frame), dtype=bool)
    repeat[ranked.index[ranked.duplicated()]] = True
    first = ranked.drop_duplicates()
    chosen = dict(zip(first.to_numpy(), frame["galaxy"].to_numpy()[first.index], strict=True))
    add_flag(frame, repeat & known, GALAXY.DUPLICATE, [f"The same galaxy as {chosen[text]} (MaNGA-ID {text})." for text in mangaid])


def products(target: Mapping, release: str, settings: Settings) -> list[Product]:
    """List the one file a galaxy needs: its MAPS."""
    plate, dash, ifu = str(target["galaxy"]).partition("-")
    if not dash:
        raise CatalogueError(f"manga {release}: {target['galaxy']!r} is no plate-ifu name, e.g. 8484-3704.")
    daptype = settings.manga.daptype.get(release)
    if not daptype:
        raise SettingsError(f"manga.daptype has no entry for {release}; add one, e.g. {release}: HYB10-MILESHC-MASTARSSP.")
    urls = addresses("manga", release, "maps", settings, plate=plate, ifu=ifu, daptype=daptype)
    return [galaxy_product(f"{plate}-{ifu}", "maps", urls, f"manga/{release}/maps/{plate}/{ifu}", HDUS)]


def read(paths: Mapping[str, Path], target: Mapping, settings: Settings) -> GalaxyMaps:
    """Read flux, velocity and dispersion of one emission line (``manga.line``) of a MAPS file.

    One mask serves all maps of a galaxy: the pipeline's bits of the line's flux, velocity and dispersion together, and
    inverse variances that are not positive. dispersion_sq = GSIGMA^2 - (INSTSIGMA f)^2, with f = ``manga.lsf_factor`` for
    DR15/16 (Law+2021; older line-spread functions are too narrow) and 1 for DR17; its error is 2 GSIGMA err(GSIGMA).
    Velocities are relative to the input redshift (SCINPVEL). Coverage: SPX_SNR is 0 outside the fibre bundle (the DR17
    files do not set NOCOV there). Masked stellar velocities are NaN.
    With ``manga.reader: marvin`` the file is what ``marvin_reader.py`` made of the MAPS: same names, one line.
    Raises `DataError`: MISSING_FILE, UNREADABLE_FILE, MISSING_HDU, NO_WCS.
    """
    galaxy = str(target["galaxy"])
    path = path_of(paths, "marvin" if settings.manga.reader == "marvin" else "maps", galaxy)
    with open_fits(path) as hdus:
        primary = hdus[0].header
        if "REFUSED" in primary:
            raise DataError(GALAXY.UNREADABLE_FILE, f"{galaxy}: Marvin cannot read its MAPS file: {primary['REFUSED']}.")
        if str(primary.get("PLATEIFU", galaxy)).strip() != galaxy:
            raise DataError(GALAXY.UNREADABLE_FILE, f"{path.name}: holds {primary['PLATEIFU']}, not {galaxy}.")
        maps = {name: _line_map(hdus, name, settings.manga.line, path) for name in HDUS if name.startswith("EMLINE")}
        velocity_header = hdus["EMLINE_GVEL"].header
        snr = image(image_hdu(hdus, "SPX_SNR", path), path)
        bins = image_hdu(hdus, "BINID", path)
        # plane 1 holds the bins of the stellar kinematics, plane 3 those of the emission-line model
        bin_id = image(bins, path, plane=3, dtype=np.int64)
        stellar, stellar_mask = _stellar(hdus, path)
    wcs = celestial_wcs(velocity_header, path)

    bits = np.bitwise_or.reduce([maps[f"EMLINE_{k}_MASK"].astype(np.int64) for k in ("GFLUX", "GVEL", "GSIGMA")])
    mask = np.zeros(bits.shape, dtype=np.int32)
    for bit, pixel in _PIXEL_BITS:
        mask[(bits >> bit & 1) == 1] |= pixel
    covered = (snr != 0) & np.isfinite(snr) & ((bits & 1) == 0)
    mask[~covered] |= PIXEL.NO_COVERAGE
    intensity, intensity_err = _with_error(maps, "GFLUX")
    velocity, velocity_err = _with_error(maps, "GVEL")
    sigma, sigma_err = _with_error(maps, "GSIGMA")
    mask[~np.isfinite(intensity + intensity_err + velocity + velocity_err)] |= PIXEL.NO_VALUE
    factor = settings.manga.lsf_factor if _is_before_dr17(target, primary) else 1.0
    dispersion_sq = sigma**2 - (maps["EMLINE_INSTSIGMA"] * factor) ** 2
    mask[dispersion_sq < 0] |= PIXEL.NEGATIVE_DISPERSION

    flags, messages = _file_flags(primary)
    return GalaxyMaps(
        galaxy=galaxy, velocity=velocity, velocity_err=velocity_err, mask=mask, wcs=wcs, centre=_centre(wcs, primary, target),
        pixel_scale_arcsec=pixel_scale_arcsec(wcs), intensity=intensity, intensity_err=intensity_err,
        intensity_unit="1e-17 erg/s/cm^2/spaxel",
        dispersion_sq=dispersion_sq, dispersion_sq_err=2 * sigma * sigma_err, stellar_velocity=np.where(stellar_mask, np.nan, stellar),
        bin_id=bin_id, psf_fwhm_arcsec=_psf(primary, target), fov_pixels=int(covered.sum()), flags=flags, messages=messages,
        history={**{key: str(primary.get(key, "")) for key in ("VERSDRP3", "VERSDAP", "DAPTYPE", "SCINPVEL")},
                 "LINE": settings.manga.line, "LSFACTOR": f"{factor:g}"},
    )  # fmt: skip


def _line_map(hdus, name: str, line: str, path: Path) -> np.ndarray:
    hdu = image_hdu(hdus, name, path)
    return image(hdu, path, plane=channel_of_line(hdu.header, line, path), dtype=np.int64 if name.endswith("_MASK") else float)


def _stellar(hdus, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Stellar velocity and where it is masked (any bit that forbids use)."""
    forbidden = sum(1 << bit for bit, _ in _PIXEL_BITS)
    velocity = image(image_hdu(hdus, "STELLAR_VEL", path), path)
    return velocity, (image(image_hdu(hdus, "STELLAR_VEL_MASK", path), path, dtype=np.int64) & forbidden) != 0


def _with_error(maps: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """A map and its 1 sigma; NaN where the inverse variance is not positive."""
    ivar = maps[f"EMLINE_{name}_IVAR"]
    good = np.isfinite(ivar) & (ivar > 0)
    error = np.full(ivar.shape, np.nan)
    error[good] = 1 / np.sqrt(ivar[good])
    return maps[f"EMLINE_{name}"], error


def _is_before_dr17(target: Mapping, primary) -> bool:
    """Whether the line-spread function is the older one: by the release, else by the pipeline version of the file (DR17: 3.1.0)."""
    release = str(target.get("release", ""))
    if release in ("DR15", "DR16", "DR17"):
        return release != "DR17"
    major = str(primary.get("VERSDAP", "3")).strip()[:1]
    return major.isdigit() and int(major) < 3


def _centre(wcs, primary, target: Mapping) -> tuple[float, float]:
    """Pixel of the object (OBJRA, OBJDEC), where SPX_SKYCOO is (0, 0)."""
    ra, dec = primary.get("OBJRA", target.get("ra_deg")), primary.get("OBJDEC", target.get("dec_deg"))
    x, y = wcs.wcs_world2pix([[float(ra), float(dec)]], 0)[0]
    if not np.isfinite([x, y]).all():
        raise DataError(GALAXY.NO_WCS, f"{target['galaxy']}: the object's position is not on the map's sky.")
    return float(x), float(y)


def _psf(primary, target: Mapping) -> float:
    width = float(target.get("psf_fwhm_arcsec", np.nan))
    return width if np.isfinite(width) else float(primary.get("RFWHM", np.nan))


def _file_flags(primary) -> tuple[int, tuple[str, ...]]:
    judged = [judge_quality(key, int(primary.get(key, 0))) for key in ("DRP3QUAL", "DAPQUAL")]
    flags = judged[0][0] | judged[1][0] | (GALAXY.MOCK if primary.get("MOCK") is True else 0)
    return flags, tuple(sentence for _, sentence in judged if sentence)
