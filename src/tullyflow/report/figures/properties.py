"""Histograms of what the galaxies of the relation are (thesis fig. 4.1)."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from tullyflow.report.figures.panels import log_axis, note, robust_limits, say
from tullyflow.report.figures.quantities import QUANTITIES, Quantity
from tullyflow.report.figures.style import house_style, new_figure, survey_style

__all__ = ["SHOWN", "plot_properties", "property_table"]

SHOWN = ("log_mstar", "log_age_yr", "r_e_arcsec", "z", "log_ssfr", "log_sfr", "inclination_used_deg", "abs_mag_r")
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
_ALL = "#9a9a9a"


def property_table(sample: pd.DataFrame) -> pd.DataFrame:
    """Return galaxy, survey, used and the properties shown, one row per target; NaN where a galaxy has none."""
    return sample[["galaxy", "survey", "used", *SHOWN]].replace([np.inf, -np.inf], np.nan).reset_index(drop=True)


def _edges(table: pd.DataFrame, quantity: Quantity) -> np.ndarray:
    """About as many bins as the galaxies bear, between robust limits of the used ones."""
    values = table.loc[table["used"], quantity.name].dropna()
    low, high = robust_limits(values, quantity.log, margin=0.02)
    bins = int(np.clip(1.6 * len(values) ** 0.4, 5, 26))
    return np.geomspace(low, high, bins + 1) if quantity.log else np.linspace(low, high, bins + 1)


def _draw(axes: Axes, table: pd.DataFrame, quantity: Quantity, surveys: Iterable[str]) -> None:
    edges = _edges(table, quantity)
    known = table[table[quantity.name].notna()]
    axes.hist(known[quantity.name], bins=edges, histtype="step", color=_ALL, linewidth=0.9, zorder=1)
    beyond = 0
    for k, survey in enumerate(surveys):
        style = survey_style(survey)
        rows = known.loc[known["used"] & (known["survey"] == survey), quantity.name]
        axes.hist(rows, bins=edges, histtype="stepfilled", color=style.colour, alpha=0.25, zorder=2)
        axes.hist(rows, bins=edges, histtype="step", color=style.colour, linewidth=1.5, linestyle=_DASHES[k % 4], zorder=3)
        beyond += int(((rows < edges[0]) | (rows > edges[-1])).sum())
    if quantity.log:
        log_axis(axes, "x", (edges[0], edges[-1]))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    if quantity.name == "abs_mag_r":
        axes.invert_xaxis()
    axes.set(xlabel=quantity.label)
    if beyond:
        note(axes, f"{beyond} beyond")


def plot_properties(table: pd.DataFrame) -> Figure:
    """Draw eight histograms: the galaxies of the relation by survey, all targets as a grey outline.

    ``table`` is what `property_table` returns. A property that no galaxy of the relation has is said in words; galaxies
    beyond the robust limits of a panel are counted in it.
    """
    used = table[table["used"]]
    surveys = [str(name) for name in used["survey"].unique()]
    with house_style():
        figure = new_figure(10.0, 5.1)
        panels = figure.subplots(2, 4)
        for axes, name in zip(panels.flat, SHOWN, strict=True):
            quantity = QUANTITIES[name]
            if used.empty:
                say(axes, "No galaxy is in the relation.", width=26)
                axes.set(xlabel=quantity.label)
            elif used[name].notna().any():
                _draw(axes, table, quantity, surveys)
            else:
                say(axes, quantity.absent, width=26)
                axes.set(xlabel=quantity.label)
        for axes in panels[:, 0]:
            axes.set_ylabel("galaxies")
        handles = [
            Patch(facecolor=(*_rgb(survey), 0.25), edgecolor=survey_style(survey).colour, linestyle=_DASHES[k % 4], linewidth=1.5,
                  label=f"{survey_style(survey).label} ({int((used['survey'] == survey).sum())})")
            for k, survey in enumerate(surveys)
        ]  # fmt: skip
        handles.append(Line2D([], [], color=_ALL, linewidth=0.9, label=f"all targets ({len(table)})"))
        title = f"Properties of the {len(used)} galaxies in the relation"
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), title=title, alignment="left",
                      title_fontproperties={"weight": "bold", "size": 10})  # fmt: skip
    return figure


def _rgb(survey: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(survey_style(survey).colour)
