"""MaNGA: targets from drpall, maps from the data analysis pipeline's MAPS files (DR15, DR16, DR17).

Everything is found by extension and line name: the layout moved between releases (H-alpha is channel 19 of 22 in
DR15, 24 of 35 in DR17).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.conventions import log_to_system, magnitude_to_h
from tullyflow.errors import CatalogueError, DataError, SettingsError
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.settings import Settings
from tullyflow.surveys import GalaxyMaps, Product
from tullyflow.surveys.fits_images import celestial_wcs, channel_of_line, image, image_hdus, open_fits, path_of, pixel_scale_arcsec
from tullyflow.surveys.manga_header import centre_of, check_galaxy, file_flags, is_before_dr17, of_another_analysis, psf_of
from tullyflow.surveys.manga_quality import flag_drp_quality, flag_repeats
from tullyflow.surveys.manga_tables import SYSTEMS, merge_tables, read_columns, wanted_tables
from tullyflow.surveys.pipe3d import read_pipe3d
from tullyflow.surveys.releases import addresses, catalogue_product, galaxy_product, kept_under
from tullyflow.surveys.rows import asked_galaxies, check_names, flag_missing, in_this_run, luminosity_distance_mpc

__all__ = ["HDUS", "catalogue_products", "products", "read", "targets"]

_MAIN_SAMPLE = 1 << 10 | 1 << 11 | 1 << 12  # MNGTARG1: primary, secondary, colour-enhanced
_MISSING = -900  # what lies below is -999 or -9999: no value
_BAND_R = 4  # of F, N, u, g, r, i, z
_NEEDED = ("plateifu", "objra", "objdec", "z", "drp3qual", "mngtarg1", "rfwhm", "nsa_elpetro_mass", "nsa_elpetro_absmag",
           "nsa_elpetro_th50_r", "nsa_elpetro_ba", "nsa_elpetro_phi")  # fmt: skip
HDUS = ("SPX_SNR", "BINID", "STELLAR_VEL", "STELLAR_VEL_IVAR", "STELLAR_VEL_MASK", "EMLINE_GFLUX", "EMLINE_GFLUX_IVAR", "EMLINE_GFLUX_MASK",
         "EMLINE_GVEL", "EMLINE_GVEL_IVAR", "EMLINE_GVEL_MASK", "EMLINE_GSIGMA", "EMLINE_GSIGMA_IVAR", "EMLINE_GSIGMA_MASK",
         "EMLINE_INSTSIGMA")  # fmt: skip

_HDUS_OF = {"maps": HDUS}

_PIXEL_BITS = (  # MANGA_DAPPIXMASK
    (0, PIXEL.NO_COVERAGE), (3, PIXEL.FOREGROUND), (4, PIXEL.NO_VALUE), (5, PIXEL.UNRELIABLE), (8, PIXEL.NEAR_BOUND),
    (30, PIXEL.DO_NOT_USE),
)  # fmt: skip


def catalogue_products(release: str, settings: Settings) -> list[Product]:
    """List drpall and the further catalogues that ``manga.tables`` and ``manga.masses`` ask for."""
    daptype = settings.manga.daptype.get(release)
    hdus = {"drpall": ("MANGA",), "dapall": (f"DAPALL|{daptype}" if daptype else "BINTABLE",)}  # DR17 has one table per daptype
    names = ("drpall", *wanted_tables(settings))
    return [catalogue_product("manga", release, name, settings, hdus=hdus.get(name, ("BINTABLE",))) for name in names]


def targets(catalogues: Mapping[str, Path], release: str, settings: Settings) -> pd.DataFrame:
    """Return one row per galaxy of drpall, ordered by plate and IFU.

    Only the main sample (MNGTARG1 bits 10-12) if ``manga.main_sample``, but always the galaxies asked for by name.
    NSA masses (elliptical Petrosian, else Sersic; `SYSTEMS`) and r magnitudes are brought to the settings' h; what further
    catalogues say is merged (`merge_tables`). -9999 and -999 are NaN; a galaxy without mass keeps its row. The volume weight is
    esrweight, of primary, colour-enhanced and down-sampled secondary together (Wake+2017). Repeated observations of a galaxy that
    this run has are flagged. Raises `CatalogueError` for an unreadable catalogue.
    """
    drpall = _read_drpall(catalogues, release)
    name = drpall["plateifu"]
    asked = asked_galaxies(settings, release)
    keep = (drpall["mngtarg1"] & _MAIN_SAMPLE) != 0 if settings.manga.main_sample else (drpall["mngtarg1"] | drpall.get("mngtarg3", 0)) != 0
    keep = keep | np.isin(name, asked or [])
    order = np.lexsort(tuple(_number(name, part) for part in (1, 0)))
    order = order[keep[order]]
    d = {key: values[order] for key, values in drpall.items()}
    h, imf = settings.cosmology.h, settings.cosmology.imf
    mass = np.where(_valid(d["nsa_elpetro_mass"], positive=True), d["nsa_elpetro_mass"], d.get("nsa_sersic_mass", np.nan))
    with np.errstate(divide="ignore", invalid="ignore"):
        log_mstar = log_to_system(np.log10(np.where(mass > 0, mass, np.nan)), SYSTEMS["nsa"], h, imf)
    z = _value(d["z"], positive=True)
    if "nsa_z" in d:
        z = np.where(np.isfinite(z), z, _value(d["nsa_z"], positive=True))
    frame = pd.DataFrame({
        "galaxy": d["plateifu"], "survey": "manga", "release": release, "shard": "",
        "ra_deg": _value(d["objra"]), "dec_deg": _value(d["objdec"]), "z": z, "distance_mpc": luminosity_distance_mpc(z, settings),
        "log_mstar": log_mstar, "imf": np.where(np.isfinite(log_mstar), SYSTEMS["nsa"].imf, ""),
        "r_e_arcsec": _value(d["nsa_elpetro_th50_r"], positive=True), "axis_ratio": _value(d["nsa_elpetro_ba"], positive=True),
        "pa_phot_deg": np.mod(_value(d["nsa_elpetro_phi"]), 180.0),
        "sersic_n": _value(d.get("nsa_sersic_n", np.full(len(z), np.nan)), positive=True),
        "abs_mag_r": magnitude_to_h(_value(d["nsa_elpetro_absmag"][:, _BAND_R]), h),
        "volume_weight": _value(d.get("esrweight", np.full(len(z), np.nan)), positive=True),
        "psf_fwhm_arcsec": _value(d["rfwhm"], positive=True), "drp3qual": d["drp3qual"], "flags": 0, "messages": "", "observation": "",
    })  # fmt: skip
    check_names(frame["galaxy"], f"manga {release} drpall")
    flag_drp_quality(frame)
    flag_repeats(frame, d.get("mangaid"), in_this_run(frame["galaxy"], release, settings))
    merge_tables(frame, catalogues, release, settings)
    return flag_missing(frame)


def _read_drpall(catalogues: Mapping[str, Path], release: str) -> dict[str, np.ndarray]:
    if "drpall" not in catalogues:
        raise CatalogueError(f"manga {release}: drpall was not fetched; its address is in the releases table, or set 'mirror'.")
    path = Path(catalogues["drpall"])
    wanted = ("mngtarg3", "nsa_sersic_mass", "nsa_sersic_n", "nsa_z", "mangaid", "esrweight")
    try:
        return read_columns(path, wanted, "MANGA", _NEEDED)
    except DataError as err:
        raise CatalogueError(f"manga {release}: {err} Fetch it again.") from err


def _number(names: np.ndarray, part: int) -> np.ndarray:
    """Plate (part 0) or IFU (part 1) of plate-ifu names, as numbers to sort by; other names come last."""
    pieces = (name.split("-") for name in names)
    return np.array([int(p[part]) if len(p) == 2 and p[part].isdigit() else np.iinfo(np.int64).max for p in pieces])


def _valid(values, positive: bool = False) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    return np.isfinite(values) & (values > (0 if positive else _MISSING))


def _value(values, positive: bool = False) -> np.ndarray:
    """The survey's -9999 and -999 (and, where only positive values make sense, all others) as NaN."""
    return np.where(_valid(values, positive), np.asarray(values, dtype=float), np.nan)


