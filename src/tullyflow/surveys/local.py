"""Your own galaxies: a CSV that names a velocity map (or a cube) per galaxy, and whatever else is known of it.

Columns: ``galaxy``; ``velocity`` or ``cube``; optionally ``intensity``, ``dispersion``, ``stellar_velocity``, each with
``<name>_hdu`` (name or number), ``<name>_err`` (a file; empty = the same file) and ``<name>_err_hdu``; the columns of the
target table (ra_deg, log_mstar, axis_ratio, ...); ``inclination_deg``; ``pixel_scale_arcsec``, ``x_centre``, ``y_centre``
(0-based pixels) for maps without sky axes; ``reference`` and ``confidence`` (`tullyflow.surveys.rows.mass_doubts`). Paths are
absolute or relative to the CSV.
"""

import difflib
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.conventions import axis_ratio_from_inclination
from tullyflow.errors import CatalogueError
from tullyflow.settings import Settings
from tullyflow.surveys import GalaxyMaps, Product
from tullyflow.surveys.cubes import read_cube
from tullyflow.surveys.fits_images import path_of
from tullyflow.surveys.local_maps import read_maps
from tullyflow.surveys.manga_quality import flag_drp_quality
from tullyflow.surveys.rows import FIXED_COLUMNS, check_names, common_masses, flag_missing, luminosity_distance_mpc, mass_doubts, read_csv
from tullyflow.tables import TARGETS

__all__ = ["catalogue_products", "products", "read", "targets"]

log = logging.getLogger("tullyflow")

_MAPS = ("velocity", "intensity", "dispersion", "stellar_velocity", "cube")
_SUFFIXES = ("", "_hdu", "_err", "_err_hdu")
_PIXELS = ("pixel_scale_arcsec", "x_centre", "y_centre")
_FROM_TABLE = {c.name: c.kind for c in TARGETS if c.name not in FIXED_COLUMNS}


def catalogue_products(release: str, settings: Settings) -> list[Product]:
    """List the catalogue: the CSV itself. Raises `CatalogueError` where ``catalogue`` is not set or there is no such file."""
    if not settings.catalogue:
        raise CatalogueError("catalogue: not set; the survey 'local' needs a CSV of your galaxies, e.g. --config catalogue=mine.csv.")
    path = Path(settings.catalogue).absolute()
    if not path.is_file():
        raise CatalogueError(f"catalogue: {path}: no such file.")
    kept = f"local/{release}/catalogues/{_place(path)}-{path.name}"
    return [Product(galaxy=release, product="catalogue", urls=(path.as_uri(),), path=kept)]


def _place(path: Path) -> str:
    """Eight hex digits of a file's place: two catalogues may use one galaxy name for different files."""
    return hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:8]


