"""What the asymmetric drift correction did to the velocities."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tullyflow.report.figures.style import FIT, house_style, new_figure, survey_style

__all__ = ["drift_corrections", "plot_drift"]


def drift_corrections(sample: pd.DataFrame, velocity: str) -> pd.DataFrame:
    """Return galaxy, survey and ``correction_kms`` (corrected minus measured) of the used galaxies; NaN rows are left out."""
    used = sample[sample["used"]]
    table = pd.DataFrame(
        {
            "galaxy": used["galaxy"],
            "survey": used["survey"],
            "correction_kms": used[f"{velocity}_circ_kms"] - used[f"{velocity}_kms"],
        }
    )
    return table[np.isfinite(table["correction_kms"])].reset_index(drop=True)


def plot_drift(corrections: pd.DataFrame, velocity_words: str) -> Figure:
    """Draw the histogram of the corrections, stacked by survey, with their median.

    ``corrections`` is what `drift_corrections` returns and holds at least one row.
    """
    values = corrections["correction_kms"]
    low, high = np.percentile(values, [0.5, 99.5])
    edges = np.linspace(min(low, 0.0), max(high, low + 5.0), 26)
    groups = [
        (survey_style(str(name)), rows["correction_kms"].clip(edges[0], edges[-1]))
        for name, rows in corrections.groupby("survey", sort=False)
    ]
    with house_style():
        figure = new_figure(5.2, 3.2)
        axes = figure.subplots()
        axes.hist(
            [rows for _, rows in groups], bins=edges, stacked=True, color=[style.colour for style, _ in groups],
            label=[style.label for style, _ in groups], edgecolor="white", linewidth=0.4,
        )  # fmt: skip
        axes.axvline(values.median(), color=FIT, linestyle=(0, (4, 2)), label=f"median {values.median():.1f} km/s")
        axes.set(xlabel=r"corrected $-$ measured velocity (km s$^{-1}$)", ylabel="galaxies", title=f"Asymmetric drift: {velocity_words}")
        figure.legend(loc="outside lower center", ncols=4)
    return figure
