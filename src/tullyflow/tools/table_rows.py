"""A table of galaxies through one of the tools: one row for each, whatever its files hold."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tullyflow.errors import CatalogueError, DataError
from tullyflow.flags import GALAXY
from tullyflow.settings import Settings
from tullyflow.surveys import GalaxyMaps, local

__all__ = ["Defaults", "check_out", "rows_of_table", "unusable"]

_STARS = frozenset(f"stellar_velocity{suffix}" for suffix in ("", "_hdu", "_err", "_err_hdu"))
_CHUNK = 8  # galaxies handed to a process at a time


@dataclass(frozen=True)
class Defaults:
    """Extensions of rows that name none."""

    velocity_hdu: str = ""
    velocity_err_hdu: str = ""
    stellar_velocity_hdu: str = ""
    plane: str = ""


def rows_of_table(
    settings: Settings, defaults: Defaults, measure: Callable[[GalaxyMaps], dict], threads: int = 1
) -> tuple[list[dict], bool]:
    """Return a row for every galaxy of ``settings.catalogue`` (the survey `local`), in its order, and whether any has stars.

    ``measure`` makes the row of a galaxy's maps; one whose files cannot be used has `unusable`'s instead. A galaxy whose stars cannot be
    read is measured without them. On a terminal a bar shows the progress. Raises `CatalogueError` where the table cannot be used.
    """
    if threads < 1:
        raise CatalogueError(f"--threads: {threads}; at least one process is needed.")
    local.catalogue_products("user", settings)  # there is such a file
    targets = local.targets({"catalogue": Path(settings.catalogue)}, "user", settings)
    if targets.empty:
        raise CatalogueError(f"{settings.catalogue}: the table has no rows.")
    jobs = [(str(galaxy), _with_defaults(text, defaults)) for galaxy, text in targets[["galaxy", "observation"]].itertuples(index=False)]
    positions = targets[["ra_deg", "dec_deg", "psf_fwhm_arcsec"]].to_dict("records")
    one = partial(_one, settings, measure)
    with ProcessPoolExecutor(threads) if threads > 1 else _Here() as pool:
        rows = list(_shown(pool.map(one, jobs, positions, chunksize=_CHUNK), len(jobs)))
    return rows, any(not _STARS.isdisjoint(row) for _, row in jobs)


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


def _one(settings: Settings, measure: Callable[[GalaxyMaps], dict], job: tuple[str, dict], position: Mapping) -> dict:
    galaxy, row = job
    paths = {name: Path(value) for name, value in row.items() if isinstance(value, str) and not name.endswith(("_hdu", "plane"))}
    target = {"galaxy": galaxy, "observation": json.dumps(row), **position}
    try:
        return measure(local.read(paths, target, settings, sky_needed=False))
    except DataError as err:
        if not _STARS.isdisjoint(row):  # the gas may be had without its stars
            gas = _one(settings, measure, (galaxy, {key: row[key] for key in row if key not in _STARS}), position)
            said = str(err)
            return gas if said in gas["messages"] else {**gas, "messages": f"{gas['messages']} No stars: {said}".strip()}
        return unusable(galaxy, err)
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as err:  # one bad file costs one row
        said = f"{galaxy}: {type(err).__name__}: {' '.join(str(err).split())[:200]}."
        return unusable(galaxy, DataError(GALAXY.UNREADABLE_FILE, said))


def unusable(galaxy: str, err: DataError) -> dict:
    """Return the row of a galaxy whose files cannot be used."""
    return {"galaxy": galaxy, "flags": GALAXY.names(err.flag), "messages": str(err)}


def _shown(rows: Iterable[dict], number: int) -> Iterator[dict]:
    from tqdm import tqdm

    return iter(tqdm(rows, total=number, unit="galaxy", disable=not sys.stderr.isatty()))


def check_out(path: Path) -> None:
    """Raise `CatalogueError` for a table that could not be written at the end, before any work is done."""
    if path.suffix not in (".csv", ".parquet"):
        raise CatalogueError(f"--out: {path}: a table is written as .csv or .parquet.")
