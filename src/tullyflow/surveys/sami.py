"""SAMI: targets from the catalogue tables, maps from the emission-line and stellar kinematics files.

Tables come from Data Central's table service (TAP) or an archive folder; map files have no static addresses and come from an
archive folder (setting ``mirror``, laid out as ``datacentral/sami/{release}/{catalogues,ifs}``) or the bulk download service.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.coordinates import angular_separation

from tullyflow.conventions import log_mass_to_light, log_to_system, magnitude_to_h
from tullyflow.errors import DataError
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.settings import Settings
from tullyflow.surveys import GalaxyMaps, Product
from tullyflow.surveys.fits_images import celestial_wcs, image, image_hdu, open_fits, path_of, pixel_scale_arcsec
from tullyflow.surveys.releases import addresses, catalogue_product, datasets, file_name, galaxy_product
from tullyflow.surveys.rows import add_flag, check_names, flag_missing, in_this_run, luminosity_distance_mpc
from tullyflow.surveys.sami_counts import flag_unlisted, warn_of_short_tables
from tullyflow.surveys.sami_tables import (
    LICK_FLAG,
    NEEDED,
    SYSTEM,
    WARNINGS,
    input_catalogue,
    mge_photometry,
    morphology,
    observed_cubes,
    populations,
)

__all__ = ["catalogue_products", "products", "read", "targets"]

log = logging.getLogger("tullyflow")

_GOOD_CLASS = (0, 5, 8)
_LISTED_TWICE = {"9008500001": "9008500002"}  # one galaxy under two names (SAMI DR3 notes)
_MAPS = ("Halpha", "gas-velocity", "gas-vdisp")
_STARS = "stellar-velocity"
_ERRORS = {"Halpha": "HALPHA_ERR", "gas-velocity": "V_ERR", "gas-vdisp": "VDISP_ERR"}
_PLANES = {"1-comp": {"Halpha": 2, "gas-velocity": 1, "gas-vdisp": 1}, "recom-comp": {"Halpha": 4, "gas-velocity": 3, "gas-vdisp": 3}}
_PIXEL_ARCSEC = 0.5
_SAME_PLACE_ARCSEC = 5.0  # fibre bundles lie up to 3 arcsec from their object (InputCatGAMADR3)


def catalogue_products(release: str, settings: Settings) -> list[Product]:
    """List the release's tables in ``releases.csv``; in a folder each may be called with or without ``sami_`` or ``samiDR3`` in front."""
    return [_with_spellings(name, release, settings) for name in datasets("sami", release, settings) if name != "maps"]


def _with_spellings(dataset: str, release: str, settings: Settings) -> Product:
    plain = dataset.removeprefix(f"sami{release}").removesuffix(release)
    bases = dict.fromkeys((dataset, plain))
    spellings = [f"{prefix}{base}.csv" for base in bases for prefix in ("", "sami_", f"sami{release}", f"sami_sami{release}")]
    product = catalogue_product("sami", release, dataset, settings, spellings=tuple(spellings))
    return replace(product, columns=NEEDED.get(plain, ()))


def targets(catalogues: Mapping[str, Path], release: str, settings: Settings) -> pd.DataFrame:
    """Return one row per galaxy observed: its best cube (ISBEST), stars (WARNSTAR) left out, ordered by CATID.

    Masses are log10 Msun (Chabrier), M_r absolute r magnitudes, both brought from h = 0.7 to the settings' h; axis ratio
    1 - ellipticity. Repeats are named in the row's message. Fillers keep their row, without mass or magnitude, and so does a galaxy
    that no input table lists (its message says which table is absent or short). Star formation, age and M/L are NaN where their
    tables are absent. Raises `CatalogueError` where no table lists cubes, or the GAMA input is absent.
    """
    if settings.mock is None:
        warn_of_short_tables(catalogues, release)
    cubes = observed_cubes(catalogues, release)
    d = cubes.merge(input_catalogue(catalogues, release), on="catid", how="left")
    mge = mge_photometry(catalogues, d["catid"], release)
    from_mge = np.zeros(len(d), dtype=bool)
    if mge is not None:
        from_mge = d["r_e"].isna().to_numpy() & mge["r_e"].notna().to_numpy()
        d.loc[from_mge, ["r_e", "ellip"]] = mge.loc[from_mge, ["r_e", "ellip"]].to_numpy()
    known = populations(catalogues, cubes, release)
    z = d["z_spec"].to_numpy(dtype=float)
    mass, log_sfr = (log_to_system(x, SYSTEM, settings.cosmology.h, settings.cosmology.imf) for x in (d["mstar"], known["log_sfr"]))
    magnitude = magnitude_to_h(d["m_r"] - 5 * np.log10(SYSTEM.h), settings.cosmology.h)
    frame = pd.DataFrame({
        "galaxy": d["catid"], "survey": "sami", "release": release, "shard": "", "ra_deg": d["ra_obj"], "dec_deg": d["dec_obj"],
        "z": z, "distance_mpc": luminosity_distance_mpc(z, settings), "log_mstar": mass,
        "imf": np.where(np.isfinite(mass), SYSTEM.imf, ""), "r_e_arcsec": d["r_e"].where(d["r_e"] > 0),
        "axis_ratio": (1 - d["ellip"]).where(lambda q: (q > 0) & (q <= 1)), "pa_phot_deg": np.mod(d["pa"], 180.0),
        "morphology": morphology(catalogues, d["catid"], release), "abs_mag_r": magnitude,
        "log_sfr": log_sfr, "log_age_yr": known["log_age_yr"], "log_ml": log_mass_to_light(mass, magnitude), "log_ssfr": log_sfr - mass,
        "psf_fwhm_arcsec": d["cubefwhm"].where(d["cubefwhm"] > 0), "drp3qual": 0,
        "flags": 0, "messages": "", "observation": d["cubeidpub"],
    })  # fmt: skip
    check_names(frame["galaxy"], f"sami {release} CubeObs")
    flag_unlisted(frame, d, catalogues, release)
    repeated = d["repeats"] != ""
    add_flag(frame, repeated, 0, [f"Other cubes of this galaxy, not used: {names}." for names in d["repeats"]])
    add_flag(frame, from_mge, 0, "R_e and axis ratio are of the multi-Gaussian fit.")
    _flag_quality(frame, d, known["lick_flag"], release, in_this_run(frame["galaxy"], release, settings))
    return flag_missing(frame)


