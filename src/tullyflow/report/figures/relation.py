"""A Tully-Fisher relation: galaxies, the fit with its scatter, the literature, and the residuals below."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tullyflow.relation import tully_fisher
from tullyflow.report.figures.listing import RELATION_WORDS, VELOCITY_WORDS
from tullyflow.report.figures.panels import MANY_POINTS
from tullyflow.report.figures.quantities import VELOCITY_SYMBOLS
from tullyflow.report.figures.style import (
    BAND,
    EXCLUDED,
    FIT,
    LITERATURE_DASHES,
    OKABE_ITO,
    house_style,
    new_figure,
    survey_style,
)

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = [
    "axis_labels", "draw_galaxies", "draw_typical_error", "is_line", "line_y",
    "literature_looks", "plot_relation", "relation_limits", "relation_points",
]  # fmt: skip

_MASS_LABEL = r"stellar mass  $\log_{10}\,(M_{\!*}\,/\,\mathrm{M}_\odot)$"
_MAGNITUDE_LABEL = r"absolute magnitude  $M_r$  (mag)"
_BARYONIC_LABEL = r"baryonic mass  $\log_{10}\,(M_\mathrm{b}\,/\,\mathrm{M}_\odot)$"
_LITERATURE_COLOURS = tuple(OKABE_ITO[name] for name in ("orange", "sky", "purple", "green", "vermilion", "blue"))
_MANY = 500  # galaxies: above this one typical error bar stands for all


def axis_labels(fit: Mapping) -> tuple[str, str, str]:
    """Return the labels of x and y of a fit with their units, and the unit of the residual."""
    kind = "circular velocity" if fit.get("drift", "off") != "off" else "rotation velocity"
    speed = rf"{kind}  $\log_{{10}}\,({VELOCITY_SYMBOLS.get(fit['velocity'], 'V')}\,/\,\mathrm{{km\,s^{{-1}}}})$"
    baryonic = (_BARYONIC_LABEL, speed) if str(fit.get("y", "")).startswith("log10(v") else (speed, _BARYONIC_LABEL)
    return {
        "reverse": (_MASS_LABEL, speed, "dex"),
        "forward": (speed, _MASS_LABEL, "dex"),
        "r_band": (speed, _MAGNITUDE_LABEL, "mag"),
        "baryonic": (*baryonic, "dex"),
    }[fit["relation"]]


def relation_points(sample: pd.DataFrame, fit: Mapping, settings: "Settings") -> pd.DataFrame:
    """Return what a relation is plotted from: galaxy, survey, x, x_err, y, y_err, used, outlier, residual.

    Parameters
    ----------
    sample : DataFrame
        Rows of ``tables.SAMPLE``.
    fit : mapping
        A relation's JSON; its ``surveys`` choose the rows, its ``outliers`` are marked.
    settings : Settings
        As the fit had them: they decide the velocity and the errors of masses that come without one.

    Axes are those of `tullyflow.relation.tully_fisher.relation_points`, here of excluded galaxies too; a galaxy without
    finite x, y and velocity error is left out. ``residual`` (y minus the fit) is NaN where the fit carries no slope.
    """
    surveys = fit.get("surveys")
    chosen = sample[sample["survey"].isin(surveys)] if surveys else sample
    points = tully_fisher.relation_points(chosen.assign(used=True), fit["relation"], fit["velocity"], settings)
    rows = chosen.loc[points.rows]
    table = pd.DataFrame(
        {
            "galaxy": rows["galaxy"].to_numpy(),
            "survey": rows["survey"].to_numpy(),
            "x": points.x,
            "x_err": points.x_err,
            "y": points.y,
            "y_err": points.y_err,
            "used": rows["used"].to_numpy(dtype=bool),
        }
    )
    table["outlier"] = table["used"] & table["galaxy"].isin(fit.get("outliers") or [])
    table["residual"] = table["y"] - line_y(table["x"], fit) if is_line(fit) else np.nan
    return table


def is_line(fit: Mapping) -> bool:
    """Return whether a relation's record carries a line, rather than an error."""
    return all(isinstance(fit.get(key), int | float) and np.isfinite(fit[key]) for key in ("slope", "intercept", "pivot"))


def line_y(x, fit: Mapping) -> np.ndarray:
    """Return y of a line with ``slope``, ``intercept`` and ``pivot`` at ``x``."""
    return fit["slope"] * (np.asarray(x, dtype=float) - fit["pivot"]) + fit["intercept"]


