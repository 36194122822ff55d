"""SAMI's catalogue tables: which cubes there are, photometry, star formation, ages; every conversion of SAMI is here.

Names of tables and columns are matched without regard to case; what is not confirmed of a table is checked when it is read,
and a check that fails costs the column, not the run: it is logged with what to do. Sources: Data Central's tables of DR3
(Croom+2021, MNRAS 505, 991) and DR2 (Scott+2018, MNRAS 481, 2299).
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.conventions import System
from tullyflow.errors import CatalogueError
from tullyflow.surveys.rows import read_csv

__all__ = [
    "LICK_FLAG", "NEEDED", "SYSTEM", "WARNINGS", "find_table", "input_catalogue", "log_age_yr", "log_total_sfr", "major_axis_arcsec",
    "mge_photometry", "morphology", "observed_cubes", "populations",
]  # fmt: skip

log = logging.getLogger("tullyflow")

SYSTEM = System("chabrier", 0.7, "masses and M_r: Taylor+2011 (MNRAS 418, 1587); star formation: Medling+2018 (MNRAS 475, 5194)")
SFR_WITHIN_R_E = 0.5  # half of the light, hence (assumed) half of the star formation, lies within R_e
WARNINGS = ("warnz", "warnmult", "warnfcal", "warnfcbr", "warnskyr", "warnwcs")  # those that concern H-alpha maps
LICK_FLAG = "flag"  # the thesis keeps galaxies with FLAG = 0 (SCIENCE 5)

_INPUT = ("catid", "ra_obj", "dec_obj", "z_spec", "m_r", "r_e", "ellip", "pa", "mstar", "bad_class")
_CUBES = ("catid", "cubeidpub", "cubefwhm", "isbest", "warnstar")
NEEDED = {"CubeObs": _CUBES, "InputCatGAMA": _INPUT, "InputCatClusters": _INPUT}  # columns without which a table is of no use
_FILLER = {"ra": "ra_obj", "dec": "dec_obj"}
_ONE_ROW_PER_CUBE = ("DR2Sample", "EmissionLine1comp", "SSPApertures", "IndexApertures")  # who was observed, where CubeObs is absent
_SFR_COLUMNS = ("sfr_re", "sfr_re_mge")


def log_total_sfr(sfr_re) -> np.ndarray:
    """log10 star formation rate (Msun/yr) of a galaxy from the rate within R_e; NaN where that is not positive."""
    sfr = np.asarray(sfr_re, dtype=float)
    return np.log10(np.where(sfr > 0, sfr, np.nan) / SFR_WITHIN_R_E)


def log_age_yr(age_gyr) -> np.ndarray:
    """log10 age (yr) from Gyr; NaN where that is not positive."""
    age = np.asarray(age_gyr, dtype=float)
    return np.log10(np.where(age > 0, age, np.nan)) + 9


def major_axis_arcsec(r_circularised, ellipticity) -> np.ndarray:
    """Half-light radius along the major axis from the circularised one: r / sqrt(1 - ellipticity)."""
    return np.asarray(r_circularised, dtype=float) / np.sqrt(1 - np.asarray(ellipticity, dtype=float))


def find_table(catalogues: Mapping[str, Path], stem: str, release: str) -> Path | None:
    """Path of a table under any of its names: with or without the release behind, with or without ``sami{release}`` in front."""
    names = {name.lower(): path for name, path in catalogues.items()}
    spellings = (f"{stem}{release}", stem, f"sami{release}{stem}")
    return next((Path(names[name.lower()]) for name in spellings if name.lower() in names), None)


def observed_cubes(catalogues: Mapping[str, Path], release: str) -> pd.DataFrame:
    """Return one row per galaxy, ordered by CATID: its best cube (``cubeidpub``), ``cubefwhm``, ``repeats``, SAMI's warnings.

    From CubeObs (ISBEST, stars left out); where a release has none (DR2), from the first table with one row per cube that
    is here: then the PSF is not known. ``repeats`` names the galaxy's other cubes. Raises `CatalogueError` where no table lists cubes.
    """
    path = find_table(catalogues, "CubeObs", release)
    cubes = _from_cube_obs(path, release) if path is not None else _from_products(catalogues, release)
    number = pd.to_numeric(cubes["catid"], errors="coerce")
    return cubes.assign(_order=number).sort_values(["_order", "catid"]).drop(columns="_order").reset_index(drop=True)


def _from_cube_obs(path: Path, release: str) -> pd.DataFrame:
    cubes = _read(path, _CUBES)
    best = cubes["isbest"].astype(str).str.strip().str.lower().isin(("true", "t", "1", "1.0", "yes"))
    star = pd.to_numeric(cubes["warnstar"], errors="coerce").fillna(0) != 0
    kept = cubes[best & ~star].drop_duplicates("catid")
    repeats = int((~best & ~star).sum())
    log.info("sami %s: %d cubes, %d galaxies (%d repeats, %d cubes of stars)", release, len(cubes), len(kept), repeats, int(star.sum()))
    twice = int((best & ~star).sum()) - len(kept)
    if twice:
        log.warning("sami %s: %d galaxies have more than one cube marked ISBEST; the first is used: look at CubeObs", release, twice)
    lost = set(cubes.loc[~star, "catid"]) - set(kept["catid"])
    if lost:
        shown = ", ".join(sorted(lost)[:5])
        log.warning("sami %s: %d galaxies have no cube marked ISBEST, their first is used: %s", release, len(lost), shown)
        kept = pd.concat([kept, cubes[~star & cubes["catid"].isin(lost)].drop_duplicates("catid")])
    return _with_repeats(kept, cubes[~star])


def _from_products(catalogues: Mapping[str, Path], release: str) -> pd.DataFrame:
    for stem in _ONE_ROW_PER_CUBE:
        path = find_table(catalogues, stem, release)
        if path is None:
            continue
        rows = _read(path, ("catid",))
        if "cubeidpub" not in rows:
            rows["cubeidpub"] = rows["catid"] + "_A"
        rows = rows[["catid", "cubeidpub"]].drop_duplicates().sort_values(["catid", "cubeidpub"])
        log.warning("sami %s: no CubeObs: galaxies are those of %s, the first cube of each is taken, no PSF is known", release, path.stem)
        return _with_repeats(rows.drop_duplicates("catid").assign(cubefwhm=np.nan), rows)
    folder = f"<mirror>/datacentral/sami/{release.lower()}/catalogues"
    others = ", ".join(_ONE_ROW_PER_CUBE)
    raise CatalogueError(f"sami {release}: no table lists the cubes (CubeObs, or {others}); put CubeObs.csv into {folder}.")


def _with_repeats(kept: pd.DataFrame, cubes: pd.DataFrame) -> pd.DataFrame:
    names = cubes.groupby("catid")["cubeidpub"].agg(lambda column: sorted(set(column)))
    others = [
        ", ".join(name for name in names.get(catid, []) if name != best)
        for catid, best in zip(kept["catid"], kept["cubeidpub"], strict=True)
    ]
    return kept.assign(repeats=others)


def input_catalogue(catalogues: Mapping[str, Path], release: str) -> pd.DataFrame:
    """Return photometry, redshift and mass of every target (GAMA, clusters, fillers), one row per CATID; h = 0.7, Chabrier.

    Fillers have a position and a redshift only. DR2's position angles are not on the sky (DR3 corrected them): they are NaN.
    Raises `CatalogueError` where the GAMA table is absent.
    """
    gama = find_table(catalogues, "InputCatGAMA", release)
    if gama is None:
        folder = f"<mirror>/datacentral/sami/{release.lower()}/catalogues"
        raise CatalogueError(
            f"sami {release}: the table InputCatGAMA{release} was not found; fetch the catalogues again, or put the CSV into {folder}."
        )
    found = [_read(gama, _INPUT)[list(_INPUT)]]
    clusters, fillers = find_table(catalogues, "InputCatClusters", release), find_table(catalogues, "InputCatFiller", release)
    if clusters is not None:
        found.append(_read(clusters, _INPUT)[list(_INPUT)])
    if fillers is not None:
        rows = _optional(fillers, ("catid", "z_spec")).rename(columns=_FILLER)
        found.append(rows[[name for name in _INPUT if name in rows]])
    table = pd.concat(found).drop_duplicates("catid").reset_index(drop=True)
    ranges = {"mstar": (6.0, 12.5, "log10 solar masses"), "m_r": (-25.0, -12.0, "absolute magnitudes"), "z_spec": (0.001, 0.3, "redshifts")}
    for column, (low, high, what) in ranges.items():
        table[column] = _plausible(table[column], low, high, what, f"{column} of InputCat*{release}")
    if release == "DR2" and table["pa"].notna().any():
        log.info("sami DR2: the catalogue's position angles are not on the sky (Data Central's notes on DR3): not used")
        table["pa"] = np.nan
    return table


def mge_photometry(catalogues: Mapping[str, Path], names: pd.Series, release: str) -> pd.DataFrame | None:
    """Half-light radius along the major axis (``r_e``) and ``ellip`` of multi-Gaussian fits, one row per name; None without the table.

    Two fits of a galaxy: the one of VST images is taken before that of SDSS. Their position angles are not confirmed and not used.
    """
    path = find_table(catalogues, "MGEPhotomUnreg", release)
    if path is None:
        return None
    table = _optional(path, ("catid", "remge", "epsmge_re"))
    order = ~table["photometry"].astype(str).str.upper().str.contains("VST") if "photometry" in table else np.zeros(len(table), bool)
    table = table.assign(_order=order).sort_values("_order", kind="stable").drop_duplicates("catid").set_index("catid")
    table = table[(table["remge"] > 0) & table["epsmge_re"].between(0, 1, inclusive="left")]
    radius = pd.Series(major_axis_arcsec(table["remge"], table["epsmge_re"]), index=table.index)
    return pd.DataFrame({"r_e": names.map(radius).to_numpy(), "ellip": names.map(table["epsmge_re"]).to_numpy()})


def morphology(catalogues: Mapping[str, Path], names: pd.Series, release: str) -> np.ndarray:
    """Visual type as text (0 E, 1 S0, 2 early, 3 late spiral); empty where unknown (5, -9) or the table is absent."""
    path = find_table(catalogues, "VisualMorphology", release)
    if path is None:
        return np.full(len(names), "", dtype=object)
    table = _optional(path, ("catid", "type")).drop_duplicates("catid").set_index("catid")["type"]
    return np.array([f"{value:g}" if 0 <= value <= 3 else "" for value in names.map(table)], dtype=object)


def populations(catalogues: Mapping[str, Path], cubes: pd.DataFrame, release: str) -> pd.DataFrame:
    """Return ``log_sfr``, ``log_age_yr`` and ``lick_flag`` of each cube of `observed_cubes`; NaN where a table or column is absent.

    The rate is that of EmissionLine1comp within R_e, doubled; the age the light-weighted single-burst age within R_e (SSPApertures).
    """
    sfr = _of_cubes(catalogues, "EmissionLine1comp", _SFR_COLUMNS, cubes, release)
    sfr = _plausible(sfr, 1e-5, 50.0, "solar masses per year", f"the star formation rate in EmissionLine1comp{release}", positive=True)
    age = _of_cubes(catalogues, "SSPApertures", ("age_re",), cubes, release)
    age = _plausible(age, 0.01, 20.0, "Gyr", f"age_re of SSPApertures{release}", positive=True)
    flag = _of_cubes(catalogues, "IndexApertures", (LICK_FLAG,), cubes, release)
    return pd.DataFrame({"log_sfr": log_total_sfr(sfr), "log_age_yr": log_age_yr(age), "lick_flag": flag.to_numpy(dtype=float)})


def _of_cubes(catalogues: Mapping[str, Path], stem: str, columns: tuple[str, ...], cubes: pd.DataFrame, release: str) -> pd.Series:
    """The first of ``columns`` that a table has, by cube where it names them, else by CATID; NaN where there is none."""
    none = pd.Series(np.nan, index=cubes.index)
    path = find_table(catalogues, stem, release)
    if path is None:
        log.info("sami %s: no table %s: %s is not known, a cut on it is not tested", release, stem, columns[0])
        return none
    table = _optional(path, ("catid",))
    column = next((name for name in columns if name in table), None)
    if column is None:
        like = [name for name in table if columns[0].split("_")[0] in name][:8]
        log.warning(
            "sami %s: %s has no column %s (alike: %s): not known, a cut on it is not tested; name the column in surveys/sami_tables.py",
            release, path.stem, " or ".join(columns), ", ".join(like) or "none",
        )  # fmt: skip
        return none
    values = pd.to_numeric(table[column], errors="coerce")
    key = "cubeidpub" if "cubeidpub" in table else "catid"
    by_key = pd.Series(values.to_numpy(), index=table[key])
    return cubes[key].map(by_key[~by_key.index.duplicated()])


def _plausible(values: pd.Series, low: float, high: float, unit: str, what: str, positive: bool = False) -> pd.Series:
    """The values, or NaN where their median (or, where they must be positive, their sign) says that they are not in that unit."""
    known = values[np.isfinite(values.to_numpy(dtype=float))]
    if known.empty:
        return values
    median, negative = float(known.median()), float((known < 0).mean())
    if low <= median <= high and not (positive and negative > 0.05):
        return values
    log.warning(
        "sami: %s is not in %s: median %.4g (expected %g to %g), %.0f%% negative; the column is not used: compare the table's "
        "description in Data Central's schema browser and mend surveys/sami_tables.py",
        what, unit, median, low, high, 100 * negative,
    )  # fmt: skip
    return pd.Series(np.nan, index=values.index)


def _optional(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    """A table the run can do without: empty, and said so, where it cannot be read."""
    try:
        return _read(path, needed)
    except CatalogueError as err:
        log.warning("sami: %s It is not used.", err)
        return pd.DataFrame({name: pd.Series(dtype=str if name == "catid" else float) for name in needed})


def _read(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    """Read a table; names are texts without the blanks that pad them in some tables."""
    names = ("catid", "cubeidpub")
    table = read_csv(path, needed, text=names)
    for column in names:
        if column in table:
            table[column] = table[column].str.strip()
    return table[table["catid"].notna() & (table["catid"] != "")]