def targets(catalogues: Mapping[str, Path], release: str, settings: Settings) -> pd.DataFrame:
    """Return one row per line of the CSV, in its order; unknown columns are named in the log and left out.

    Masses are converted from the column ``imf`` (empty = Chabrier) to ``cosmology.imf``; ``inclination_deg`` gives the axis ratio
    where that is empty (oblate disc, q0 = 0.2), z the distance where that is. Raises `CatalogueError` for an unreadable table,
    a missing column, a value that is no number, and names that are empty, not unique or not usable as file names.
    """
    if "catalogue" not in catalogues:
        raise CatalogueError("local: the catalogue was not found; set 'catalogue' to a CSV of your galaxies.")
    source = Path(catalogues["catalogue"])
    folder = Path(settings.catalogue).absolute().parent if settings.catalogue else source.resolve().parent
    maps = [f"{name}{suffix}" for name in _MAPS for suffix in _SUFFIXES]
    kept_as_text = ("galaxy", "imf", "morphology", "reference", "confidence", *maps)
    table = read_csv(source, ("galaxy",), text=kept_as_text)
    for name in kept_as_text:
        if name in table:
            table[name] = table[name].fillna("").str.strip()
        if name in table and name.endswith("_hdu"):  # spreadsheets write a column of numbers with gaps as 0.0, 1.0
            table[name] = table[name].str.replace(r"^(\d+)\.0$", r"\1", regex=True)
    shown = settings.catalogue or str(source)
    check_names(table["galaxy"], shown)
    _check_maps(table, shown)
    known = (*kept_as_text, *_FROM_TABLE, *_PIXELS, "line", "inclination_deg")
    ignored = [name for name in table if name not in known and not name.startswith("unnamed")]
    if ignored:
        absent = [name for name in known if name not in table]
        close = {name: difflib.get_close_matches(name, absent, n=1, cutoff=0.75) for name in ignored}
        hints = [f"{name} (did you mean {close[name][0]}?)" if close[name] else name for name in ignored]
        log.warning("%s: columns not used: %s", shown, ", ".join(hints))

    def column(name: str) -> np.ndarray:
        if name not in table:
            return np.full(len(table), np.nan)
        values = pd.to_numeric(table[name], errors="coerce").to_numpy(float)
        wrong = np.isnan(values) & table[name].notna().to_numpy()
        if wrong.any():
            row = int(np.argmax(wrong))
            found = f"{name} of {table['galaxy'][row]} is {table[name][row]!r}"
            raise CatalogueError(f"{shown}: {found}; a number is needed (empty = unknown).")
        return values

    frame = pd.DataFrame({name: column(name) for name, kind in _FROM_TABLE.items() if kind != "s"})
    axis_ratio = np.where(np.isfinite(frame["axis_ratio"]), frame["axis_ratio"], axis_ratio_from_inclination(column("inclination_deg")))
    positive = ("r_e_arcsec", "sersic_n", "psf_fwhm_arcsec", "distance_mpc", "volume_weight")
    frame = frame.assign(**{name: frame[name].where(frame[name] > 0) for name in positive})
    possible = (axis_ratio > 0) & (axis_ratio <= 1)
    frame["axis_ratio"] = np.where(possible, axis_ratio, np.nan)
    impossible = np.isfinite(axis_ratio) & ~possible
    if impossible.any():
        first = int(np.argmax(impossible))
        log.warning("%s: axis_ratio of %s is %g; it must be above 0 and at most 1 (minor over major axis): not used in %d row(s)", shown,
                    table["galaxy"][first], axis_ratio[first], impossible.sum())  # fmt: skip
    frame["distance_mpc"] = frame["distance_mpc"].fillna(pd.Series(luminosity_distance_mpc(frame["z"], settings)))
    frame["pa_phot_deg"] = np.mod(frame["pa_phot_deg"], 180.0)
    imf = table["imf"].str.lower() if "imf" in table else pd.Series([""] * len(table))
    frame["log_mstar"] = common_masses(frame["log_mstar"].to_numpy(), imf, settings, shown)
    frame["imf"] = np.where(np.isfinite(frame["log_mstar"]), imf.where(imf != "", "chabrier"), "")
    frame["drp3qual"] = frame["drp3qual"].fillna(0).astype(np.int64)
    frame["morphology"] = table.get("morphology", "")
    pixels = pd.DataFrame({name: column(name) for name in _PIXELS})
    frame = frame.assign(galaxy=table["galaxy"], survey="local", release=release, shard="", flags=0)
    frame["messages"] = mass_doubts(table, frame["log_mstar"])
    for k in np.flatnonzero(impossible):
        said = f"The table's axis ratio {axis_ratio[k]:g} is not used: it must be above 0 and at most 1."
        frame.loc[k, "messages"] = f"{frame.loc[k, 'messages']} {said}".strip()
    frame["observation"] = _observations(table[[name for name in maps if name in table]], pixels, folder)
    flag_drp_quality(frame)
    return flag_missing(frame)


def _check_maps(table: pd.DataFrame, shown: str) -> None:
    if not {"velocity", "cube"} & set(table.columns):
        raise CatalogueError(f"{shown}: column(s) velocity or cube missing; one must name the FITS file of each galaxy.")
    has = [(table[name] != "").to_numpy() for name in ("velocity", "cube") if name in table]
    none = ~np.any(has, axis=0)
    if none.any():
        first = table["galaxy"][int(np.argmax(none))]
        raise CatalogueError(f"{shown}: {first} has neither a velocity map nor a cube ({none.sum()} such row(s)).")


def _observations(files: pd.DataFrame, pixels: pd.DataFrame, folder: Path) -> list[str]:
    """What the reader needs of each row, as JSON: files with absolute paths, extensions, pixel scale and centre."""
    rows = []
    for text, numbers in zip(files.to_dict("records"), pixels.to_dict("records"), strict=True):
        row = {name: value for name, value in text.items() if value != ""}
        for name in _MAPS:
            for key in (name, f"{name}_err"):
                if key in row:
                    row[key] = str(folder / row[key])
        row |= {name: value for name, value in numbers.items() if np.isfinite(value)}
        rows.append(json.dumps(row, sort_keys=True))
    return rows


def products(target: Mapping, release: str, settings: Settings) -> list[Product]:
    """List the files of one row; a file that serves several maps is listed under each. Whether they exist is seen when they are fetched."""
    galaxy, row = str(target["galaxy"]), json.loads(target["observation"])
    listed = []
    for name in _MAPS:
        for key in (name, f"{name}_err"):
            if key in row:
                path = Path(row[key])
                suffix = "".join(s for s in path.suffixes[-2:] if s.lower() in (".fits", ".fit", ".fts", ".gz")) or ".fits"
                kept = f"local/{release}/maps/{galaxy}/{_place(path)}-{key}{suffix}"
                listed.append(Product(galaxy=galaxy, product=key, urls=(path.as_uri(),), path=kept))
    return listed


def read(paths: Mapping[str, Path], target: Mapping, settings: Settings, *, sky_needed: bool = True) -> GalaxyMaps:
    """Read the maps of one row, or make them from its cube where there is no velocity map.

    ``sky_needed``: see `tullyflow.surveys.local_maps.read_maps`; a cube always needs its sky.
    Raises `DataError`: MISSING_FILE, UNREADABLE_FILE, MISSING_HDU, NO_WCS.
    """
    row = json.loads(target["observation"])
    if "velocity" in row:
        return read_maps(paths, row, target, settings, sky_needed=sky_needed)
    return read_cube(path_of(paths, "cube", str(target["galaxy"])), target, settings, hdu=row.get("cube_hdu", ""))
