"""The fits as tables: one row per fit for programs (ECSV) and for a paper (LaTeX)."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tullyflow.relation.described import write_described
from tullyflow.relation.record import read_record
from tullyflow.tables import Column, conform, whole_file

__all__ = ["FIT_COLUMNS", "columns_of", "latex_table", "tabulate_fits", "write_rows"]

_LOG = logging.getLogger("tullyflow")


def columns_of(text: str) -> tuple[Column, ...]:
    """Columns from lines of name|kind|unit|description."""
    return tuple(Column(*(cell.strip() for cell in line.split("|"))) for line in text.strip().splitlines())


_WHICH = columns_of("""
relation|s||reverse (log V on log M*), forward, r_band or baryonic (log V on the log of stars and gas)
velocity|s||which velocity
method|s||which fit
drift|s||asymmetric drift of at least half the velocities: evans, isotropic or off
""")
FIT_COLUMNS = columns_of("""
n_used|i||galaxies in the line
n_outliers|i||galaxies the fit left out
pivot|f||x at which the intercept stands, in x's unit
slope|f||slope, y's unit per x's
slope_err|f||its 1 sigma
intercept|f||y at the pivot, in y's unit (dex; mag in the r band)
intercept_err|f||its 1 sigma
scatter|f||intrinsic scatter in y, y's unit
scatter_err|f||its 1 sigma
rms|f||observed scatter of the galaxies in the line, y's unit
""")
_LAST = columns_of("""
n_corrected|i||galaxies with x, y and errors whose velocity was corrected for drift
n_missing|i||used galaxies that lack x, y or an error
x|s||what x is
x_unit|s||its unit
y|s||what y is
y_unit|s||its unit
surveys|s||surveys in the fit
imf|s||initial mass function of the masses
error|s||why there is no line
""")
_TABLE = (*_WHICH, *FIT_COLUMNS, *_LAST)
_LATEX = ("Relation", "Velocity", "Fit", "Slope", "Intercept", "Pivot", r"$\sigma_\mathrm{int}$", "rms", "$N$", r"$N_\mathrm{out}$")
_SPECIAL = {letter: f"\\{letter}" for letter in "_%&#${}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def write_rows(path: str | Path, rows: Sequence[Mapping], columns: Sequence[Column]) -> None:
    """Write dictionaries as ECSV (`write_described`); keys that are no column are left out, absent ones empty."""
    frame = pd.DataFrame([{c.name: row.get(c.name) for c in columns} for row in rows], columns=[c.name for c in columns])
    write_described(path, conform(frame, tuple(columns), str(path)), columns)


def _unit(axis: str) -> str:
    return "mag" if "abs_mag" in axis else "dex(km/s)" if axis.startswith("log10(v") else "dex(Msun)"


def tabulate_fits(fit_paths: Sequence[str | Path], out_path: str | Path, tex_path: str | Path) -> pd.DataFrame:
    """Write all fits (JSON of `fit_relation`) as ECSV and as a LaTeX table, in the order of ``fit_paths``.

    Raises `RelationError` for an unreadable fit.
    """
    fits = [read_record(path) for path in fit_paths]
    rows = [
        fit | {"surveys": ",".join(fit.get("surveys", [])), "x_unit": _unit(str(fit.get("x", ""))), "y_unit": _unit(str(fit.get("y", "")))}
        for fit in fits
    ]
    write_rows(out_path, rows, _TABLE)
    with whole_file(tex_path) as part:
        part.write_text(latex_table(rows), encoding="utf-8")
    _LOG.info("%s: %d fits, %d of them without a line", out_path, len(rows), sum("error" in row for row in rows))
    return pd.DataFrame(rows)


def _escape(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def _value(value: float | None, error: float | None) -> str:
    """A value with its error to two digits; --- where there is none."""
    if value is None or not np.isfinite(value):
        return "---"
    if error is None or not np.isfinite(error) or error <= 0:
        return f"${value:.3f}$"
    digits = int(np.clip(1 - np.floor(np.log10(error)), 0, 6))
    return f"${value:.{digits}f} \\pm {error:.{digits}f}$"


def latex_table(fits: Sequence[Mapping]) -> str:
    """Return a plain ``tabular`` of fits that needs no package; y in dex, in mag in the r band."""
    lines = [
        "% \\input{this file} inside a table environment. Slope, intercept at the pivot, intrinsic scatter and rms in dex (r band: mag).",
        f"\\begin{{tabular}}{{lllrrrrrrr}}\n\\hline\n{' & '.join(_LATEX)} \\\\\n\\hline",
    ]
    for fit in fits:
        name = [_escape(str(fit.get(key, ""))) for key in ("relation", "velocity", "method")]
        if fit.get("error"):
            cells = [*name, f"\\multicolumn{{7}}{{l}}{{no line: {int(fit.get('n_used') or 0)} galaxies}}"]
        else:
            pairs = [_value(fit.get(key), fit.get(f"{key}_err")) for key in ("slope", "intercept", "pivot", "scatter", "rms")]
            cells = [*name, *pairs, str(fit.get("n_used", "")), str(fit.get("n_outliers", ""))]
        lines.append(f"{' & '.join(cells)} \\\\")
    return "\n".join([*lines, "\\hline\n\\end{tabular}", ""])
