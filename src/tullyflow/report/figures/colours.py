"""The reverse relation coloured by what else is known of its galaxies: age, mass-to-light ratio, star formation."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

from tullyflow.relation import tully_fisher
from tullyflow.relation.rank_correlation import correlate_ranks
from tullyflow.report.figures.panels import count_beyond, dot_looks, robust_limits, running_median, say
from tullyflow.report.figures.quantities import QUANTITIES, Quantity, quantity_table
from tullyflow.report.figures.relation import axis_labels, is_line, line_y
from tullyflow.report.figures.style import FIT, house_style, new_figure, survey_style
from tullyflow.report.figures.trend import coefficient_words

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = ["COLOURED_BY", "colour_points", "plot_colours"]

COLOURED_BY = ("log_age_yr", "log_ml", "log_ssfr", "log_sfr")
_FEWEST = 90  # galaxies below which thirds are not told apart


def _map() -> Colormap:
    """Cividis without its palest end, so that every point stands out from the paper."""
    from matplotlib import colormaps

    return LinearSegmentedColormap.from_list("cividis_shown", colormaps["cividis"](np.linspace(0.0, 0.93, 128)))


def colour_points(sample: pd.DataFrame, fit: Mapping, settings: "Settings") -> pd.DataFrame:
    """Return galaxy, survey, x, y, residual of the used galaxies of the fit, and a column per property; NaN where one has none."""
    points = tully_fisher.relation_points(sample, fit["relation"], fit["velocity"], settings)
    table = quantity_table(sample, [fit], settings).loc[points.rows]
    residual = table[f"residual_{fit['relation']}"]
    columns = {"galaxy": table["galaxy"], "survey": table["survey"], "x": points.x, "y": points.y, "residual": residual}
    return pd.DataFrame(columns | {name: table[name] for name in COLOURED_BY}).reset_index(drop=True)


def _thirds(axes: Axes, points: pd.DataFrame, name: str, cmap: Colormap) -> None:
    low, high = points[name].quantile([1 / 3, 2 / 3])
    for chosen, shade, dashes, word in (
        (points[name] <= low, cmap(0.0), "-", "lowest third"),
        (points[name] >= high, cmap(1.0), (0, (3, 1.2)), "highest third"),
    ):
        rows = points[chosen]
        medians = running_median(rows["x"], rows["y"])
        axes.plot(medians["x"], medians["y"], color="white", linewidth=4.6, zorder=4)
        axes.plot(medians["x"], medians["y"], color=FIT, linewidth=3.2, linestyle=dashes, zorder=5)
        axes.plot(medians["x"], medians["y"], color=shade, linewidth=1.8, linestyle=dashes, zorder=6, label=word)
    axes.legend(loc="upper left", fontsize=7.5, handlelength=2.4)


def _draw(figure: Figure, axes: Axes, points: pd.DataFrame, quantity: Quantity, fit: Mapping, words: str) -> None:
    known = points[points[quantity.name].notna()]
    axes.set_title(quantity.words.capitalize() + (f"\nwith the residual {words}" if words else ""), fontsize=9)
    if points.empty:
        say(axes, "No galaxy is in the relation.")
        return
    if known.empty:
        say(axes, quantity.absent)
        return
    cmap, (low, high) = _map(), robust_limits(known[quantity.name], share=5, margin=0)
    if not high > low:
        low, high = low - 0.05, high + 0.05
    axes.set(xlim=robust_limits(points["x"], share=0.2), ylim=robust_limits(points["y"], share=0.2))
    image = None
    for survey, rows in known.groupby("survey", sort=False):
        marker = survey_style(str(survey)).marker
        looks = {**dot_looks(len(known)), "alpha": None, "zorder": 2}
        image = axes.scatter(rows["x"], rows["y"], c=rows[quantity.name], cmap=cmap, vmin=low, vmax=high, marker=marker, **looks)
    if is_line(fit):
        grid = np.array(axes.get_xlim())
        axes.plot(grid, line_y(grid, fit), color=FIT, linewidth=1.0, linestyle=(0, (2, 2)), zorder=3, scalex=False, scaley=False)
    if len(known) >= _FEWEST:
        _thirds(axes, known, quantity.name, cmap)
    bar = figure.colorbar(image, ax=axes, extend="both", pad=0.01, aspect=28)
    bar.set_label(f"{quantity.label}  ({len(known)} galaxies)", fontsize=8.5)
    count_beyond(axes, known["x"], known["y"], inside=True)


def plot_colours(points: pd.DataFrame, fit: Mapping, rows: Sequence[Mapping] = (), seed: int = 42) -> Figure:
    """Draw four panels of the same relation, its galaxies coloured by one property each.

    ``points`` is what `colour_points` returns; ``rows`` are rank correlations of the residual with each property; one they lack
    is measured here. The colours run from the 5th to the 95th percentile; dark is low, in grey too. With 90 galaxies the running
    medians of the lowest and the highest third are drawn; a property nobody has is said in words.
    """
    residual = f"residual_{fit['relation']}"
    x_label, y_label, _ = axis_labels(fit)
    with house_style():
        figure = new_figure(10.0, 7.8)
        panels = figure.subplots(2, 2, sharex=False, sharey=False)
        for axes, name in zip(panels.flat, COLOURED_BY, strict=True):
            row = next((r for r in rows if {r["x"], r["y"]} == {name, residual} and r["survey"] == "all" and not r.get("at_fixed")), None)
            row = row or asdict(correlate_ranks(points[name], points["residual"], np.random.default_rng(seed)))
            _draw(figure, axes, points, QUANTITIES[name], fit, coefficient_words(row))
        for axes in panels[1]:
            axes.set_xlabel(x_label)
        for axes in panels[:, 0]:
            axes.set_ylabel(y_label)
    return figure
