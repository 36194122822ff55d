"""Do the errors of the fits mean what they say: shares of simulated discs within their intervals, before and after the calibration."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tullyflow.report.figures.style import BAND, FIT, OKABE_ITO, house_style, new_figure

__all__ = ["GOALS", "plot_coverage"]

GOALS = {68: (64, 72), 95: (92, 97)}  # per cent: what intervals that mean what they say cover
_NARROWEST = 40.0  # per cent


def plot_coverage(table: pd.DataFrame, title: str) -> Figure:
    """Draw the shares of `tullyflow.report.calibration.coverage_table`: a row per parameter, a panel per interval, the goal as a band.

    A parameter that was held in all discs (NaN) has an empty row.
    """
    with house_style():
        figure = new_figure(5.2, 3.0)
        panels = figure.subplots(1, len(GOALS), sharey=True)
        for axes, (within, goal) in zip(panels, GOALS.items(), strict=True):
            rows = table[table["within"] == within]
            at = np.arange(len(rows))
            before, after = (100 * rows[name].to_numpy(float) for name in ("before", "after"))
            axes.axvspan(*goal, color=BAND, alpha=0.25, linewidth=0, label="goal")
            axes.hlines(at, before, after, color=BAND, linewidth=0.8)
            axes.plot(before, at, "o", color=OKABE_ITO["vermilion"], markerfacecolor="white", label="as the fit says")
            axes.plot(after, at, "o", color=OKABE_ITO["blue"], label="calibrated")
            shown = np.concatenate([before, after])
            low = min([_NARROWEST, *(5 * np.floor(shown[np.isfinite(shown)] / 5 - 0.5))])
            axes.set(xlim=(low, 101), ylim=(len(rows) - 0.5, -0.5), xlabel=f"within {within} % intervals (%)")
            axes.axvline(within, color=FIT, linewidth=0.6)
            axes.set_yticks(at, [words.replace("V_22", "$V_{2.2}$") for words in rows["parameter"]])
            axes.tick_params(axis="y", length=0)
        panels[0].set_title(title)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure
