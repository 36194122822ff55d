"""The points of a line fit out of anybody's table: which columns, which rows, and what was left out."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.errors import CatalogueError

__all__ = ["Columns", "LinePoints", "OpenTable", "open_table", "take_points"]

_ASTROPY = {".ecsv": "ascii.ecsv", ".fits": "fits", ".fit": "fits", ".vot": "votable", ".xml": "votable"}
_KNOWN = ".csv, .tsv, .ecsv, .fits, .fits.gz, .parquet, .vot"
_NAMES = ("galaxy", "name", "object", "id")  # a column of this name, in any case, says what a row is called
_TRUTHS = {"true": True, "t": True, "yes": True, "y": True, "1": True, "1.0": True} | dict.fromkeys(
    ("false", "f", "no", "n", "0", "0.0", "", "nan", "none", "<na>"), False
)
_SHOWN = 5  # rows that a sentence names


@dataclass(frozen=True)
class OpenTable:
    """A table and the units of the columns that say theirs."""

    path: Path
    frame: pd.DataFrame
    units: Mapping[str, str]


@dataclass(frozen=True)
class Columns:
    """What to take: names of columns; an error may be a number; empty: there is none."""

    x: str
    y: str
    x_err: str = ""
    y_err: str = ""
    upper: str = ""


@dataclass(frozen=True)
class LinePoints:
    """Points (point,) with errors (0 where none were named), limits in y, and what each is called (row number or name).

    ``n_rows`` counts the table's rows, ``n_missing`` those left out, ``missing`` the empty places per column among them.
    """

    x: np.ndarray
    y: np.ndarray
    x_err: np.ndarray
    y_err: np.ndarray
    upper: np.ndarray
    names: list
    named_by: str
    surveys: list[str]
    n_rows: int
    n_missing: int
    missing: Mapping[str, int] = field(default_factory=dict)


def open_table(path: str | Path) -> OpenTable:
    """Read a table by its suffix (CSV, TSV, ECSV, FITS, Parquet, VOTable); the first table of a FITS file is taken.

    Masked and blank entries become missing; columns with more than one value per row are left out.
    Raises `CatalogueError` where there is no such file, it is of another kind, cannot be read, or is empty.
    """
    path = Path(path)
    suffix = path.with_suffix("").suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if not path.is_file():
        raise CatalogueError(f"{path}: no such file.")
    units: dict[str, str] = {}
    try:
        if suffix in (".csv", ".tsv"):
            frame = _read_text(path, "\t" if suffix == ".tsv" else ",")
        elif suffix == ".parquet":
            frame = pd.read_parquet(path)
        elif suffix in _ASTROPY:
            from astropy.table import Table

            table = Table.read(path, format=_ASTROPY[suffix], **({} if suffix != ".fits" else {"unit_parse_strict": "silent"}))
            table = table[[name for name in table.colnames if table[name].ndim == 1]]
            units = {name: str(table[name].unit) for name in table.colnames if table[name].unit}
            frame = table.to_pandas()
        else:
            raise CatalogueError(f"{path}: no table is read from {path.suffix or 'a file without a suffix'}; known: {_KNOWN}.")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as err:  # what the readers raise at a broken file
        raise CatalogueError(f"{path}: not readable as a table: {' '.join(str(err).split())[:200].rstrip('.')}.") from err
    frame.columns = [str(name).strip() for name in frame.columns]
    if frame.empty:
        raise CatalogueError(f"{path}: the table has no rows.")
    return OpenTable(path, frame, units)


def _read_text(path: Path, separator: str) -> pd.DataFrame:
    """A table whose first lines may be comments; a # further down is a name's."""
    with path.open(encoding="utf-8-sig") as lines:
        comments = 0
        for line in lines:
            if not line.startswith("#"):
                break
            comments += 1
    return pd.read_csv(path, sep=separator, skiprows=comments, skipinitialspace=True, encoding="utf-8-sig")


def _column(table: OpenTable, name: str, option: str) -> pd.Series:
    if name not in table.frame.columns:
        known = [str(column) for column in table.frame.columns]
        lower = {column.lower(): column for column in known}
        near = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
        hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}."
        raise CatalogueError(f"{table.path}: --{option} {name}: no such column; {hint}")
    return table.frame[name].reset_index(drop=True)


