"""A relation beside the literature (thesis figs 4.2-4.4): our galaxies and fit to the left, the published lines to the right."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tullyflow.report.figures.listing import METHOD_WORDS, RELATION_WORDS, VELOCITY_WORDS
from tullyflow.report.figures.panels import MANY_POINTS, count_beyond, panel_key, say
from tullyflow.report.figures.relation import (
    axis_labels,
    draw_galaxies,
    is_line,
    line_y,
    literature_looks,
    relation_limits,
    relation_points,
)
from tullyflow.report.figures.style import BAND, FIT, house_style, new_figure
from tullyflow.report.words import plus_minus

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = ["line_error", "plot_comparison"]


def line_error(x, line: Mapping) -> np.ndarray:
    """Return the 1 sigma of a line at ``x``: of its covariance where it has one, of slope and intercept at the pivot otherwise."""
    x = np.asarray(x, dtype=float) - line["pivot"]
    covariance = line.get("covariance")
    slope_var, cross, intercept_var = line["slope_err"] ** 2, 0.0, line["intercept_err"] ** 2
    if covariance is not None:
        (slope_var, cross), (_, intercept_var) = covariance
    return np.sqrt(np.maximum(slope_var * x**2 + 2 * cross * x + intercept_var, 0.0))


def _band(axes: Axes, grid: np.ndarray, middle: np.ndarray, half: np.ndarray | float, alpha: float, colour: str = BAND) -> Artist:
    return axes.fill_between(grid, middle - half, middle + half, color=colour, alpha=alpha, linewidth=0, zorder=0)


def _ours(top: Axes, bottom: Axes, points: pd.DataFrame, fit: Mapping, grid: np.ndarray, unit: str) -> list[Artist]:
    handles = draw_galaxies(top, points, "y")
    if not is_line(fit):
        sentence = f"No fit: {str(fit.get('error', 'the file carries no slope')).removeprefix('fit: ')}"
        say(bottom, sentence, width=60, ticks=True)
        bottom.set_yticks([])
        return handles
    rms = float(fit.get("rms") or 0.0)
    draw_galaxies(bottom, points, "residual")
    for axes, middle in ((top, line_y(grid, fit)), (bottom, np.zeros_like(grid))):
        band = _band(axes, grid, middle, 3 * rms, 0.16)
        _band(axes, grid, middle, rms, 0.28)
        (line,) = axes.plot(grid, middle, color=FIT, linewidth=1.8, zorder=5)
    intercept = plus_minus(fit["intercept"], fit.get("intercept_err"))
    line.set_label(f"slope {plus_minus(fit['slope'], fit.get('slope_err'))}; {intercept} at {fit['pivot']:g}")
    scatter = plus_minus(fit.get("scatter"), fit.get("scatter_err"))
    band.set_label(f"1 and 3 times the rms, {rms:.3f} {unit} (intrinsic {scatter})")
    used = points.loc[points["used"], "residual"].abs()
    extent = 1.1 * max(3 * rms, float(np.percentile(used, 98)) if len(used) else 0.3)
    bottom.set_ylim(-extent, extent)
    count_beyond(bottom, points["x"], points["residual"])
    return [*handles, line, band]


def _theirs(top: Axes, bottom: Axes, points: pd.DataFrame, fit: Mapping, grid: np.ndarray, literature: Sequence[Mapping]) -> list[Artist]:
    used = points[points["used"]]
    looks = {"color": "#b9b9b9", "linewidths": 0, "s": float(np.clip(24 - 6 * np.log10(max(len(used), 1)), 4, 16)), "zorder": 1}
    top.scatter(used["x"], used["y"], rasterized=len(used) > MANY_POINTS, **looks)
    ours = line_y(grid, fit) if is_line(fit) else None
    handles: list[Artist] = []
    for k, line in enumerate(literature):
        looks, middle, half = literature_looks(k), line_y(grid, line), line_error(grid, line)
        _band(top, grid, middle, half, 0.13, looks["color"])
        label = f"{line['name']}: {plus_minus(line['slope'], line['slope_err'])}"
        handles += top.plot(grid, middle, linewidth=1.5, zorder=4, label=label, **looks)
        if ours is not None:
            _band(bottom, grid, middle - ours, half, 0.13, looks["color"])
            bottom.plot(grid, middle - ours, linewidth=1.5, zorder=4, **looks)
    if ours is None:
        bottom.set(yticks=[], frame_on=False)
        return handles
    for axes, middle in ((top, ours), (bottom, np.zeros_like(grid))):
        _band(axes, grid, middle, line_error(grid, fit), 0.4)
        (line,) = axes.plot(grid, middle, color=FIT, linewidth=1.8, zorder=5)
    line.set_label(f"this work: {plus_minus(fit['slope'], fit.get('slope_err'))}")
    return [line, *handles]


def plot_comparison(sample: pd.DataFrame, fit: Mapping, settings: "Settings", literature: Sequence[Mapping]) -> Figure:
    """Draw one relation twice: with its fit, and with the published lines of the same relation; residuals and differences below.

    Left, the bands are one and three times the *observed* rms of the kept galaxies; right, each band is the 1 sigma of a line,
    and the lower panel shows every line less this fit. Excluded galaxies are left out here; those beyond the axes are counted.
    """
    points = relation_points(sample, fit, settings)
    points = points[points["used"]].reset_index(drop=True)
    x_label, y_label, unit = axis_labels(fit)
    velocity, method = str(fit["velocity"]), str(fit.get("method", "?"))
    with house_style():
        figure = new_figure(10.0, 6.6)
        panels = figure.subplots(2, 2, sharex=True, gridspec_kw={"height_ratios": [2.9, 1]})
        x_limits, y_limits = relation_limits(points, "x"), relation_limits(points, "y")
        grid = np.linspace(*x_limits, 60)
        for axes in panels[0]:
            axes.set(xlim=x_limits, ylim=y_limits)
        ours = _ours(panels[0, 0], panels[1, 0], points, fit, grid, unit)
        theirs = _theirs(panels[0, 1], panels[1, 1], points, fit, grid, literature)
        if points.empty:
            for axes in panels[0]:
                say(axes, "No galaxy is in the relation.", ticks=True)
        count_beyond(panels[0, 0], points["x"], points["y"])
        panels[0, 0].set_ylabel(y_label)
        panels[1, 0].set(xlabel=x_label, ylabel=f"residual ({unit})")
        panels[1, 1].set(xlabel=x_label, ylabel=f"line − this work ({unit})" if is_line(fit) else "")
        panels[0, 1].tick_params(labelleft=False)
        if fit["relation"] == "r_band":
            for axes in panels.flat:
                axes.invert_yaxis()
        words = VELOCITY_WORDS.get(velocity, velocity)
        title = f"{RELATION_WORDS[fit['relation']]}: {words}, {METHOD_WORDS.get(method, method)}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
        panel_key(panels[0, 0], "This work", ours)
        panel_key(panels[0, 1], "Slopes, published" if literature else "No published line of this relation", theirs)
        figure.align_ylabels(panels[:, 0])
    return figure
