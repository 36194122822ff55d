"""The kinematic position angles of a table of galaxies: one row for each, whatever its files hold."""

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from tullyflow.errors import CatalogueError, DataError
from tullyflow.flags import GALAXY
from tullyflow.settings import Settings
from tullyflow.surveys import local
from tullyflow.tables import AXES, AXES_LAST, STELLAR_AXES, conform, write_table
from tullyflow.tools.axis import find_axes

__all__ = ["Defaults", "check_out", "find_axes_of_table", "write_axes"]

log = logging.getLogger("tullyflow")

_STARS = frozenset(f"stellar_velocity{suffix}" for suffix in ("", "_hdu", "_err", "_err_hdu"))
_CHUNK = 8  # galaxies handed to a process at a time


@dataclass(frozen=True)
class Defaults:
    """Extensions of rows that name none, and what holds for every map: see `tullyflow.tools.axis.find_axes`."""

    velocity_hdu: str = ""
    velocity_err_hdu: str = ""
    stellar_velocity_hdu: str = ""
    north_up: bool = False
    fit_centre: bool = False
    plane: str = ""


def find_axes_of_table(settings: Settings, defaults: Defaults, threads: int = 1) -> pd.DataFrame:
    """Find the axes of every galaxy of ``settings.catalogue`` (the survey `local`); columns AXES, STELLAR_AXES where asked, AXES_LAST.

    Rows come in the table's order, one for each; a galaxy whose files cannot be used has NaN, its flag and a sentence.
    On a terminal a bar shows the progress. Raises `CatalogueError` where the table itself cannot be used.
    """
    if threads < 1:
        raise CatalogueError(f"--threads: {threads}; at least one process is needed.")
    local.catalogue_products("user", settings)  # there is such a file
    targets = local.targets({"catalogue": Path(settings.catalogue)}, "user", settings)
    if targets.empty:
        raise CatalogueError(f"{settings.catalogue}: the table has no rows.")
    jobs = [(str(galaxy), _with_defaults(text, defaults)) for galaxy, text in targets[["galaxy", "observation"]].itertuples(index=False)]
    positions = targets[["ra_deg", "dec_deg", "psf_fwhm_arcsec"]].to_dict("records")
    one = partial(_one, settings, defaults.north_up, defaults.fit_centre)
    rows = []
    with ProcessPoolExecutor(threads) if threads > 1 else _Here() as pool:
        for row in _shown(pool.map(one, jobs, positions, chunksize=_CHUNK), len(jobs)):
            rows.append(row)
    frame = pd.DataFrame(rows)
    _sum_up(frame)
    columns = _columns(stars=any(not _STARS.isdisjoint(row) for _, row in jobs))
    return conform(frame.reindex(columns=[c.name for c in columns]), columns, "position angles")


def _columns(stars: bool):
    return (*AXES, *(STELLAR_AXES if stars else ()), *AXES_LAST)


class _Here:
    """Stands in for a pool where one process is enough."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    @staticmethod
    def map(function, *arguments, chunksize: int):
        return map(function, *arguments)


def _with_defaults(observation: str, defaults: Defaults) -> dict:
    row = json.loads(observation)
    for name in ("velocity_hdu", "velocity_err_hdu", "stellar_velocity_hdu"):
        if getattr(defaults, name) and "velocity" in row and not row.get(name):
            row[name] = getattr(defaults, name)
    return {**row, "plane": defaults.plane} if defaults.plane else row


def _one(settings: Settings, north_up: bool, fit_centre: bool, job: tuple[str, dict], position: Mapping) -> dict:
    galaxy, row = job
    paths = {name: Path(value) for name, value in row.items() if isinstance(value, str) and not name.endswith(("_hdu", "plane"))}
    target = {"galaxy": galaxy, "observation": json.dumps(row), **position}
    try:
        maps = local.read(paths, target, settings, sky_needed=False)
        return find_axes(maps, settings, north_up=north_up, fit_centre=fit_centre).row()
    except DataError as err:
        flag, said = err.flag, str(err)
        if not _STARS.isdisjoint(row):  # the gas may be had without its stars
            gas = _one(settings, north_up, fit_centre, (galaxy, {key: row[key] for key in row if key not in _STARS}), position)
            return gas if said in gas["messages"] else {**gas, "messages": f"{gas['messages']} No stars: {said}".strip()}
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as err:  # one bad file costs one row
        flag, said = GALAXY.UNREADABLE_FILE, f"{galaxy}: {type(err).__name__}: {' '.join(str(err).split())[:200]}."
    return {"galaxy": galaxy, "n_spaxels": 0, "flags": GALAXY.names(flag), "messages": said}


def _shown(rows: Iterable[dict], number: int) -> Iterator[dict]:
    from tqdm import tqdm

    return iter(tqdm(rows, total=number, unit="galaxy", disable=not sys.stderr.isatty()))


def _sum_up(frame: pd.DataFrame) -> None:
    names = Counter(name for text in frame["flags"] for name in str(text).split(",") if name)
    failed = frame["flags"].str.contains("PA_FAILED")
    found = int((frame["pa_deg"].notna() & ~failed).sum()) if "pa_deg" in frame else 0
    said = ", ".join(f"{n} {name}" for name, n in names.most_common())
    log.info("%d galaxies, %d with a position angle%s", len(frame), found, f" ({said})" if said else "")


def check_out(path: Path) -> None:
    """Raise `CatalogueError` for a table that could not be written at the end, before any work is done."""
    if path.suffix not in (".csv", ".parquet"):
        raise CatalogueError(f"--out: {path}: a table is written as .csv or .parquet.")


def write_axes(path: Path, frame: pd.DataFrame) -> None:
    """Write a table of `find_axes_of_table`, CSV or Parquet by its suffix."""
    write_table(path, frame, _columns(stars="pa_stellar_deg" in frame))
