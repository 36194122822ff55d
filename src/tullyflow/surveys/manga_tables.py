"""MaNGA's catalogues as tables, and what dapall, Pipe3D and HI-MaNGA add to the rows of drpall, on the common system.

Columns are found whatever their case. A catalogue that did not come leaves its columns empty and excludes nobody. What the
documentation leaves open (units, conventions) is checked against drpall before it is used; where a check fails, one warning
says what was found and the column stays empty.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.conventions import System, log_mass_to_chabrier, log_mass_to_light, log_to_system
from tullyflow.errors import CatalogueError, DataError
from tullyflow.flags import GALAXY
from tullyflow.settings import Settings
from tullyflow.surveys.fits_images import open_fits
from tullyflow.surveys.manga_hi import HI_COLUMNS, choose_detections
from tullyflow.surveys.rows import add_flag, luminosity_distance_mpc

__all__ = ["SYSTEMS", "merge_tables", "read_columns", "wanted_tables"]

log = logging.getLogger("tullyflow")

SYSTEMS = {
    "nsa": System("chabrier", 1.0, "NASA-Sloan Atlas v1_0_1 in drpall: masses in Msun/h^2, magnitudes M - 5 log h, Omega_m = 0.3"),
    "dapall": System("kroupa", 1.0, "DAP data model: SFR in Msun/yr/h^2, log SFR = log L(Ha) - 41.27, Kennicutt & Evans 2012; no dust"),
    "pipe3d": System("salpeter", 0.71, "Sanchez+2016 (RMxAA 52, 171), Sanchez+2022 (ApJS 262, 36): H0 = 71; the column DL decides"),
    "hi": System("", 0.7, "HI-MaNGA data model: D = vopt / 70 km/s/Mpc (Masters+2019)"),
}
_HELIUM = 1.36  # gas mass over HI mass
_MIN_CHECKED = 10  # galaxies: a check on fewer says nothing
_ELLIP_TOLERANCE, _PA_TOLERANCE_DEG = 0.1, 20.0
_MASS_TOLERANCE_DEX = 0.12  # half of what Salpeter and Chabrier differ by


@dataclass(frozen=True)
class _Table:
    """Columns of a catalogue in the order of the targets (NaN or 0 where it has no row), and how the log calls it."""

    name: str
    columns: dict[str, np.ndarray]
    there: np.ndarray

    def get(self, *names: str, low: float = -np.inf, high: float = np.inf) -> np.ndarray:
        """The first of the columns that exists, NaN outside ]low, high[ (the catalogues' marks of a missing value are there)."""
        found = next((name for name in names if name in self.columns), None)
        if found is None:
            log.warning("%s: no column %s: left empty", self.name, " or ".join(names))
            return np.full(len(self.there), np.nan)
        values = np.asarray(self.columns[found], dtype=float)
        with np.errstate(invalid="ignore"):
            return np.where(self.there & (values > low) & (values < high), values, np.nan)


def wanted_tables(settings: Settings) -> tuple[str, ...]:
    """Catalogues the settings ask for beside drpall, in the order of the settings; ``masses: pipe3d`` asks for Pipe3D's."""
    needed = ["pipe3d"] if settings.manga.masses == "pipe3d" else []
    return tuple(dict.fromkeys((*settings.manga.tables, *needed)))


def read_columns(path: str | Path, wanted, extension: str = "", needed: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Columns of a FITS table as native arrays by lower-case name; text is stripped.

    ``extension`` is the table's name; without one of that name (or with "") the first table is taken. Raises `CatalogueError`
    where there is no table or a ``needed`` column is absent, `DataError` where the file cannot be read.
    """
    with open_fits(path) as hdus:
        tables = [hdu for hdu in hdus[1:] if not hdu.is_image]
        table = next((hdu for hdu in tables if hdu.name.upper() == extension.upper()), tables[0] if tables else None)
        if table is None:
            raise CatalogueError(f"{path}: holds no table{' called ' + extension if extension else ''}.")
        names = {str(name).lower(): name for name in table.columns.names}
        missing = [name for name in needed if name not in names]
        if missing:
            raise CatalogueError(f"{path}: column(s) {', '.join(missing)} missing.")
        columns = {name: np.array(table.data[names[name]]) for name in dict.fromkeys((*needed, *wanted)) if name in names}
    return {k: v.astype(v.dtype.newbyteorder("=")) if v.dtype.kind in "iuf" else np.char.strip(v.astype(str)) for k, v in columns.items()}


def merge_tables(frame: pd.DataFrame, catalogues: Mapping[str, Path], release: str, settings: Settings) -> None:
    """Fill in what the catalogues of ``manga.tables`` and ``manga.masses`` know, in place, and the mass-to-light ratios.

    log_sfr from Pipe3D where that came, else from dapall (Halpha in the field of view, not corrected for dust), never mixed;
    log_ssfr from the SFR and the mass of Pipe3D, or from dapall's SFR and NSA's mass, on one initial mass function whatever
    ``cosmology.imf`` says; log_age_yr light-weighted at R_e; log_ml of log_mstar and abs_mag_r; log_mgas = 1.36 HI.
    Raises `CatalogueError` for an unreadable catalogue, and where ``manga.masses: pipe3d`` has no Pipe3D catalogue.
    """
    frame[["log_mstar_err", "log_sfr", "log_ssfr", "log_age_yr", "log_mgas", "hi_width_kms", "hi_width_err_kms"]] = np.nan
    fill = {"pipe3d": _add_pipe3d, "dapall": _add_dapall, "hi": _add_hi}
    for table, add in fill.items():
        where = f"manga {release} {table}"
        if table not in wanted_tables(settings):
            continue
        if table not in catalogues:
            if table == "pipe3d" and settings.manga.masses == "pipe3d":
                raise CatalogueError(f"{where}: 'manga.masses: pipe3d' needs this catalogue, which was not fetched; or set masses: nsa.")
            log.warning("%s: not fetched: what it would say is left empty (not tested), nobody is excluded", where)
            continue
        if table == "dapall" and "pipe3d" in catalogues and "pipe3d" in wanted_tables(settings):
            log.info("%s: not used: the SFR is Pipe3D's, or none", where)
            continue
        try:
            add(frame, Path(catalogues[table]), where, release, settings)
        except DataError as err:
            raise CatalogueError(f"{where}: {err} Fetch it again.") from err
    frame["log_ml"] = log_mass_to_light(frame["log_mstar"], frame["abs_mag_r"])


def _table(where: str, path: Path, frame: pd.DataFrame, wanted, extension: str = "") -> _Table:
    """The catalogue's rows in the targets' order; the first row of a galaxy that has several."""
    columns = read_columns(path, (*wanted, "plateifu", "name", "mangaid"), extension)
    names = _plate_ifus(columns, path)
    row_of = {name: row for row, name in reversed(list(enumerate(names)))}
    rows = np.array([row_of.get(name, -1) for name in frame["galaxy"]], dtype=int)
    log.info("%s: %d of %d galaxies", where, int((rows >= 0).sum()), len(frame))
    if len(names) and len(frame) and not (rows >= 0).any():
        log.warning("%s: none of its %d names (e.g. %s) is a target; is %s of this release?", where, len(names), names[0], path.name)
    if not len(names):
        return _Table(where, {}, np.zeros(len(frame), dtype=bool))
    return _Table(where, {name: values[rows] for name, values in columns.items()}, rows >= 0)


def _plate_ifus(columns: Mapping[str, np.ndarray], path: Path) -> np.ndarray:
    """Names of the rows; Pipe3D calls a galaxy manga-plate-ifu, in DR15 under ``mangaid``."""
    if "plateifu" in columns:
        return columns["plateifu"]
    for name in ("name", "mangaid"):
        if name in columns and all(text.startswith("manga-") for text in columns[name][:1]):
            return np.char.replace(columns[name], "manga-", "", count=1)
    raise CatalogueError(f"{path}: no column names the galaxies (plateifu, or manga-plate-ifu under name or mangaid).")


def _add_dapall(frame: pd.DataFrame, path: Path, where: str, release: str, settings: Settings) -> None:
    """SFR of the DAP; DR17 has one extension per daptype, DR15 one table with a column daptype."""
    daptype = settings.manga.daptype.get(release, "")
    wanted = ("plateifu", "daptype", "sfr_tot")
    columns = read_columns(path, wanted, daptype)
    if "sfr_tot" not in columns:
        log.warning("%s: no column sfr_tot: left empty", where)
        return
    if "daptype" in columns and not (columns["daptype"] == daptype).any():
        found = ", ".join(sorted(set(columns["daptype"]))[:6])
        log.warning("%s: no row of daptype %s (found %s): left empty", where, daptype, found or "none")
        return
    keep = columns["daptype"] == daptype if "daptype" in columns else np.ones(len(_plate_ifus(columns, path)), dtype=bool)
    rates = pd.Series(columns["sfr_tot"][keep].astype(float), index=_plate_ifus(columns, path)[keep])
    sfr = rates[~rates.index.duplicated()].reindex(frame["galaxy"]).to_numpy()
    log.info("%s: SFR of %d of %d galaxies (not corrected for dust)", where, int((sfr > 0).sum()), len(frame))
    log_sfr = np.log10(sfr, out=np.full(len(sfr), np.nan), where=sfr > 0)
    frame["log_sfr"] = log_to_system(log_sfr, SYSTEMS["dapall"], settings.cosmology.h, settings.cosmology.imf)
    frame["log_ssfr"] = log_to_system(log_sfr, SYSTEMS["dapall"], settings.cosmology.h, SYSTEMS["nsa"].imf) - frame["log_mstar"]


_PIPE3D = ("log_mass", "e_log_mass", "log_sfr_ha", "age_lw_re_fit", "re_arc", "pa", "ellip", "dl", "da", "qcflag")


def _add_pipe3d(frame: pd.DataFrame, path: Path, where: str, release: str, settings: Settings) -> None:
    """Masses, SFR, ages, quality and, where NSA has none, photometry."""
    table = _table(where, path, frame, _PIPE3D)
    system = replace(SYSTEMS["pipe3d"], h=_h_of_distances(table, frame, settings))
    h, imf = settings.cosmology.h, settings.cosmology.imf
    log_mass = log_to_system(table.get("log_mass", low=4, high=14), system, h, imf)
    log_sfr = log_to_system(table.get("log_sfr_ha", low=-12, high=5), system, h, imf)
    _compare_masses(log_to_system(table.get("log_mass", low=4, high=14), system, h, "own"), system.imf, frame, where)
    if settings.manga.masses == "pipe3d":
        if not np.isfinite(log_mass).any() and len(frame):
            raise CatalogueError(f"{path}: no stellar mass of any target (column log_mass); or set 'manga.masses: nsa'.")
        frame["log_mstar"], frame["log_mstar_err"] = log_mass, table.get("e_log_mass", low=0, high=3)
        frame["imf"] = np.where(np.isfinite(log_mass), system.imf, "")
    frame["log_sfr"], frame["log_ssfr"] = log_sfr, log_sfr - log_mass
    age = table.get("age_lw_re_fit", low=0, high=12)
    median = float(np.median(age[np.isfinite(age)])) if np.isfinite(age).any() else np.nan
    if median < 7:
        log.warning("%s: age_lw_re_fit has a median of %.2f, which is no log10 of years: not used", where, median)
    else:
        frame["log_age_yr"] = age
    _fill_photometry(table, frame)
    if "qcflag" in table.columns:
        code = np.where(table.there, table.columns["qcflag"], 0).astype(int)
        sentences = [f"QCFLAG of Pipe3D is {k} ({'bad' if k == 2 else 'warning'})." for k in code]
        add_flag(frame, code == 2, GALAXY.QUALITY_BAD, sentences)
        add_flag(frame, (code != 0) & (code != 2), GALAXY.QUALITY_WARNING, sentences)
    else:
        log.info("%s: no column QCFLAG: Pipe3D's quality is not tested", where)


def _ratio(values: np.ndarray, expected: np.ndarray) -> tuple[float, int]:
    good = np.isfinite(values) & np.isfinite(expected) & (values > 0) & (expected > 0)
    return (float(np.median(values[good] / expected[good])) if good.any() else np.nan), int(good.sum())


def _h_of_distances(table: _Table, frame: pd.DataFrame, settings: Settings) -> float:
    """h of the catalogue from its luminosity distances (Mpc) and the redshifts; the documented one where they are in doubt.

    DL and DA are said to be in Mpc, and users have met cm and kpc per arcsec.
    """
    stated = SYSTEMS["pipe3d"].h
    at_h1 = luminosity_distance_mpc(frame["z"], settings) * settings.cosmology.h
    units = {"dl": {"cm": 3.0856775814913673e24, "kpc": 1e3}, "da": {"kpc per arcsec": np.pi / 648, "cm": 3.0856775814913673e24}}
    h = {}
    for column, expected in (("dl", at_h1), ("da", at_h1 / (1 + frame["z"].to_numpy()) ** 2)):
        if column not in table.columns:
            continue
        ratio, n = _ratio(table.get(column), expected)
        if n < _MIN_CHECKED:
            log.warning("%s: %s cannot be checked on %d galaxies: not used, h = %.2f", table.name, column.upper(), n, stated)
        elif not 0.5 < 1 / ratio < 1.05:
            unit = next((name for name, factor in units[column].items() if 0.5 < factor / ratio < 1.05), "an unknown unit")
            log.warning("%s: %s is not in Mpc but in %s (%.3g times the distance of z for h = 1): not used",
                        table.name, column.upper(), unit, ratio)  # fmt: skip
        else:
            h[column] = 1 / ratio
    if "dl" in h and abs(h["dl"] / stated - 1) > 0.005:
        log.warning("%s: its distances are those of h = %.3f, not %.2f: converted with %.3f", table.name, h["dl"], stated, h["dl"])
    return h.get("dl", stated)


def _compare_masses(log_mass: np.ndarray, imf: str, frame: pd.DataFrame, where: str) -> None:
    """Say which initial mass function fits the masses, as listed but for h, by those of NSA (Chabrier); warn where it is not ``imf``.

    Kroupa and Chabrier differ by 0.04 dex, which is less than two catalogues of one galaxy agree to: only what is further than
    0.12 dex from what ``imf`` says is warned of.
    """
    difference = log_mass - frame["log_mstar"].to_numpy()
    difference = difference[np.isfinite(difference)]
    if difference.size < _MIN_CHECKED:
        return
    offset = float(np.median(difference))
    heavier = {name: 0.0 - float(log_mass_to_chabrier(0.0, name)) for name in ("salpeter", "kroupa", "chabrier")}
    best = min(heavier, key=lambda name: abs(offset - heavier[name]))
    doubtful = abs(offset - heavier[imf]) > _MASS_TOLERANCE_DEX
    log.log(
        logging.WARNING if doubtful else logging.INFO,
        "%s: its masses less those of NSA: median %+.2f dex of %d galaxies; %s (%+.2f) fits best, %s (%+.2f) is stated%s",
        where, offset, difference.size, best, heavier[best], imf, heavier[imf],
        ": check the IMF and h of this catalogue" if doubtful else "",
    )  # fmt: skip


def _fill_photometry(table: _Table, frame: pd.DataFrame) -> None:
    """Axis ratio, R_e and position angle of the galaxies without NSA photometry, each only if it agrees with NSA for the others."""
    ellip = table.get("ellip", low=-1e-9, high=1.0)
    pa = np.mod(table.get("pa", low=-361, high=361), 180)
    turned = np.abs(pa - frame["pa_phot_deg"].to_numpy())
    offered = {  # value, its median distance from NSA, the largest allowed, what else it may be
        "axis_ratio": (1 - ellip, np.abs(1 - ellip - frame["axis_ratio"]), _ELLIP_TOLERANCE),
        "r_e_arcsec": (re := table.get("re_arc", low=0, high=200), np.abs(np.log(re / frame["r_e_arcsec"])), np.log(2)),
        "pa_phot_deg": (pa, np.minimum(turned, 180 - turned), _PA_TOLERANCE_DEG),
    }
    for column, (values, difference, allowed) in offered.items():
        distance = np.asarray(difference)[np.isfinite(difference)]
        if distance.size < _MIN_CHECKED:
            continue
        if np.median(distance) > allowed:
            hint = ""
            if column == "axis_ratio" and np.nanmedian(np.abs(np.sqrt(1 - ellip**2) - frame["axis_ratio"])) < allowed:
                hint = " (ellip is an eccentricity)"
            log.warning("%s: its %s disagrees with NSA (median difference %.2f of %d galaxies, allowed %.2f)%s: not used",
                        table.name, column, np.median(distance), distance.size, allowed, hint)  # fmt: skip
            continue
        absent = ~np.isfinite(frame[column]) & np.isfinite(values)
        frame[column] = np.where(absent, values, frame[column])
        add_flag(frame, absent, 0, f"{column} of Pipe3D.")


def _add_hi(frame: pd.DataFrame, path: Path, where: str, release: str, settings: Settings) -> None:
    """Gas mass and line width of the detections (`manga_hi.choose_detections`)."""
    rows = pd.DataFrame(read_columns(path, HI_COLUMNS, needed=("plateifu", "logmhi")))
    found = choose_detections(rows, list(frame["galaxy"]), where)
    frame["log_mgas"] = log_to_system(found.log_mhi, SYSTEMS["hi"], settings.cosmology.h) + np.log10(_HELIUM)
    frame["hi_width_kms"], frame["hi_width_err_kms"] = found.width_kms, found.width_err_kms
    other = (found.width_name != "") & (found.width_name != "wm50")
    add_flag(frame, other, 0, [f"The width of the HI line is {name.upper()}: there is no WM50." for name in found.width_name])