def products(target: Mapping, release: str, settings: Settings) -> list[Product]:
    """List the file a galaxy needs, its MAPS or (``manga.product``) its Pipe3D cube, and those of ``manga.extra``, which nobody reads."""
    plate, dash, ifu = str(target["galaxy"]).partition("-")
    if not dash:
        raise CatalogueError(f"manga {release}: {target['galaxy']!r} is no plate-ifu name, e.g. 8484-3704.")
    daptype = settings.manga.daptype.get(release)
    if not daptype:
        raise SettingsError(f"manga.daptype has no entry for {release}; add one, e.g. {release}: HYB10-MILESHC-MASTARSSP.")
    main = "maps" if settings.manga.product == "dap" else "pipe3d_cube"
    listed = []
    for dataset in (main, *settings.manga.extra):
        urls = addresses("manga", release, dataset, settings, plate=plate, ifu=ifu, daptype=daptype)
        folder = f"manga/{kept_under('manga', release, dataset, settings)}/{dataset}/{plate}/{ifu}"
        listed.append(galaxy_product(f"{plate}-{ifu}", dataset, urls, folder, _HDUS_OF.get(dataset, ())))
    return listed


def read(paths: Mapping[str, Path], target: Mapping, settings: Settings) -> GalaxyMaps:
    """Read flux, velocity and dispersion of one emission line (``manga.line``) of a MAPS file.

    One mask serves all maps of a galaxy: the pipeline's bits of the line's flux, velocity and dispersion together, and
    inverse variances that are not positive. dispersion_sq = GSIGMA^2 - (INSTSIGMA f)^2, with f = ``manga.lsf_factor`` for
    DR15/16 (Law+2021; older line-spread functions are too narrow) and 1 for DR17, by the version in the file (VERSDAP), else by
    the release; a file of another release or DAPTYPE than asked for is a QUALITY_WARNING. The error is 2 GSIGMA err(GSIGMA).
    Velocities are relative to the input redshift (SCINPVEL). Coverage: SPX_SNR is 0 outside the fibre bundle (the DR17
    files do not set NOCOV there). Masked stellar velocities are NaN.
    With ``manga.reader: marvin`` the file is what ``marvin_reader.py`` made of the MAPS: same names, one line.
    With ``manga.product: pipe3d`` the Pipe3D cube is read instead (`pipe3d.read_pipe3d`).
    Raises `DataError`: MISSING_FILE, UNREADABLE_FILE, MISSING_HDU, NO_WCS.
    """
    galaxy = str(target["galaxy"])
    if settings.manga.product == "pipe3d":
        return read_pipe3d(path_of(paths, "pipe3d_cube", galaxy), target, settings)
    path = path_of(paths, "marvin" if settings.manga.reader == "marvin" else "maps", galaxy)
    with open_fits(path, HDUS) as hdus:
        primary = hdus[0].header
        if "REFUSED" in primary:
            raise DataError(GALAXY.UNREADABLE_FILE, f"{galaxy}: Marvin cannot read its MAPS file: {primary['REFUSED']}.")
        check_galaxy(primary, galaxy, path)
        parts = image_hdus(hdus, HDUS, path)
        maps = _line_maps(parts, settings.manga.line, path)
        velocity_header = parts["EMLINE_GVEL"].header
        snr = image(parts["SPX_SNR"], path)
        # plane 1 holds the bins of the stellar kinematics, plane 3 those of the emission-line model
        bin_id = image(parts["BINID"], path, plane=3, dtype=np.int64)
        stellar, stellar_err = _stellar(parts, path)
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
    release = str(target.get("release", ""))
    factor = settings.manga.lsf_factor if is_before_dr17(primary, release) else 1.0
    dispersion_sq = sigma**2 - (maps["EMLINE_INSTSIGMA"] * factor) ** 2
    mask[dispersion_sq < 0] |= PIXEL.NEGATIVE_DISPERSION

    flags, messages = file_flags(primary)
    doubts = of_another_analysis(primary, release, settings.manga.daptype.get(release))
    return GalaxyMaps(
        galaxy=galaxy, velocity=velocity, velocity_err=velocity_err, mask=mask, wcs=wcs, centre=centre_of(wcs, primary, target),
        pixel_scale_arcsec=pixel_scale_arcsec(wcs), intensity=intensity, intensity_err=intensity_err,
        intensity_unit="1e-17 erg/s/cm^2/spaxel",
        dispersion_sq=dispersion_sq, dispersion_sq_err=2 * sigma * sigma_err, stellar_velocity=stellar, stellar_velocity_err=stellar_err,
        bin_id=bin_id, psf_fwhm_arcsec=psf_of(primary, target), fov_pixels=int(covered.sum()),
        flags=flags | (GALAXY.QUALITY_WARNING if doubts else 0), messages=(*messages, *doubts),
        history={**{key: str(primary.get(key, "")) for key in ("VERSDRP3", "VERSDAP", "DAPTYPE", "SCINPVEL")},
                 "LINE": settings.manga.line, "LSFACTOR": f"{factor:g}"},
    )  # fmt: skip


