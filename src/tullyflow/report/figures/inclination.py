"""Do the inclinations look like those of discs seen from anywhere?"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tullyflow.report.figures.style import EXCLUDED, FIT, OKABE_ITO, house_style, new_figure

__all__ = ["plot_inclination"]


def plot_inclination(sample: pd.DataFrame, inclination_min: float) -> Figure:
    """Draw the inclinations of all galaxies that have one against sin i, which random orientations follow.

    ``inclination_min`` (deg) is the cut of the relation, drawn as a line. NaN inclinations are left out.
    """
    known = sample[np.isfinite(sample["inclination_used_deg"])]
    edges = np.arange(0, 91, 5)
    grid = np.linspace(0, 90, 91)
    with house_style():
        figure = new_figure(5.2, 3.2)
        axes = figure.subplots()
        axes.hist(
            known["inclination_used_deg"],
            bins=edges,
            color=EXCLUDED,
            edgecolor="white",
            linewidth=0.4,
            label=f"all with an inclination ({len(known)})",
        )
        axes.hist(
            known.loc[known["used"], "inclination_used_deg"],
            bins=edges,
            color=OKABE_ITO["blue"],
            edgecolor="white",
            linewidth=0.4,
            label=f"used ({int(known['used'].sum())})",
        )
        axes.plot(grid, len(known) * 5 * np.radians(1) * np.sin(np.radians(grid)), color=FIT, label=r"random orientations ($\sin i$)")
        axes.axvline(inclination_min, color=FIT, linewidth=0.9, linestyle=(0, (2, 2)), label=f"cut at {inclination_min:g}°")
        axes.set(xlim=(0, 90), xlabel="inclination (deg)", ylabel="galaxies", title="Inclinations")
        axes.set_xticks(np.arange(0, 91, 15))
        figure.legend(loc="outside lower center", ncols=2)
    return figure
