"""The angle between the kinematic axes of gas and stars, as Duckworth et al. (2019, 2020) draw it: shares in bins of ten degrees."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from tullyflow.flags import GALAXY
from tullyflow.relation.groups import CLASSES, list_groups
from tullyflow.report.figures.panels import say
from tullyflow.report.figures.style import FIT, OKABE_ITO, house_style, new_figure

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = ["BIN_DEG", "MISALIGNED_DEG", "USABLE", "binomial_interval", "misalignment_table", "plot_misalignment", "share_misaligned"]

BIN_DEG = 10.0
MISALIGNED_DEG = 30.0
USABLE = 0.5
_SPLITS = (("morphology", "By morphology"), ("ssfr", "By star formation"))
_CLASSES = {"morphology": CLASSES, "ssfr": ("star-forming", "quiescent")}
_LOOKS = ((OKABE_ITO["blue"], "-"), (OKABE_ITO["vermilion"], (0, (4, 1.5))), (OKABE_ITO["green"], (0, (1, 1.2))))
_ALL = "#9a9a9a"


def misalignment_table(sample: pd.DataFrame, settings: "Settings") -> pd.DataFrame:
    """Return the galaxies whose gas and stars have an axis each, those that count as another observation left out.

    Columns: galaxy, survey, ``delta_pa_deg`` and its error, both probabilities, ``usable`` (both a half or more; NA where neither field was
    judged), ``morphology`` and ``ssfr``, the classes of `tullyflow.relation.groups.list_groups`, "" where not known.
    """
    classes = {kind: np.full(len(sample), "", dtype=object) for kind, _ in _SPLITS}
    for group in list_groups(sample, settings.relation.ssfr_split):
        if group.kind in classes:
            classes[group.kind][group.rows] = group.name
    table = sample[["galaxy", "survey", "delta_pa_deg", "delta_pa_err_deg", "usable_prob", "usable_stellar_prob"]].assign(**{
        "usable": ((sample["usable_prob"] >= USABLE) & (sample["usable_stellar_prob"] >= USABLE)).astype("boolean"), **classes,
    })  # fmt: skip
    table["usable"] = table["usable"].where(sample[["usable_prob", "usable_stellar_prob"]].notna().any(axis=1))
    counts = sample["delta_pa_deg"].notna() & ((sample["flags"] & GALAXY.DUPLICATE) == 0)
    return table[counts].reset_index(drop=True)


def binomial_interval(k: int, n: int, within: float = 0.6827) -> tuple[float, float]:
    """Return the central interval of a share, ``k`` of ``n``, by the beta distribution of a flat prior (Cameron 2011); NaN of nobody."""
    from scipy.stats import beta

    if n == 0:
        return np.nan, np.nan
    low, high = beta.ppf([(1 - within) / 2, (1 + within) / 2], k + 1, n - k + 1)
    return min(float(low), k / n), max(float(high), k / n)


def share_misaligned(delta_pa_deg: pd.Series) -> tuple[float, float, float]:
    """Return the share beyond `MISALIGNED_DEG` and the ends of its 68 % interval; NaN of nobody."""
    n, k = len(delta_pa_deg), int((delta_pa_deg > MISALIGNED_DEG).sum())
    return (k / n if n else np.nan), *binomial_interval(k, n)


def _words(name: str, delta_pa: pd.Series) -> str:
    share, low, high = (100 * value for value in share_misaligned(delta_pa))
    if not np.isfinite(share):
        return f"{name}: nobody"
    return f"{name} ({len(delta_pa)}): ${share:.1f}_{{-{share - low:.1f}}}^{{+{high - share:.1f}}}$ % beyond {MISALIGNED_DEG:g}°"


def _histogram(axes: Axes, delta_pa: pd.Series, edges: np.ndarray, **looks) -> None:
    counts = np.histogram(delta_pa, bins=edges)[0] / max(len(delta_pa), 1)
    axes.stairs(np.where(counts > 0, counts, np.nan), edges, baseline=None, **looks)


def _draw(axes: Axes, table: pd.DataFrame, kind: str, names: list[str]) -> None:
    edges = np.arange(0, 180 + BIN_DEG / 2, BIN_DEG)
    judged = table["usable"].notna().any()
    shown = table[table["usable"].fillna(False).to_numpy(bool)] if judged else table
    _histogram(axes, table["delta_pa_deg"], edges, color=_ALL, linewidth=1.0, zorder=1)
    handles = []
    for name, (colour, dashes) in zip(names, _LOOKS, strict=False):
        rows = shown if not kind else shown[shown[kind] == name]
        _histogram(axes, rows["delta_pa_deg"], edges, color=colour, linestyle=dashes, linewidth=1.7, zorder=3)
        handles.append(Line2D([], [], color=colour, linestyle=dashes, linewidth=1.7, label=_words(name, rows["delta_pa_deg"])))
    everybody = "all, usable or not" if judged else "all; usability not judged"
    handles.append(Line2D([], [], color=_ALL, linewidth=1.0, label=_words(everybody, table["delta_pa_deg"])))
    axes.axvline(MISALIGNED_DEG, color=FIT, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.set_yscale("log")
    axes.set(xlim=(0, 180), ylim=(0.6 / max(len(shown), 20), 1.5), xlabel="|ΔPA| of gas and stars (deg)")
    axes.set_xticks(np.arange(0, 181, 30))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(handles=handles, loc="upper right", fontsize=8)


def plot_misalignment(table: pd.DataFrame) -> Figure:
    """Draw the shares of galaxies in bins of |delta PA|, class by class, of those whose gas and stars an eye would use.

    ``table`` is what `misalignment_table` returns. Grey, all galaxies with both axes; a panel for each split that is known of
    somebody, one of all where none is. Shares beyond 30 deg carry their binomial 68 % intervals.
    """
    splits = [(kind, title, [name for name in _CLASSES[kind] if name in set(table[kind])]) for kind, title in _SPLITS]
    everybody = ("", "Gas and stars", ["usable" if table["usable"].any() else "all"])
    splits = [split for split in splits if split[2]] or [everybody]
    with house_style():
        if table.empty:
            figure = new_figure(6.4, 2.4)
            say(figure.subplots(), "No galaxy of this run has a kinematic axis of both its gas and its stars.")
            return figure
        figure = new_figure(5.6 * len(splits), 4.2)
        panels = figure.subplots(1, len(splits), squeeze=False, sharey=True)[0]
        for axes, (kind, title, names) in zip(panels, splits, strict=True):
            _draw(axes, table, kind, names)
            unknown = int((table[kind] == "").sum()) if kind else 0
            axes.set_title(f"{title}{f' ({unknown} in no class)' if unknown else ''}")
        panels[0].set_ylabel("share of the galaxies")
    return figure
