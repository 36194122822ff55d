"""SAMI: targets from the input catalogues and CubeObs, maps from the emission-line and stellar kinematics files.

The archive has no static addresses: files are found in an archive folder (setting ``mirror``) laid out as
``datacentral/sami/{release}/{catalogues,ifs}``.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.errors import CatalogueError, DataError
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.settings import Settings
from tullyflow.surveys import GalaxyMaps, Product
from tullyflow.surveys.fits_images import celestial_wcs, image, image_hdu, open_fits, path_of, pixel_scale_arcsec
from tullyflow.surveys.releases import addresses, catalogue_product, file_name, galaxy_product
from tullyflow.surveys.rows import add_flag, check_names, flag_missing, luminosity_distance_mpc, read_csv

__all__ = ["catalogue_products", "products", "read", "targets"]

log = logging.getLogger("tullyflow")

_INPUT = ("catid", "ra_obj", "dec_obj", "z_spec", "m_r", "r_e", "ellip", "pa", "mstar", "bad_class")
_GOOD_CLASS = (0, 5, 8)
_WARNINGS = ("warnz", "warnmult", "warnfcal", "warnfcbr", "warnskyr", "warnwcs")  # those that concern H-alpha maps
_LISTED_TWICE = {"9008500001": "9008500002"}  # one galaxy under two names (SAMI DR3 notes)
_MAPS = ("Halpha", "gas-velocity", "gas-vdisp")
_STARS = "stellar-velocity"
_ERRORS = {"Halpha": "HALPHA_ERR", "gas-velocity": "V_ERR", "gas-vdisp": "VDISP_ERR"}


def catalogue_products(release: str, settings: Settings) -> list[Product]:
    """List the catalogue tables; each may be called with or without ``sami_`` or ``samiDR3`` in front."""
    names = [f"InputCatGAMA{release}", f"InputCatClusters{release}", "CubeObs", f"VisualMorphology{release}"]
    return [_with_spellings(name, release, settings) for name in names]


def _with_spellings(dataset: str, release: str, settings: Settings) -> Product:
    plain = dataset.removesuffix(release)
    bases = dict.fromkeys((dataset, plain))
    spellings = [f"{prefix}{base}.csv" for base in bases for prefix in ("", "sami_", f"sami{release}", f"sami_sami{release}")]
    return catalogue_product("sami", release, dataset, settings, spellings=tuple(spellings))


def targets(catalogues: Mapping[str, Path], release: str, settings: Settings) -> pd.DataFrame:
    """Return one row per galaxy of CubeObs: its best cube (ISBEST), stars (WARNSTAR) left out, ordered by CATID.

    Masses are log10 Msun (Chabrier, h = 0.7), M_r absolute r magnitudes, axis ratio 1 - ellipticity. Galaxies in no input
    catalogue (fillers) keep their row without photometry. Raises `CatalogueError` where CubeObs or the GAMA input is absent.
    """
    for needed in ("CubeObs", f"InputCatGAMA{release}"):
        if needed not in catalogues:
            folder = f"<mirror>/datacentral/sami/{release.lower()}/catalogues"
            raise CatalogueError(f"sami {release}: the table {needed} was not found; put {needed}.csv into {folder}.")
    cubes = _best_cubes(Path(catalogues["CubeObs"]), release)
    names = (f"InputCatGAMA{release}", f"InputCatClusters{release}")
    inputs = [read_csv(catalogues[name], _INPUT, text=("catid",)) for name in names if name in catalogues]
    photometry = pd.concat([table[list(_INPUT)] for table in inputs]).drop_duplicates("catid")
    d = cubes.merge(photometry, on="catid", how="left")
    morphology = _morphology(catalogues.get(f"VisualMorphology{release}"), d["catid"])
    z = d["z_spec"].to_numpy(dtype=float)
    frame = pd.DataFrame({
        "galaxy": d["catid"], "survey": "sami", "release": release, "shard": "", "ra_deg": d["ra_obj"], "dec_deg": d["dec_obj"],
        "z": z, "distance_mpc": luminosity_distance_mpc(z, settings), "log_mstar": d["mstar"],
        "imf": np.where(np.isfinite(d["mstar"]), "chabrier", ""), "r_e_arcsec": d["r_e"].where(d["r_e"] > 0),
        "axis_ratio": (1 - d["ellip"]).where(lambda q: (q > 0) & (q <= 1)), "pa_phot_deg": np.mod(d["pa"], 180.0), "morphology": morphology,
        "abs_mag_r": d["m_r"], "psf_fwhm_arcsec": d["cubefwhm"].where(d["cubefwhm"] > 0), "drp3qual": 0,
        "flags": 0, "messages": "", "observation": d["cubeidpub"],
    })  # fmt: skip
    check_names(frame["galaxy"], f"sami {release} CubeObs")
    bad = d["bad_class"].notna() & ~d["bad_class"].isin(_GOOD_CLASS)
    add_flag(frame, bad, GALAXY.QUALITY_BAD, [f"bad_class is {value:g} (good: 0, 5, 8)." for value in d["bad_class"]])
    warned = d[[name for name in _WARNINGS if name in d]].fillna(0) != 0
    sentences = [f"CubeObs warns: {', '.join(warned.columns[row])}." for row in warned.to_numpy()]
    add_flag(frame, warned.any(axis=1), GALAXY.QUALITY_WARNING, sentences)
    listed = set(frame["galaxy"])
    twice = [_LISTED_TWICE.get(name) in listed for name in frame["galaxy"]]
    add_flag(frame, twice, GALAXY.DUPLICATE, [f"The same galaxy as {_LISTED_TWICE.get(name)}." for name in frame["galaxy"]])
    return flag_missing(frame)


def _best_cubes(path: Path, release: str) -> pd.DataFrame:
    cubes = read_csv(path, ("catid", "cubeidpub", "cubefwhm", "isbest", "warnstar"), text=("catid", "cubeidpub"))
    best = cubes["isbest"].astype(str).str.strip().str.lower().isin(("true", "t", "1", "1.0", "yes"))
    star = pd.to_numeric(cubes["warnstar"], errors="coerce").fillna(0) != 0
    kept = cubes[best & ~star].drop_duplicates("catid")
    lost = set(cubes.loc[~star, "catid"]) - set(kept["catid"])
    repeats = int((~best & ~star).sum())
    log.info("sami %s: %d cubes, %d galaxies (%d repeats, %d cubes of stars)", release, len(cubes), len(kept), repeats, int(star.sum()))
    if lost:
        shown = ", ".join(sorted(lost)[:5])
        log.warning("sami %s: %d galaxies have no cube marked ISBEST, their first is used: %s", release, len(lost), shown)
        kept = pd.concat([kept, cubes[~star & cubes["catid"].isin(lost)].drop_duplicates("catid")])
    number = pd.to_numeric(kept["catid"], errors="coerce")
    return kept.assign(_order=number).sort_values(["_order", "catid"]).drop(columns="_order").reset_index(drop=True)


def _morphology(path: Path | None, names: pd.Series) -> np.ndarray:
    """Visual type as text (0 E, 1 S0, 2 early, 3 late spiral); empty where unknown (5, -9) or the table is absent."""
    if path is None:
        return np.full(len(names), "")
    table = read_csv(path, ("catid", "type"), text=("catid",)).drop_duplicates("catid").set_index("catid")["type"]
    types = names.map(table)
    return np.array([f"{value:g}" if 0 <= value <= 3 else "" for value in types])


def products(target: Mapping, release: str, settings: Settings) -> list[Product]:
    """List the four maps of a galaxy's best cube: H-alpha, gas velocity, gas dispersion, stellar velocity."""
    galaxy, cube = str(target["galaxy"]), str(target["observation"]) or f"{target['galaxy']}_A"
    listed = []
    for name in (*_MAPS, _STARS):
        components = "two-moment" if name == _STARS else settings.sami.components
        places = {"catid": galaxy, "cube": cube, "product": name, "binning": settings.sami.binning, "components": components}
        urls = addresses("sami", release, "maps", settings, **places)
        if release == "DR2":  # names of that release may lack the letter of the repeat
            urls = (*urls, *(url.replace(f"/{cube}_", f"/{galaxy}_") for url in urls))
        listed.append(galaxy_product(galaxy, name, urls, f"sami/{release}/maps/{galaxy}"))
    return listed


