"""What the slope hangs on: the reverse relation refitted at every threshold of the reconstruction cut."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tullyflow.report.figures.panels import panel_key, say
from tullyflow.report.figures.style import BAND, FIT, OKABE_ITO, house_style, new_figure

__all__ = ["plot_threshold", "threshold_table"]

_LOOKS = {
    "chi2": ("reduced χ² of the velocity map", OKABE_ITO["blue"], "o", "-"),
    "mse_over_v": ("mean squared residual over V (thesis)", OKABE_ITO["vermilion"], "s", (0, (4, 1.5))),
}
_COLUMNS = ("statistic", "sigma", "n_sample", "n_used", "slope", "slope_err", "rms", "spearman_with_v", "error")


def threshold_table(choices: Mapping | None) -> pd.DataFrame:
    """Return the rows ``thresholds`` of the record of choices; no rows where there is none. ``sigma`` is NaN where the cut is off."""
    rows = (choices or {}).get("thresholds") or []
    table = pd.DataFrame([{name: row.get(name) for name in _COLUMNS} for row in rows], columns=list(_COLUMNS))
    numbers = [name for name in _COLUMNS if name not in ("statistic", "error")]
    return table.astype(dict.fromkeys(numbers, "float64"))


def _draw(axes: Axes, table: pd.DataFrame, column: str, off_at: float, err: str | None = None) -> list:
    handles = []
    known = table[table[column].notna()].sort_values("sigma", na_position="last")
    for k, (statistic, rows) in enumerate(known.groupby("statistic", sort=True)):
        words, colour, marker, dashes = _LOOKS.get(str(statistic), (str(statistic), OKABE_ITO["green"], "D", (0, (1, 1.2))))
        x = rows["sigma"].fillna(off_at) * (1 + 0.05 * (k - 0.5))
        looks = {"color": colour, "marker": marker, "markersize": 5, "linestyle": dashes, "capsize": 2, "elinewidth": 0.9, "label": words}
        handles.append(axes.errorbar(x, rows[column], yerr=rows[err] if err else None, **looks))
    return handles


def plot_threshold(choices: Mapping | None) -> Figure:
    """Draw slope, rms and number of galaxies against the threshold, for both statistics; "off" stands to the right.

    ``choices`` is the record of choices (relation/choices.json), or None: then the figure says so.
    """
    table = threshold_table(choices)
    with house_style():
        if table["slope"].notna().sum() == 0:
            figure = new_figure(6.0, 2.6)
            reasons = [str(reason) for reason in table["error"].dropna()]
            said = "The relation was not refitted at other thresholds in this run."
            say(figure.subplots(), f"No fit at any threshold: {reasons[0]}" if reasons else said)
            return figure
        figure = new_figure(6.0, 6.2)
        panels = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [2.2, 1, 1]})
        off_at = 1.45 * float(np.nan_to_num(table["sigma"].max(), nan=1.0))
        handles = _draw(panels[0], table, "slope", off_at, "slope_err")
        _draw(panels[1], table, "rms", off_at)
        _draw(panels[2], table, "n_used", off_at)
        baseline = next((row for row in (choices or {}).get("rows", []) if row.get("section") == "baseline"), None)
        if baseline and baseline.get("slope") is not None:
            handles.append(panels[0].axhline(baseline["slope"], color=FIT, linewidth=1.0, linestyle=(0, (2, 2)), label="as in this run"))
            low, high = (baseline["slope"] + side * (baseline.get("slope_err") or 0.0) for side in (-1, 1))
            panels[0].axhspan(low, high, color=BAND, alpha=0.2, linewidth=0, zorder=0)
        panels[0].set_ylabel("slope")
        panels[1].set_ylabel("rms (dex)")
        panels[2].set(ylabel="galaxies", xlabel="threshold (σ above the centre)", ylim=(0, 1.1 * table["n_used"].max()))
        panels[2].set_xscale("log")
        known = sorted(table["sigma"].dropna().unique())
        off = table["sigma"].isna().any()
        panels[2].set_xticks([*known, *([off_at] if off else [])], labels=[*(f"{s:g}" for s in known), *(["off"] if off else [])])
        panels[2].minorticks_off()
        panel_key(panels[0], "Slope of the reverse relation against the reconstruction threshold", handles)
        figure.align_ylabels(panels)
    return figure
