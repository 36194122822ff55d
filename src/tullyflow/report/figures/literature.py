"""Slope and intercept of every fit less those of the literature, like with like marked."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tullyflow.relation.literature import offsets
from tullyflow.report.figures.listing import METHOD_WORDS, RELATION_WORDS, VELOCITY_WORDS
from tullyflow.report.figures.panels import say
from tullyflow.report.figures.relation import is_line
from tullyflow.report.figures.style import EXCLUDED, FIT, OKABE_ITO, house_style, new_figure

__all__ = ["offset_table", "plot_offsets"]

_COLOURS = ("blue", "vermilion", "green", "orange", "purple")
_MARKERS = {"lts": "o", "mnr": "s", "ols": "D", "bisector": "^"}
_COLUMNS = (
    "relation", "velocity", "method", "published", "slope_difference", "slope_err", "intercept_difference", "intercept_err",
    "like_with_like", "unlike",
)  # fmt: skip


def _sigma(difference: float, sigmas: float) -> float:
    return abs(difference / sigmas) if sigmas else float("nan")


def offset_table(fits: Sequence[Mapping]) -> pd.DataFrame:
    """Return one row per fit and published line of its relation, differences with their combined 1 sigma; failed fits are left out."""
    rows = [
        (
            fit["relation"], fit["velocity"], fit["method"], offset.name, offset.slope_difference,
            _sigma(offset.slope_difference, offset.slope_sigmas), offset.intercept_difference,
            _sigma(offset.intercept_difference, offset.intercept_sigmas), offset.like_with_like, "; ".join(offset.unlike),
        )
        for fit in fits if is_line(fit)
        for offset in offsets(fit)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _key(table: pd.DataFrame) -> list[Line2D]:
    dot = {"linestyle": "none", "markersize": 5}
    velocities, methods = ([str(name) for name in table[column].unique()] for column in ("velocity", "method"))
    return [
        *(
            Line2D([], [], marker="o", color=OKABE_ITO[_COLOURS[k % 5]], label=VELOCITY_WORDS.get(name, name), **dot)
            for k, name in enumerate(velocities)
        ),
        *(Line2D([], [], marker=_MARKERS.get(name, "v"), color=FIT, label=METHOD_WORDS.get(name, name), **dot) for name in methods),
        Line2D([], [], marker="o", color=FIT, label="like with like", **dot),
        Line2D([], [], marker="o", color=FIT, markerfacecolor="white", label="unlike in velocity, drift, regression or masses", **dot),
    ]


def plot_offsets(table: pd.DataFrame) -> Figure:
    """Draw the differences, a row of panels per relation: slopes left, intercepts (at the published pivot) right.

    ``table`` is what `offset_table` returns. Colour is the velocity, shape the method; filled where velocity, drift, direction of the
    regression, and IMF and h of the masses are the published line's own as far as it says, open where one of them is not.
    """
    relations = [str(name) for name in table["relation"].unique()]
    with house_style():
        if not relations:
            figure = new_figure(6.4, 3.0)
            say(figure.subplots(), "No fit of this run can be compared with the literature.")
            return figure
        sizes = [table[table["relation"] == name]["published"].nunique() for name in relations]
        figure = new_figure(10.0, 1.6 + 0.62 * sum(sizes))
        panels = figure.subplots(len(relations), 2, squeeze=False, sharey="row", gridspec_kw={"height_ratios": [n + 0.6 for n in sizes]})
        velocities = [str(v) for v in table["velocity"].unique()]
        for (left, right), relation in zip(panels, relations, strict=True):
            rows = table[table["relation"] == relation]
            names, kinds = list(rows["published"].unique()), list(dict.fromkeys(zip(rows["velocity"], rows["method"], strict=True)))
            for row in rows.itertuples():
                place = names.index(row.published) + 0.68 * ((kinds.index((row.velocity, row.method)) + 0.5) / len(kinds) - 0.5)
                colour = OKABE_ITO[_COLOURS[velocities.index(row.velocity) % 5]]
                looks = {
                    "marker": _MARKERS.get(row.method, "v"), "color": colour, "markerfacecolor": colour if row.like_with_like else "white",
                    "markersize": 4.8, "elinewidth": 0.9, "capsize": 0, "linestyle": "none",
                }  # fmt: skip
                left.errorbar(row.slope_difference, place, xerr=row.slope_err, **looks)
                right.errorbar(row.intercept_difference, place, xerr=row.intercept_err, **looks)
            for axes, what in ((left, "slope"), (right, "intercept")):
                axes.axvline(0, color=FIT, linewidth=0.9, zorder=0)
                for edge in np.arange(len(names) - 1) + 0.5:
                    axes.axhline(edge, color=EXCLUDED, linewidth=0.4, zorder=0)
                axes.set(ylim=(len(names) - 0.5, -0.5), title=f"{RELATION_WORDS.get(relation, relation)}: {what}")
            left.set_yticks(range(len(names)), labels=names)
        panels[-1, 0].set_xlabel("this work − published")
        panels[-1, 1].set_xlabel("this work − published, at the published pivot")
        figure.legend(handles=_key(table), loc="outside lower left", ncols=3)
    return figure
