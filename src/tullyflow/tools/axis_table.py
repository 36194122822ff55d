"""The kinematic position angles of a table of galaxies."""

import logging
from collections import Counter
from functools import partial
from pathlib import Path

import pandas as pd

from tullyflow.settings import Settings
from tullyflow.surveys import GalaxyMaps
from tullyflow.tables import AXES, AXES_LAST, STELLAR_AXES, conform, write_table
from tullyflow.tools.axis import find_axes
from tullyflow.tools.table_rows import Defaults, rows_of_table

__all__ = ["find_axes_of_table", "write_axes"]

log = logging.getLogger("tullyflow")


def find_axes_of_table(
    settings: Settings, defaults: Defaults, threads: int = 1, *, north_up: bool = False, fit_centre: bool = False
) -> pd.DataFrame:
    """Find the axes of every galaxy of ``settings.catalogue``; columns AXES, STELLAR_AXES where asked, AXES_LAST.

    See `tullyflow.tools.axis.find_axes` and `rows_of_table`: a galaxy whose files cannot be used has NaN, its flag and a sentence.
    """
    rows, stars = rows_of_table(settings, defaults, partial(_row, settings, north_up, fit_centre), threads)
    frame = pd.DataFrame(rows)
    _sum_up(frame)
    columns = _columns(stars)
    return conform(frame.reindex(columns=[c.name for c in columns]), columns, "position angles")


def _row(settings: Settings, north_up: bool, fit_centre: bool, maps: GalaxyMaps) -> dict:
    return find_axes(maps, settings, north_up=north_up, fit_centre=fit_centre).row()


def _columns(stars: bool):
    return (*AXES, *(STELLAR_AXES if stars else ()), *AXES_LAST)


def _sum_up(frame: pd.DataFrame) -> None:
    names = Counter(name for text in frame["flags"] for name in str(text).split(",") if name)
    failed = frame["flags"].str.contains("PA_FAILED")
    found = int((frame["pa_deg"].notna() & ~failed).sum()) if "pa_deg" in frame else 0
    said = ", ".join(f"{n} {name}" for name, n in names.most_common())
    log.info("%d galaxies, %d with a position angle%s", len(frame), found, f" ({said})" if said else "")


def write_axes(path: Path, frame: pd.DataFrame) -> None:
    """Write a table of `find_axes_of_table`, CSV or Parquet by its suffix."""
    write_table(path, frame, _columns(stars="pa_stellar_deg" in frame))