def _rows(bad: np.ndarray) -> str:
    """Rows, from 1, as words: the first few and how many more."""
    rows = np.flatnonzero(bad) + 1
    more = f" and {rows.size - _SHOWN} more" if rows.size > _SHOWN else ""
    return f"row{'s' if rows.size > 1 else ''} {', '.join(map(str, rows[:_SHOWN]))}{more}"


def _text(column: pd.Series) -> pd.Series:
    """A column whose bytes, as FITS has them, are text."""
    return column.map(lambda value: value.decode(errors="replace") if isinstance(value, bytes) else value)


def _numbers(table: OpenTable, name: str, option: str) -> np.ndarray:
    """A column as numbers; NaN where missing or blank."""
    text = _text(_column(table, name, option))
    if text.dtype == object or pd.api.types.is_string_dtype(text):
        text = text.map(lambda value: value.strip() or None if isinstance(value, str) else value)
    values = pd.to_numeric(text, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    odd = np.isnan(values) & text.notna().to_numpy() & (text.astype(str).str.lower() != "nan").to_numpy()
    if odd.any():
        found = text[int(np.argmax(odd))]
        raise CatalogueError(f"{table.path}: column {name}: {found!r} is not a number ({_rows(odd)}); leave such cells empty.")
    if np.isinf(values).any():
        raise CatalogueError(f"{table.path}: column {name}: infinite in {_rows(np.isinf(values))}; a line needs finite numbers.")
    return values


def _errors(table: OpenTable, name: str, option: str, needed: np.ndarray) -> np.ndarray:
    """Errors of a column, or one number for all; zero where nothing is named. Those of rows that are not ``needed`` may be zero."""
    if not name:
        return np.zeros(needed.size)
    if name in table.frame.columns:
        values = _numbers(table, name, option)
    else:
        try:
            values = np.full(needed.size, float(name))
        except ValueError:
            _column(table, name, option)  # says that there is none
    bad = needed & (values <= 0)
    if bad.any() or np.isinf(values).any():
        where = f"column {name}: zero or negative in {_rows(bad)}" if name in table.frame.columns else f"--{option} {name}"
        raise CatalogueError(f"{table.path}: {where}; an error must be a positive number.")
    return np.where(needed, values, np.maximum(np.nan_to_num(values), 0.0))


def _limits(table: OpenTable, name: str) -> np.ndarray:
    if not name:
        return np.zeros(len(table.frame), dtype=bool)
    column = _column(table, name, "upper")
    truths = _text(column).astype(str).str.strip().str.lower().map(_TRUTHS)
    if truths.isna().any():
        found = column[int(np.argmax(truths.isna().to_numpy()))]
        raise CatalogueError(f"{table.path}: column {name}: {found!r} in {_rows(truths.isna().to_numpy())} is neither true nor false.")
    return truths.to_numpy(dtype=bool)


def take_points(table: OpenTable, columns: Columns) -> LinePoints:
    """Take the points of a table; rows in which something is missing are left out and counted.

    Raises `CatalogueError`, one sentence, for a column that there is not (with near names), text or infinite values in it,
    errors that are not positive (each with its rows), and limits that are neither true nor false.
    """
    upper = _limits(table, columns.upper)
    values = {"x": _numbers(table, columns.x, "x"), "y": _numbers(table, columns.y, "y")}
    values["x_err"] = _errors(table, columns.x_err, "xerr", np.ones(upper.size, dtype=bool))
    values["y_err"] = _errors(table, columns.y_err, "yerr", ~upper)
    kept = np.all([np.isfinite(column) for column in values.values()], axis=0)
    missing = {getattr(columns, name): int(np.isnan(column).sum()) for name, column in values.items() if np.isnan(column).any()}
    lower = {name.lower(): name for name in reversed(table.frame.columns)}
    named_by = next((lower[name] for name in _NAMES if name in lower), "row")
    rows = pd.Series(np.arange(1, upper.size + 1), dtype=object)
    names = rows if named_by == "row" else _text(table.frame[named_by].astype(object)).reset_index(drop=True)
    names = names.where(names.notna(), rows)[kept].tolist()
    surveys = sorted({str(name) for name in _text(table.frame["survey"])[kept].dropna()}) if "survey" in table.frame.columns else []
    return LinePoints(
        **{name: column[kept] for name, column in values.items()}, upper=upper[kept], names=names, named_by=named_by, surveys=surveys,
        n_rows=upper.size, n_missing=int((~kept).sum()), missing=missing,
    )  # fmt: skip