def relation_limits(points: pd.DataFrame, column: str) -> tuple[float, float]:
    """Axis limits from the galaxies in the relation, opened a little for the excluded ones."""
    used = points.loc[points["used"], column]
    core = used if len(used) >= 2 else points[column]
    if core.empty:
        return {"x": (8.0, 12.0), "y": (1.0, 3.0)}[column]
    span = max(float(core.max() - core.min()), 0.2)
    low, high = np.percentile(points[column], [5, 95])
    lowest = max(min(core.min(), low), core.min() - 0.35 * span)
    highest = min(max(core.max(), high), core.max() + 0.35 * span)
    return float(lowest - 0.06 * span), float(highest + 0.06 * span)


def draw_galaxies(axes: Axes, points: pd.DataFrame, y: str) -> list[Artist]:
    """Draw used galaxies with their errors, clipped ones open, excluded ones faint, with ``y`` or ``residual`` upwards; return a key."""
    handles: list[Artist] = []
    used, out = points[points["used"]], points[~points["used"]]
    size = float(np.clip(28 - 6 * np.log10(max(len(points), 1)), 5, 24))
    for survey, rows in used.groupby("survey", sort=False):
        style = survey_style(str(survey))
        if len(used) <= _MANY:
            bars = {"fmt": "none", "ecolor": style.colour, "elinewidth": 0.6, "alpha": 0.28, "zorder": 2}
            axes.errorbar(rows["x"], rows[y], xerr=rows["x_err"], yerr=rows["y_err"], **bars)
        kept, clipped = rows[~rows["outlier"]], rows[rows["outlier"]]
        looks = {"marker": style.marker, "s": size, "zorder": 3, "rasterized": len(points) > MANY_POINTS}
        label = f"{style.label} ({len(rows)})"
        handles.append(axes.scatter(kept["x"], kept[y], color=style.colour, edgecolors="white", linewidths=0.35, label=label, **looks))
        axes.scatter(clipped["x"], clipped[y], facecolors="white", edgecolors=style.colour, linewidths=0.9, **looks)
    if used["outlier"].any():
        label = f"clipped by the fit ({int(used['outlier'].sum())})"
        handles.append(
            Line2D([], [], marker="o", linestyle="none", markerfacecolor="white", markeredgecolor=FIT, markersize=4.5, label=label)
        )
    if len(out):
        looks = {"s": 0.6 * size, "marker": "o", "facecolors": "none", "edgecolors": EXCLUDED, "linewidths": 0.6, "zorder": 1}
        looks["rasterized"] = len(points) > MANY_POINTS
        handles.append(axes.scatter(out["x"], out[y], label=f"excluded ({len(out)})", **looks))
    return handles


def draw_typical_error(axes: Axes, points: pd.DataFrame) -> None:
    """One bar of median length in the lower right corner, where a rising relation has no galaxies."""
    used = points[points["used"]]
    (x_low, x_high), (y_low, y_high) = axes.get_xlim(), axes.get_ylim()
    x, y = x_high - 0.07 * (x_high - x_low), y_low + 0.12 * (y_high - y_low)
    axes.errorbar([x], [y], xerr=[used["x_err"].median()], yerr=[used["y_err"].median()], fmt="none", ecolor=FIT, elinewidth=1.0, capsize=2)
    axes.annotate("typical error", (x, y), xytext=(0, 14), textcoords="offset points", ha="center", fontsize=7.5, color="#555555")


def literature_looks(k: int) -> dict:
    """Return colour and dashes of the k-th published line."""
    return {"color": _LITERATURE_COLOURS[k % 6], "linestyle": LITERATURE_DASHES[k % 6]}


def _draw_literature(axes: Axes, literature: Sequence[Mapping], x: np.ndarray) -> list[Artist]:
    handles: list[Artist] = []
    for k, line in enumerate(literature):
        handles += axes.plot(x, line_y(x, line), label=str(line["name"]), linewidth=1.3, zorder=4, **literature_looks(k))
    return handles


