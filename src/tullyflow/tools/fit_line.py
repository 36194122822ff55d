"""A line through two columns of anybody's table: what `tullyflow fit-line TABLE` prints."""

from dataclasses import dataclass

import numpy as np

from tullyflow.errors import RelationError, SettingsError
from tullyflow.relation.line import EVERYWHERE, LineFit
from tullyflow.relation.methods import Method, fit_by_method
from tullyflow.tools.line_table import Columns, LinePoints, OpenTable, take_points

__all__ = ["TableFit", "fit_table", "record", "words"]

_SHOWN = 8  # outliers that are named to a person


@dataclass(frozen=True)
class TableFit:
    """A fit with the points it was made of."""

    table: OpenTable
    columns: Columns
    points: LinePoints
    fit: LineFit

    def unit(self, column: str) -> str:
        return self.table.units.get(column, "")


def fit_table(
    table: OpenTable, columns: Columns, method: Method, pivot: str = "median", clip: float = 2.6, seed: int = 0,
    x_range=EVERYWHERE, y_range=EVERYWHERE,
) -> TableFit:  # fmt: skip
    """Fit y of x by one method; ``pivot`` is a number or "median", that of the x that are fitted; ranges as in `fit_by_method`.

    Raises `CatalogueError` for what is wrong in the table, `SettingsError` for an option, `RelationError` where nothing can be fitted.
    """
    if not clip > 0:
        raise SettingsError(f"--clip: {clip:g}; a positive number of standard deviations is needed.")
    if seed < 0:
        raise SettingsError(f"--seed: {seed}; a number from 0 is needed.")
    points = take_points(table, columns)
    if method in ("lts", "mnr") and not (columns.x_err or columns.y_err):
        raise SettingsError(
            f"fit-line: {method} needs errors: --xerr, --yerr or both, each a column or a number; ols and bisector do without."
        )
    try:
        at = float(np.median(points.x)) if pivot == "median" and points.x.size else float("nan" if pivot == "median" else pivot)
    except ValueError as err:
        raise SettingsError(f"--pivot: {pivot!r} is neither a number nor 'median'.") from err
    if pivot != "median" and not np.isfinite(at):
        raise SettingsError(f"--pivot: {pivot}; a finite number is needed.")
    try:
        fit = fit_by_method(
            method, points.x, points.y, points.x_err, points.y_err, at,
            clip=clip, y_upper=points.upper if points.upper.any() else None, x_range=x_range, y_range=y_range,
            rng=np.random.default_rng(seed),
        )  # fmt: skip
    except RelationError as err:
        gone = f" {_missing(points)}" if points.n_missing else ""
        raise RelationError(f"{table.path}: {str(err).removeprefix('fit: ')}{gone}") from err
    return TableFit(table, columns, points, fit)


def _missing(points: LinePoints) -> str:
    places = ", ".join(f"{name} in {count}" for name, count in points.missing.items())
    return f"Of {points.n_rows} rows {points.n_missing} are left out, where a value is missing ({places})."


def record(found: TableFit) -> dict:
    """The fit with the keys of a relation's JSON; a NaN is None. ``outliers`` are names or, without them, rows from 1."""
    fit, points = found.fit, found.points
    names = (
        "slope", "slope_err", "intercept", "intercept_err", "scatter", "scatter_err", "rms", "n_used", "n_outliers", "n_limits",
    )  # fmt: skip
    values = {name: getattr(fit, name) for name in names}
    return {
        "relation": None,
        "method": fit.method,
        "x": found.columns.x,
        "y": found.columns.y,
        "velocity": None,
        "pivot": fit.pivot,
        **{name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in values.items()},
        "covariance": fit.covariance.tolist(),
        "n_missing": points.n_missing,
        "surveys": points.surveys,
        "outliers": outliers(found),
        "outliers_by": points.named_by,
    }


def outliers(found: TableFit) -> list:
    """What the points that were not used are called."""
    return [name for name, used in zip(found.points.names, found.fit.used, strict=True) if not used]


def words(found: TableFit) -> str:
    """Lines for a person: the line, both scatters with what they mean, and who was left out."""
    fit, columns, points = found.fit, found.columns, found.points
    x_unit, y_unit = found.unit(columns.x), found.unit(columns.y)
    y_unit_said = f" {y_unit}" if y_unit else ""
    intrinsic = "intrinsic" if columns.x_err or columns.y_err else "errors are not known: as the rms"
    rows = [
        ("slope", _value(fit.slope, fit.slope_err), f"{y_unit or '1'} per {x_unit or '1'}" if x_unit or y_unit else ""),
        ("intercept", _value(fit.intercept, fit.intercept_err), f"{columns.y} at {columns.x} = {fit.pivot:.6g} (the pivot)"),
        ("scatter", _value(fit.scatter, fit.scatter_err), f"{intrinsic}, in {columns.y}"),
        ("rms", _value(fit.rms, fit.rms / np.sqrt(2 * fit.n_used), False), f"observed, of the {fit.n_used - fit.n_limits} points used"),
    ]
    wide = max(len(value) for _, value, _ in rows)
    lines = [f"{found.table.path.name}: {columns.y}{y_unit_said} on {columns.x}{f' {x_unit}' if x_unit else ''} by {fit.method}"]
    lines += [f"  {name:<10} {value:<{wide}}  {said}".rstrip() for name, value, said in rows]
    lines.append(f"  {'rows':<10} {points.n_rows}: {fit.n_used} used, {fit.n_outliers} outliers, {points.n_missing} left out")
    if fit.n_limits:
        lines.append(f"  {'limits':<10} {fit.n_limits} of the used are upper limits in {columns.y}")
    if gone := outliers(found):
        more = f" and {len(gone) - _SHOWN} more (--json has them all)" if len(gone) > _SHOWN else ""
        which = "rows " if points.named_by == "row" else ""
        lines.append(f"  {'outliers':<10} {which}{', '.join(map(str, gone[:_SHOWN]))}{more}")
    if points.n_missing:
        lines.append(f"    {_missing(points)}")
    return "\n".join(lines)


def _value(value: float, err: float, with_error: bool = True) -> str:
    """A value with its error, both to the error's second digit."""
    if not (np.isfinite(err) and err > 0):
        return f"{value:.4g}, error not defined" if with_error else f"{value:.4g}"
    digits = int(np.clip(1 - np.floor(np.log10(err)), 0, 9))
    return f"{value:.{digits}f} +- {err:.{digits}f}" if with_error else f"{value:.{digits}f}"
