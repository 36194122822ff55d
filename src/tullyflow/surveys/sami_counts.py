"""Are SAMI's tables here, and whole? A table cut short (MAXREC of a table service) or absent loses galaxies' data, and says so.

Rows of each table: Croom+2021 (MNRAS 505, 991) and Data Central's tables of DR3. A table by TAP was counted by the service already.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.surveys.rows import add_flag
from tullyflow.surveys.sami_tables import find_table

__all__ = ["flag_unlisted", "warn_of_short_tables"]

log = logging.getLogger("tullyflow")

_ROWS = {
    "DR3": {
        "CubeObs": 3712, "InputCatGAMA": 5536, "InputCatClusters": 1433, "InputCatFiller": 2980, "MGEPhotomUnreg": 3150,
        "SSPApertures": 3375, "VisualMorphology": 3068, "EmissionLine1comp": 3425, "IndexApertures": 3375,
    },
}  # fmt: skip
_INPUT_OF = {1: "InputCatGAMA", 2: "InputCatClusters", 3: "InputCatFiller"}  # catsource of CubeObs
_SHOWN = 5


def _rows_in(path: Path) -> int:
    """Lines of a CSV that are not empty, without the first."""
    with open(path, "rb") as handle:
        return max(sum(bool(line.strip()) for line in handle) - 1, 0)


def _what_is_wrong(catalogues: Mapping[str, Path], stem: str, release: str) -> str:
    """A clause, such as "is not here" or "has 2000 of 5536 rows"; empty for a table that is whole, or of unknown length."""
    path = find_table(catalogues, stem, release)
    if path is None:
        return "is not here"
    rows, known = _rows_in(path), _ROWS.get(release, {}).get(stem, 0)
    return f"has {rows} of {known} rows" if rows < known else ""


def warn_of_short_tables(catalogues: Mapping[str, Path], release: str) -> None:
    """Log a warning for each table with fewer rows than the release's has."""
    for stem in _ROWS.get(release, {}):
        wrong = _what_is_wrong(catalogues, stem, release)
        if wrong.startswith("has"):
            log.warning(
                "sami %s: %s %s: galaxies, or their data, are lost; was it cut by a service's MAXREC? Replace %s by the whole table",
                release, stem, wrong, find_table(catalogues, stem, release),
            )  # fmt: skip


def flag_unlisted(frame: pd.DataFrame, cubes: pd.DataFrame, catalogues: Mapping[str, Path], release: str) -> None:
    """Give each target without a position its sentence, in place, and log how many of each input table there are.

    ``cubes`` has the rows of ``frame`` and, where it is CubeObs, ``catsource``, which says the table that should list them.
    """
    unlisted = ~np.isfinite(frame[["ra_deg", "dec_deg"]].to_numpy(dtype=float)).all(axis=1)
    source = pd.to_numeric(cubes["catsource"], errors="coerce") if "catsource" in cubes else pd.Series(np.nan, index=cubes.index)
    stems = source.map(_INPUT_OF).fillna("").to_numpy()
    for stem in dict.fromkeys(stems[unlisted]):
        rows = unlisted & (stems == stem)
        why = f"{stem} {_what_is_wrong(catalogues, stem, release) or 'is whole'}" if stem else "which should list them is not known"
        names = ", ".join(frame["galaxy"][rows].head(_SHOWN)) + (", ..." if rows.sum() > _SHOWN else "")
        log.warning(
            "sami %s: %d galaxies are in none of the input tables (%s): no position, redshift or mass: %s", release, rows.sum(), why, names
        )
        add_flag(frame, rows, 0, f"In none of the input tables ({why}): no position, redshift or mass.")