def _line_maps(parts: Mapping, line: str, path: Path) -> dict[str, np.ndarray]:
    """The plane of the line of every extension of emission lines."""
    maps, key = {}, ""
    for name in (n for n in HDUS if n.startswith("EMLINE")):
        header = parts[name].header
        plane = channel_of_line(header, line, path, key)
        key = key or next(k for k in (f"C{plane + 1:02d}", f"C{plane + 1}") if k in header)
        maps[name] = image(parts[name], path, plane=plane, dtype=np.int64 if name.endswith("_MASK") else float)
    return maps


def _stellar(parts: Mapping, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Stellar velocity and its error; NaN where a bit forbids use, or the inverse variance is not positive."""
    forbidden = sum(1 << bit for bit, _ in _PIXEL_BITS)
    masked = (image(parts["STELLAR_VEL_MASK"], path, dtype=np.int64) & forbidden) != 0
    velocity, ivar = image(parts["STELLAR_VEL"], path), image(parts["STELLAR_VEL_IVAR"], path)
    masked |= ~(ivar > 0)
    return np.where(masked, np.nan, velocity), np.where(masked, np.nan, 1 / np.sqrt(np.where(ivar > 0, ivar, 1.0)))


def _with_error(maps: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """A map and its 1 sigma; NaN where the inverse variance is not positive."""
    ivar = maps[f"EMLINE_{name}_IVAR"]
    good = np.isfinite(ivar) & (ivar > 0)
    error = np.full(ivar.shape, np.nan)
    error[good] = 1 / np.sqrt(ivar[good])
    return maps[f"EMLINE_{name}"], error
