"""What each cut takes, in its turn and by itself, survey by survey."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from tullyflow.report.figures.panels import say
from tullyflow.report.figures.style import EXCLUDED, FIT, house_style, new_figure, survey_style

__all__ = ["plot_cut_flow"]


def _words(flag: str) -> str:
    return flag.replace("_", " ").lower().replace("pa ", "PA ").replace("v max", "V max")


def _draw(axes: Axes, survey: str, rows: pd.DataFrame) -> None:
    everybody, cuts = int(rows["left"].iloc[0]), rows[rows["flag"] != ""].reset_index(drop=True)
    left = int(rows["left"].iloc[-1])
    style = survey_style(survey)
    axes.set_title(f"{style.label}: {left} of {everybody} left")
    if cuts.empty:
        say(axes, "No cut takes anybody.")
        return
    axes.barh(cuts.index, cuts["alone"], height=0.72, color=EXCLUDED, zorder=1)
    axes.barh(cuts.index, cuts["in_order"], height=0.72, color=style.colour, edgecolor=FIT, linewidth=0.4, zorder=2)
    longest = max(int(cuts["alone"].max()), 1)
    for k, row in cuts.iterrows():
        axes.text(row["alone"] + 0.015 * longest, k, f"−{row['in_order']} → {row['left']}", va="center", fontsize=7.5, color="#333333")
    axes.set_yticks(cuts.index, labels=[_words(flag) for flag in cuts["flag"]])
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.set(ylim=(len(cuts) - 0.5, -0.5), xlim=(0, 1.22 * longest), xlabel="galaxies")


def plot_cut_flow(flow: pd.DataFrame) -> Figure:
    """Draw a panel per survey: dark, galaxies a cut takes of those the cuts above left; light, all that carry its flag.

    ``flow`` is what `tullyflow.relation.cuts.cut_flow` returns; a cut that nobody fails has no bar.
    """
    surveys = [str(name) for name in flow["survey"].unique()]
    with house_style():
        if not surveys:
            figure = new_figure(6.4, 2.4)
            say(figure.subplots(), "The sample has no galaxy.")
            return figure
        sizes = [max(int((flow["survey"] == name).sum()) - 1, 2) for name in surveys]
        figure = new_figure(7.2, 1.0 + sum(0.24 * size + 0.75 for size in sizes))
        panels = figure.subplots(len(surveys), 1, squeeze=False, gridspec_kw={"height_ratios": sizes})[:, 0]
        for axes, survey in zip(panels, surveys, strict=True):
            _draw(axes, survey, flow[flow["survey"] == survey])
        handles = [
            Patch(facecolor=survey_style(surveys[0]).colour, edgecolor=FIT, linewidth=0.4, label="taken in this order → left"),
            Patch(facecolor=EXCLUDED, label="would be taken by this cut alone"),
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=2)
    return figure