def _flag_quality(frame: pd.DataFrame, d: pd.DataFrame, lick_flag: pd.Series, release: str, counts: np.ndarray) -> None:
    """SAMI's own judgements, as flags of the rows: bad_class, FLAG of the Lick table, warnings of the cube, one galaxy under two names."""
    bad = d["bad_class"].notna() & ~d["bad_class"].isin(_GOOD_CLASS)
    add_flag(frame, bad, GALAXY.QUALITY_BAD, [f"bad_class is {value:g} (good: 0, 5, 8)." for value in d["bad_class"]])
    flagged = lick_flag.notna() & (lick_flag != 0)
    sentences = [f"{LICK_FLAG.upper()} of IndexApertures{release} is {value:g} (good: 0)." for value in lick_flag]
    add_flag(frame, flagged, GALAXY.QUALITY_BAD, sentences)
    warned = d[[name for name in WARNINGS if name in d]].fillna(0) != 0
    sentences = [f"CubeObs warns: {', '.join(warned.columns[row])}." for row in warned.to_numpy(dtype=bool)]
    add_flag(frame, warned.any(axis=1), GALAXY.QUALITY_WARNING, sentences)
    listed = set(frame["galaxy"][counts])
    twice = [_LISTED_TWICE.get(name) in listed for name in frame["galaxy"]]
    add_flag(frame, twice, GALAXY.DUPLICATE, [f"The same galaxy as {_LISTED_TWICE.get(name)}." for name in frame["galaxy"]])


def products(target: Mapping, release: str, settings: Settings) -> list[Product]:
    """List the four maps of a galaxy's best cube: H-alpha, gas velocity, gas dispersion, stellar velocity."""
    galaxy, cube = str(target["galaxy"]), str(target["observation"]) or f"{target['galaxy']}_A"
    listed = []
    for name in (*_MAPS, _STARS):
        components = "two-moment" if name == _STARS else settings.sami.components
        places = {"catid": galaxy, "cube": cube, "product": name, "binning": settings.sami.binning, "components": components}
        urls = addresses("sami", release, "maps", settings, **places)
        if release == "DR2":  # names of that release may lack the letter of the repeat
            urls = (*urls, *(url.replace(f"{cube}_", f"{galaxy}_") for url in urls))
        listed.append(galaxy_product(galaxy, name, urls, f"sami/{release}/maps/{galaxy}", (_ERRORS[name],) if name in _ERRORS else ()))
    return listed


