"""Put in against found: how well a mock galaxy's velocity, inclination and position angle came back."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tullyflow.report.figures.style import FIT, house_style, new_figure, survey_style

__all__ = ["CLOSURE_QUANTITIES", "Quantity", "plot_closure"]


@dataclass(frozen=True)
class Quantity:
    """One quantity of a closure test; the table holds ``{name}_true``, ``{name}_found`` and ``{name}_err``.

    ``period`` is the full turn of an angle (differences are wrapped into half of it), 0 otherwise.
    """

    name: str
    label: str
    unit: str
    period: float = 0.0


CLOSURE_QUANTITIES = (
    Quantity("v_max_kms", "asymptotic velocity", "km s$^{-1}$"),
    Quantity("inclination_deg", "inclination", "deg"),
    Quantity("pa_deg", "position angle", "deg", 360.0),
)


def _difference(table: pd.DataFrame, quantity: Quantity) -> pd.Series:
    difference = table[f"{quantity.name}_found"] - table[f"{quantity.name}_true"]
    return (difference + quantity.period / 2) % quantity.period - quantity.period / 2 if quantity.period else difference


def _draw(top: Axes, bottom: Axes, table: pd.DataFrame, quantity: Quantity) -> None:
    true = table[f"{quantity.name}_true"]
    difference = _difference(table, quantity)
    low, high = float(true.min()), float(true.max())
    margin = 0.08 * max(high - low, 1.0)
    limits = np.array([low - margin, high + margin])
    for survey, rows in table.groupby("survey", sort=False):
        style = survey_style(str(survey))
        x, dy = true[rows.index], difference[rows.index]
        looks = {
            "fmt": style.marker,
            "color": style.colour,
            "ecolor": style.colour,
            "markersize": 3.6,
            "elinewidth": 0.5,
            "markeredgewidth": 0,
        }
        top.errorbar(x, x + dy, yerr=rows[f"{quantity.name}_err"], alpha=0.75, **looks)
        bottom.errorbar(x, dy, yerr=rows[f"{quantity.name}_err"], alpha=0.75, **looks)
    top.plot(limits, limits, color=FIT, linewidth=1.0, zorder=5)
    bottom.axhline(0, color=FIT, linewidth=1.0, zorder=5)
    spread = 1.15 * max(float(np.nanpercentile(difference.abs(), 97)), 1e-3)
    top.set(xlim=limits, ylim=limits, title=f"{quantity.label.capitalize()} ({quantity.unit})")
    bottom.set(ylim=(-spread, spread), xlabel=f"put in ({quantity.unit})")
    beyond = int((difference.abs() > spread).sum())
    if beyond:
        bottom.annotate(f"{beyond} beyond", (0.99, 0.98), xycoords="axes fraction", ha="right", va="top", fontsize=7, color="#666666")


def plot_closure(table: pd.DataFrame, quantities: Sequence[Quantity] = CLOSURE_QUANTITIES) -> Figure:
    """Draw found against put in for each quantity, with the differences below.

    ``table`` holds ``survey`` and, per quantity, ``{name}_true``, ``{name}_found``, ``{name}_err``; one row per mock
    galaxy. Rows with a NaN in a quantity are left out of its panel; a quantity nobody has is not drawn.
    """
    shown = [q for q in quantities if f"{q.name}_true" in table and (table[f"{q.name}_true"] + table[f"{q.name}_found"]).notna().any()]
    with house_style():
        figure = new_figure(3.1 * max(len(shown), 1), 4.4)
        panels = figure.subplots(2, max(len(shown), 1), squeeze=False, sharex="col", gridspec_kw={"height_ratios": [2.4, 1]})
        for k, quantity in enumerate(shown):
            known = table[(table[f"{quantity.name}_true"] + table[f"{quantity.name}_found"]).notna()]
            _draw(panels[0, k], panels[1, k], known, quantity)
        panels[0, 0].set_ylabel("found")
        panels[1, 0].set_ylabel("found − put in")
        figure.align_ylabels(panels[:, 0])
        handles = []
        for survey in table["survey"].unique():
            style = survey_style(str(survey))
            handles += panels[0, 0].plot([], [], marker=style.marker, color=style.colour, linestyle="none", markersize=4, label=style.label)
        if handles:
            figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure
