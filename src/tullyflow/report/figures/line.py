"""A line through anybody's points, as `tullyflow fit-line --plot` draws it."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tullyflow.report.figures.style import BAND, FIT, OKABE_ITO, house_style, new_figure

if TYPE_CHECKING:
    from tullyflow.tools.fit_line import TableFit

__all__ = ["plot_line"]

_MANY = 500  # points: above this one typical error bar stands for all
_COLOUR = OKABE_ITO["blue"]
_METHODS = {
    "lts": "least trimmed squares",
    "mnr": "marginalised normal regression",
    "ols": "ordinary least squares",
    "bisector": "bisector of the two regressions",
}


def _limits(values: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    open_by = 0.05 * (high - low) + min(float(np.median(errors)), 0.1 * (high - low)) or 1.0  # all the same
    return low - open_by, high + open_by


def _draw_points(axes: Axes, found: "TableFit", y: np.ndarray, labels: bool) -> None:
    """Used points filled, outliers open, upper limits as arrows down."""
    points, used = found.points, found.fit.used
    size = float(np.clip(28 - 6 * np.log10(used.size), 5, 24))
    if used.size <= _MANY:
        y_err = np.where(points.upper, 0, points.y_err)
        axes.errorbar(points.x, y, xerr=points.x_err, yerr=y_err, fmt="none", ecolor=_COLOUR, elinewidth=0.6, alpha=0.35, zorder=2)
    open_ = {"facecolors": "white", "edgecolors": _COLOUR, "linewidths": 0.9, "zorder": 3}
    filled = {"color": _COLOUR, "edgecolors": "white", "linewidths": 0.35, "zorder": 3}
    for chosen, marker, look, what in (
        (used & ~points.upper, "o", filled, "points used"),
        (~used & ~points.upper, "o", open_, "outliers"),
        (points.upper, "v", filled, "upper limits"),
    ):
        if chosen.any():
            label = f"{what} ({int(chosen.sum())})" if labels else None
            axes.scatter(points.x[chosen], y[chosen], s=1.6 * size if marker == "v" else size, marker=marker, label=label, **look)


def _label(column: str, unit: str) -> str:
    return f"{column} ({unit})" if unit else column


def plot_line(found: "TableFit") -> Figure:
    """Draw the points with their errors, the line with its intrinsic scatter as a band, and the residuals below."""
    fit, points, columns = found.fit, found.points, found.columns
    with house_style():
        figure = new_figure(6.0, 6.0)
        top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3.1, 1]})
        x_limits = _limits(points.x, points.x_err)
        grid = np.linspace(*x_limits, 50)
        y = fit.predict(grid)
        digits = int(np.clip(1 - np.floor(np.log10(fit.slope_err)), 0, 9)) if fit.slope_err > 0 else 3
        value = f"slope {fit.slope:.{digits}f} ± {fit.slope_err:.{digits}f}".replace("-", "−")
        top.plot(grid, y, color=FIT, linewidth=1.8, zorder=5, label=value)
        band = {"color": BAND, "alpha": 0.25, "linewidth": 0, "zorder": 0}
        top.fill_between(grid, y - fit.scatter, y + fit.scatter, label=f"intrinsic scatter {fit.scatter:.3g}", **band)
        cross = {"marker": "P", "color": FIT, "markeredgecolor": "white", "linestyle": "none", "zorder": 6}
        top.plot([fit.pivot], [fit.intercept], markersize=9, label=f"pivot {fit.pivot:.4g}", **cross)
        _draw_points(top, found, points.y, labels=True)
        bottom.axhline(0, color=FIT, linewidth=1.4, zorder=4)
        bottom.axhspan(-fit.scatter, fit.scatter, **band)
        _draw_points(bottom, found, points.y - fit.predict(points.x), labels=False)
        y_limits = _limits(points.y, points.y_err)
        top.set(xlim=x_limits, ylim=y_limits, ylabel=_label(columns.y, found.unit(columns.y)))
        bottom.set(xlabel=_label(columns.x, found.unit(columns.x)), ylabel="residual")
        if points.x.size > _MANY and (points.x_err.any() or points.y_err.any()):
            x, at = x_limits[1] - 0.08 * np.ptp(x_limits), y_limits[0 if fit.slope > 0 else 1]
            at += (0.1 if fit.slope > 0 else -0.14) * np.ptp(y_limits)
            errors = {"xerr": [np.median(points.x_err)], "yerr": [np.median(points.y_err)]}
            top.errorbar([x], [at], **errors, fmt="none", ecolor=FIT, elinewidth=1.0, capsize=2)
            top.annotate("typical error", (x, at), xytext=(0, 14), textcoords="offset points", ha="center", fontsize=7.5, color="#555555")
        title = f"{found.table.path.name}: {_METHODS[fit.method]}"
        figure.legend(
            loc="outside upper left", ncols=2, title=title, alignment="left", title_fontproperties={"weight": "bold", "size": 10},
            columnspacing=1.6, labelspacing=0.35,
        )  # fmt: skip
    return figure