def read(paths: Mapping[str, Path], target: Mapping, settings: Settings) -> GalaxyMaps:
    """Read H-alpha, gas velocity and gas dispersion (plane 0: the total, or the first component) of one cube.

    gas-vdisp is corrected for the instrument already: dispersion_sq = vdisp^2, its error 2 vdisp err. Velocities are
    relative to the catalogue's redshift. Pixels with no value in any of the files were not covered.
    The stellar velocity is optional. All maps must lie at the target's position, or at that of the first where it has none.
    Raises `DataError`: MISSING_FILE, UNREADABLE_FILE (or another galaxy's), MISSING_HDU, NO_WCS.
    """
    galaxy = str(target["galaxy"])
    maps, header, unit, notes, place = {}, None, "", [], _place_of(target)
    for name in _MAPS:
        path = path_of(paths, name, galaxy)
        with open_fits(path) as hdus:
            first = image_hdu(hdus, 0, path)
            place = _check_place(first.header, place, path)
            notes += _unexpected(first, name, path, settings.sami.components)
            maps[name] = image(first, path, plane=0)
            maps[f"{name} error"] = image(image_hdu(hdus, _ERRORS[name], path), path, plane=0)
            if name == "Halpha":
                unit = str(first.header.get("BUNIT", "")).strip()
            if name == "gas-velocity":
                header, wcs = first.header.copy(), celestial_wcs(first.header, path)
    stellar, stellar_err = _stellar(paths, place)
    shapes = {name: values.shape for name, values in maps.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(GALAXY.MISSING_HDU, f"{galaxy}: the maps differ in size: {shapes}.")
    velocity = maps["gas-velocity"]
    if stellar is not None and stellar.shape != velocity.shape:
        stellar = stellar_err = None

    scale = pixel_scale_arcsec(wcs)
    if not np.isclose(scale, _PIXEL_ARCSEC, rtol=0.02):
        notes.append(f"{galaxy}: pixels of {scale:.3f} arcsec, {_PIXEL_ARCSEC} expected.")
    covered = np.isfinite([maps[name] for name in _MAPS]).any(axis=0)
    if stellar is not None:
        covered |= np.isfinite(stellar)
    errors = {name: np.where(maps[f"{name} error"] > 0, maps[f"{name} error"], np.nan) for name in _MAPS}
    mask = np.where(covered, 0, PIXEL.NO_COVERAGE).astype(np.int32)
    mask[~np.isfinite(velocity + errors["gas-velocity"] + maps["Halpha"] + errors["Halpha"])] |= PIXEL.NO_VALUE
    return GalaxyMaps(
        galaxy=galaxy, velocity=velocity, velocity_err=errors["gas-velocity"], mask=mask, wcs=wcs,
        centre=tuple(float(v) - 1 for v in wcs.wcs.crpix), pixel_scale_arcsec=scale,
        intensity=maps["Halpha"], intensity_err=errors["Halpha"], intensity_unit=unit,
        dispersion_sq=maps["gas-vdisp"] ** 2, dispersion_sq_err=2 * maps["gas-vdisp"] * errors["gas-vdisp"],
        stellar_velocity=stellar, stellar_velocity_err=stellar_err,
        psf_fwhm_arcsec=float(target.get("psf_fwhm_arcsec", np.nan)), fov_pixels=int(covered.sum()),
        flags=GALAXY.MOCK if header.get("MOCK") is True else 0,
        messages=tuple(notes) if stellar is not None else (*notes, f"{galaxy}: no stellar velocity map."),
        history={"CUBE": str(target.get("observation", "")), "FILES": file_name(str(paths["Halpha"]))},
    )  # fmt: skip


def _unexpected(hdu, name: str, path: Path, components: str) -> list[str]:
    """What of a map is not as its release describes it; raise `DataError` (MISSING_HDU) for velocities in another unit."""
    unit, axes = str(hdu.header.get("BUNIT", "")).strip(), int(hdu.header.get("NAXIS", 0))
    if name != "Halpha" and unit.lower() not in ("", "km/s", "km s-1", "km s^-1"):
        raise DataError(GALAXY.MISSING_HDU, f"{path.name}: its unit is {unit!r}, km/s was expected: fetch the file again or convert it.")
    planes, expected = int(hdu.header.get("NAXIS3", 1)), _PLANES[components][name]
    if axes == 3 and planes != expected:
        return [f"{path.name}: {planes} planes, {expected} expected of {components}; the first is taken."]
    return []


def _place_of(target: Mapping) -> tuple[float, float, str] | None:
    """The target's position (deg) and who says it; None where it is not known."""
    ra, dec = (float(target.get(name, np.nan)) for name in ("ra_deg", "dec_deg"))
    return (ra, dec, "the catalogue") if np.isfinite([ra, dec]).all() else None


def _check_place(header, place: tuple[float, float, str] | None, path: Path) -> tuple[float, float, str] | None:
    """Return the galaxy's place, a map's own where none is known; raise `DataError` (UNREADABLE_FILE) for a map of another galaxy.

    The reference position of a map is the object's, or the bundle's; a map that has none is not checked.
    """
    if not {"CRVAL1", "CRVAL2"} <= set(header):
        return place
    ra, dec = (float(value) for value in celestial_wcs(header, path).wcs.crval)
    if place is None:
        return ra, dec, path.name
    apart = 3600 * np.degrees(angular_separation(*np.radians([ra, dec, *place[:2]])))
    if apart > _SAME_PLACE_ARCSEC:
        raise DataError(
            GALAXY.UNREADABLE_FILE,
            f"{path.name}: lies at ({ra:.5f}, {dec:.5f}) deg, {apart:.1f} arcsec from where the galaxy is by {place[2]} (allowed "
            f"{_SAME_PLACE_ARCSEC:g}): another galaxy's file? Fetch it again, or correct the position (overrides).",
        )
    return place


def _stellar(paths: Mapping[str, Path], place: tuple[float, float, str] | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The stellar velocity and its error (km/s), or None: they serve the comparison of stars and gas only."""
    if _STARS not in paths:
        return None, None
    path = Path(paths[_STARS])
    try:
        with open_fits(path) as hdus:
            first = image_hdu(hdus, 0, path)
            _check_place(first.header, place, path)
            return image(first, path, plane=0), image(image_hdu(hdus, "VEL_ERR", path), path, plane=0)
    except DataError as err:
        log.warning("%s", err)
        return None, None