def _draw_fit(top: Axes, bottom: Axes, fit: Mapping, grid: np.ndarray, unit: str) -> list[Artist]:
    y, scatter = line_y(grid, fit), float(fit.get("scatter") or 0.0)
    slope = f"{fit['slope']:.3f}".replace("-", "−")
    error = f" ± {fit['slope_err']:.3f}" if isinstance(fit.get("slope_err"), int | float) else ""
    handles: list[Artist] = list(top.plot(grid, y, color=FIT, linewidth=1.8, zorder=5, label=f"this work: slope {slope}{error}"))
    band = {"color": BAND, "alpha": 0.25, "linewidth": 0, "zorder": 0}
    handles.append(top.fill_between(grid, y - scatter, y + scatter, label=f"intrinsic scatter {scatter:.3f} {unit}", **band))
    cross = {"marker": "P", "color": FIT, "markeredgecolor": "white", "linestyle": "none", "zorder": 6}
    handles += top.plot([fit["pivot"]], [fit["intercept"]], markersize=9, label=f"pivot {fit['pivot']:.3f}", **cross)
    bottom.axhline(0, color=FIT, linewidth=1.4, zorder=4)
    bottom.axhspan(-scatter, scatter, **band)
    bottom.plot([fit["pivot"]], [0], markersize=7, **cross)
    return handles


def _legend(figure: Figure, title: str, groups: Sequence[list[Artist]]) -> None:
    """A legend above the axes, one column per group: galaxies, this work, literature."""
    shown = [group for group in groups if group]
    rows = max((len(group) for group in shown), default=0)
    padded = [
        handle for group in shown for handle in (*group, *(Line2D([], [], linestyle="none", label=" ") for _ in range(rows - len(group))))
    ]
    figure.legend(
        handles=padded, loc="outside upper left", ncols=max(len(shown), 1), title=title, alignment="left",
        title_fontproperties={"weight": "bold", "size": 10}, columnspacing=1.6, labelspacing=0.35,
    )  # fmt: skip


def plot_relation(sample: pd.DataFrame, fit: Mapping, settings: "Settings", literature: Sequence[Mapping] = ()) -> Figure:
    """Draw one relation with its residuals.

    Parameters
    ----------
    sample : DataFrame
        Rows of ``tables.SAMPLE``; those with ``used`` false are drawn faint, those the fit clipped open.
    fit : mapping
        The relation's JSON (DESIGN 6). With an ``error`` instead of a slope the galaxies are drawn and the error is said.
    settings : Settings
        As the fit had them.
    literature : sequence of mappings, optional
        Published lines of the same relation with ``name``, ``slope``, ``intercept``, ``pivot``.

    Returns
    -------
    Figure
        The band is the fit's *intrinsic* scatter in y. Galaxies beyond the axes are counted in the corner.
    """
    relation, velocity = fit["relation"], fit["velocity"]
    points = relation_points(sample, fit, settings)
    x_label, y_label, unit = axis_labels(fit)
    with house_style():
        figure = new_figure(6.4, 6.9)
        top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3.1, 1]})
        x_limits, y_limits = relation_limits(points, "x"), relation_limits(points, "y")
        top.set(xlim=x_limits, ylim=y_limits, ylabel=y_label)
        bottom.set(xlabel=x_label, ylabel=f"residual ({unit})")
        grid = np.linspace(*x_limits, 50)
        galaxies = draw_galaxies(top, points, "y")
        published = _draw_literature(top, literature, grid)
        ours: list[Artist] = []
        if is_line(fit):
            ours = _draw_fit(top, bottom, fit, grid, unit)
            draw_galaxies(bottom, points, "residual")
            used = points.loc[points["used"], "residual"].abs()
            extent = 1.15 * max(3 * float(fit.get("rms") or 0), float(np.percentile(used, 99)) if len(used) else 0.3)
            bottom.set_ylim(-extent, extent)
        else:
            sentence = f"No fit: {fit.get('error', 'the file carries no slope').removeprefix('fit: ')}"
            bottom.text(0.5, 0.5, sentence, transform=bottom.transAxes, ha="center", va="center", wrap=True, fontsize=9)
            bottom.set_yticks([])
        if relation == "r_band":
            top.invert_yaxis()
            bottom.invert_yaxis()
        if int(points["used"].sum()) > _MANY:
            draw_typical_error(top, points)
        hidden = int((~points["x"].between(*x_limits) | ~points["y"].between(*y_limits)).sum())
        if hidden:
            where = {"xycoords": "axes fraction", "ha": "right", "va": "bottom", "fontsize": 7.5, "color": "#666666"}
            top.annotate(f"{hidden} beyond the axes", (0.99, 0.015), **where)
        title = f"{RELATION_WORDS[relation]}: {VELOCITY_WORDS.get(velocity, velocity)} ({str(fit.get('method', '?')).upper()})"
        _legend(figure, title, (galaxies, ours, published))
    return figure
