"""What the panels of several figures share: points by survey, robust limits, running medians, and words where there is nothing to draw."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tullyflow.report.figures.style import FIT, survey_style

__all__ = [
    "MANY_POINTS", "count_beyond", "dot_looks", "draw_points", "draw_running_median", "log_axis", "note", "panel_key",
    "robust_limits", "running_median", "say",
]  # fmt: skip

MANY_POINTS = 2000  # above this many, points are drawn as an image inside the PDF
_PER_BIN, _FEWEST_BINS, _MOST_BINS = 10, 3, 9
_MEDIAN_DASHES = {"manga": "-", "sami": (0, (4, 1.5)), "things": (0, (1, 1.2)), "local": "-"}


def say(axes: Axes, sentence: str, width: int = 48, ticks: bool = False) -> None:
    """Write a sentence, in lines of ``width`` letters, in the middle of a panel that has nothing else to show; its ticks go."""
    text = textwrap.fill(" ".join(sentence.split()), width, break_long_words=False)
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=8.5, color="#444444").set_in_layout(False)
    if not ticks:
        axes.set(xticks=[], yticks=[])
        axes.minorticks_off()


def robust_limits(values, log: bool = False, share: float = 0.5, margin: float = 0.06) -> tuple[float, float]:
    """Return axis limits between the ``share`` and 100 - ``share`` percentiles, opened by a margin; fewer than 50 values are all shown.

    NaN are left out, and on a logarithmic axis what is not positive; (0, 1), or (0.1, 10), where nothing is left.
    """
    values = np.asarray(values, dtype=float)
    values = np.log10(values[values > 0]) if log else values
    values = values[np.isfinite(values)]
    if values.size == 0:
        return (0.1, 10.0) if log else (0.0, 1.0)
    low, high = np.percentile(values, [share, 100 - share]) if values.size >= 50 else (values.min(), values.max())
    pad = margin * (high - low) if high > low else (0.1 if log else max(0.05 * abs(high), 0.1))
    low, high = float(low - pad), float(high + pad)
    return (10**low, 10**high) if log else (low, high)


def log_axis(axes: Axes, which: str, limits: tuple[float, float]) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2 and 5 of each decade, or at more where the limits span less than one."""
    getattr(axes, f"set_{which}scale")("log")
    getattr(axes, f"set_{which}lim")(*limits)
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if limits[1] > 12 * limits[0] else (1, 1.5, 2, 3, 4, 5, 7)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def dot_looks(n: int) -> dict:
    """Return size and transparency of one of ``n`` points: few are bold, thousands still show where they crowd."""
    size = float(np.clip(34 - 8 * np.log10(max(n, 1)), 5, 26))
    alpha = float(np.clip(1.3 - 0.22 * np.log10(max(n, 1)), 0.35, 0.95))
    return {"s": size, "alpha": alpha, "linewidths": 0, "rasterized": n > MANY_POINTS}


def draw_points(axes: Axes, points: pd.DataFrame) -> dict[str, Artist]:
    """Draw ``x`` against ``y`` survey by survey, open where ``open`` is true; return a legend handle per survey, in order of appearance."""
    handles, looks = {}, dot_looks(len(points))
    for survey, rows in points.groupby("survey", sort=False):
        style, hollow = survey_style(str(survey)), rows["open"].to_numpy(dtype=bool)
        solid, outlined = rows[~hollow], rows[hollow]
        axes.scatter(solid["x"], solid["y"], marker=style.marker, color=style.colour, zorder=3, **looks)
        ring = {**looks, "linewidths": 0.7, "facecolors": "none", "edgecolors": style.colour, "zorder": 2}
        axes.scatter(outlined["x"], outlined["y"], marker=style.marker, **ring)
        key = {"marker": style.marker, "color": FIT, "markersize": 5, "linestyle": "none", "linewidth": 1.2}
        key |= {"markerfacecolor": style.colour, "markeredgecolor": style.colour}
        handles[str(survey)] = Line2D([], [], label=f"{style.label} ({len(rows)})", **key)
    return handles


def running_median(x, y) -> pd.DataFrame:
    """Return medians of ``y`` in bins of ``x`` of equal number: columns ``x`` (its median), ``y``, ``err`` and ``n``.

    At least 10 points a bin and at most 9 bins; with fewer than 30 points no rows. ``err`` is that of a median of a normal
    sample, 1.253 sigma / sqrt(n), with sigma half the width of the central 68 %. NaN must be left out before.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    bins = min(x.size // _PER_BIN, _MOST_BINS)
    if bins < _FEWEST_BINS:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in ("x", "y", "err", "n")})
    rows = []
    for chosen in np.array_split(np.argsort(x, kind="stable"), bins):
        low, middle, high = np.percentile(y[chosen], [15.87, 50, 84.13])
        rows.append((np.median(x[chosen]), middle, 1.253 * (high - low) / 2 / np.sqrt(chosen.size), chosen.size))
    return pd.DataFrame(rows, columns=["x", "y", "err", "n"])


def draw_running_median(axes: Axes, points: pd.DataFrame) -> dict[str, object]:
    """Draw the running median of each survey that has 30 points, large markers with errors on a line; return the dashes by survey."""
    drawn = {}
    for survey, rows in points.groupby("survey", sort=False):
        medians = running_median(rows["x"], rows["y"])
        if medians.empty:
            continue
        style, dashes = survey_style(str(survey)), _MEDIAN_DASHES.get(str(survey), (0, (3, 1, 1, 1)))
        axes.plot(medians["x"], medians["y"], color="white", linewidth=3.2, zorder=4)
        axes.errorbar(
            medians["x"], medians["y"], yerr=medians["err"], color=FIT, linestyle=dashes, linewidth=1.3, marker=style.marker,
            markersize=6.5, markerfacecolor=style.colour, markeredgecolor=FIT, markeredgewidth=0.9, capsize=2, zorder=5,
        )  # fmt: skip
        drawn[str(survey)] = dashes
    return drawn


def count_beyond(axes: Axes, x, y, inside: bool = False) -> int:
    """Count the points outside the limits of a panel and say so above its right end, or ``inside`` below it; return the number."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    (x_low, x_high), (y_low, y_high) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    beyond = int(((x < x_low) | (x > x_high) | (y < y_low) | (y > y_high)).sum())
    if beyond:
        note(axes, f"{beyond} beyond the axes", inside)
    return beyond


def note(axes: Axes, words: str, inside: bool = False) -> None:
    """Write a few words above the right end of a panel, or in its lower right corner."""
    at = (0.99, 0.015) if inside else (1.0, 1.008)
    axes.annotate(words, at, xycoords="axes fraction", ha="right", va="bottom", fontsize=7.5, color="#555555", zorder=7)


def panel_key(axes: Axes, title: str, handles: Sequence[Artist]) -> None:
    """Put a panel's title and its key above it, one line per survey, where no point can be hidden."""
    axes.legend(
        handles=list(handles), title=title, loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderaxespad=0.2, alignment="left",
        handletextpad=0.3, labelspacing=0.25, handlelength=1.8, fontsize=8, title_fontproperties={"weight": "bold", "size": 9.5},
    )  # fmt: skip