def read(paths: Mapping[str, Path], target: Mapping, settings: Settings) -> GalaxyMaps:
    """Read H-alpha, gas velocity and gas dispersion (plane 0: the total, or the first component) of one cube.

    gas-vdisp is corrected for the instrument already: dispersion_sq = vdisp^2, its error 2 vdisp err. Velocities are
    relative to the catalogue's redshift. Pixels with no value in any of the files were not covered.
    The stellar velocity is optional. Raises `DataError`: MISSING_FILE, UNREADABLE_FILE, MISSING_HDU, NO_WCS.
    """
    galaxy = str(target["galaxy"])
    maps, header, unit = {}, None, ""
    for name in _MAPS:
        path = path_of(paths, name, galaxy)
        with open_fits(path) as hdus:
            first = image_hdu(hdus, 0, path)
            maps[name] = image(first, path, plane=0)
            maps[f"{name} error"] = image(image_hdu(hdus, _ERRORS[name], path), path, plane=0)
            if name == "Halpha":
                unit = str(first.header.get("BUNIT", "")).strip()
            if name == "gas-velocity":
                header, wcs = first.header.copy(), celestial_wcs(first.header, path)
    stellar = _stellar(paths)
    shapes = {name: values.shape for name, values in maps.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(GALAXY.MISSING_HDU, f"{galaxy}: the maps differ in size: {shapes}.")
    velocity = maps["gas-velocity"]
    if stellar is not None and stellar.shape != velocity.shape:
        stellar = None

    covered = np.isfinite([maps[name] for name in _MAPS]).any(axis=0)
    if stellar is not None:
        covered |= np.isfinite(stellar)
    errors = {name: np.where(maps[f"{name} error"] > 0, maps[f"{name} error"], np.nan) for name in _MAPS}
    mask = np.where(covered, 0, PIXEL.NO_COVERAGE).astype(np.int32)
    mask[~np.isfinite(velocity + errors["gas-velocity"] + maps["Halpha"] + errors["Halpha"])] |= PIXEL.NO_VALUE
    return GalaxyMaps(
        galaxy=galaxy, velocity=velocity, velocity_err=errors["gas-velocity"], mask=mask, wcs=wcs,
        centre=tuple(float(v) - 1 for v in wcs.wcs.crpix), pixel_scale_arcsec=pixel_scale_arcsec(wcs),
        intensity=maps["Halpha"], intensity_err=errors["Halpha"], intensity_unit=unit,
        dispersion_sq=maps["gas-vdisp"] ** 2, dispersion_sq_err=2 * maps["gas-vdisp"] * errors["gas-vdisp"], stellar_velocity=stellar,
        psf_fwhm_arcsec=float(target.get("psf_fwhm_arcsec", np.nan)), fov_pixels=int(covered.sum()),
        flags=GALAXY.MOCK if header.get("MOCK") is True else 0,
        messages=() if stellar is not None else (f"{galaxy}: no stellar velocity map.",),
        history={"CUBE": str(target.get("observation", "")), "FILES": file_name(str(paths["Halpha"]))},
    )  # fmt: skip


def _stellar(paths: Mapping[str, Path]) -> np.ndarray | None:
    """The stellar velocity (km/s), or None: it serves the comparison of stars and gas only."""
    if _STARS not in paths:
        return None
    path = Path(paths[_STARS])
    try:
        with open_fits(path) as hdus:
            return image(image_hdu(hdus, 0, path), path, plane=0)
    except DataError as err:
        log.warning("%s", err)
        return None
