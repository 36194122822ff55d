"""Usability, circularity, reconstruction and the eye: which galaxies each would take out that the others keep."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from tullyflow.report.figures.panels import dot_looks, say
from tullyflow.report.figures.style import EXCLUDED, FIT, OKABE_ITO, house_style, new_figure
from tullyflow.report.judgement import combinations, cut_at, known_tests, overlaps

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = ["plot_judgement"]

_MISFIT = (  # misfit over its limit: from, words, colour
    (0.0, "misfit below half its limit", OKABE_ITO["blue"]), (0.5, "below its limit", OKABE_ITO["sky"]),
    (1.0, "above it", OKABE_ITO["orange"]), (2.0, "above twice it", OKABE_ITO["vermilion"]),
)  # fmt: skip
_NOT_FITTED = "#8c8c8c"
_EYES = (("kept", "the eye would use it", OKABE_ITO["blue"]), ("out", "the eye would not", OKABE_ITO["vermilion"]),
         ("unknown", "no eye looked", EXCLUDED))  # fmt: skip
_TICKS = (0.01, 0.1, 0.5, 0.9, 0.99)
_FIRST, _LAST = 0.0015, 0.9985  # beyond these a probability is drawn at them


def _misfit_colours(table: pd.DataFrame) -> pd.Series:
    ratio = table["reconstruction"] / table["reconstruction_threshold"]
    colours = pd.Series(_NOT_FITTED, table.index)
    for low, _, colour in _MISFIT:
        colours[ratio >= low] = colour
    return colours


def _scatter(axes: Axes, rows: pd.DataFrame, looks: dict, settings: "Settings") -> None:
    x, colours = rows["usable_prob"].clip(_FIRST, _LAST), _misfit_colours(rows)
    unlike = rows["unlike_simulated"].to_numpy(bool)
    order = np.random.default_rng(settings.seed).permutation(len(rows))  # no colour lies on top of another
    for chosen, marker, more in ((order[~unlike[order]], "o", {}), (order[unlike[order]], "x", {"linewidths": 0.8})):
        axes.scatter(x.iloc[chosen], rows["kappa"].iloc[chosen], c=colours.iloc[chosen], marker=marker, zorder=2, **(looks | more))
    for draw, test in ((axes.axvline, "usability"), (axes.axhline, "circularity")):
        value, on = cut_at(settings, test)
        draw(value, color=FIT, linewidth=1.0, linestyle="-" if on else (0, (3, 2)), zorder=3)
    axes.set_xscale("logit")
    axes.set(xlim=(0.001, 0.999), ylim=(-0.03, 1.03))
    axes.xaxis.set_major_locator(FixedLocator(_TICKS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _bars(axes: Axes, counts: pd.DataFrame, eye: bool) -> None:
    """A bar per combination of tests that takes somebody out."""
    axes.set_title("Taken out by exactly")
    out = counts[(counts["tests"] != "") & (counts["n"] > 0)].reset_index(drop=True)
    if counts.empty:
        say(axes, "Fewer than two tests say something of these galaxies.", width=40)
        return
    kept = counts[counts["tests"] == ""].iloc[0]
    not_used = f", of whom the eye would not use {kept['eye_out']}" if eye else ""
    axes.set_xlabel(f"galaxies; {kept['n']} of {counts['n'].sum()} all keep{not_used}")
    if out.empty:
        say(axes, "No test would take anybody out.", width=40)
        return
    left = np.zeros(len(out))
    for key, _, colour in _EYES if eye else (("n", "", OKABE_ITO["blue"]),):
        width = out[f"eye_{key}" if eye else key].to_numpy(float)
        axes.barh(out.index, width, left=left, height=0.7, color=colour)
        left += width
    for k, n in enumerate(out["n"]):
        axes.text(n + 0.012 * out["n"].max(), k, f"{n}", va="center", fontsize=8, color="#333333")
    every = max(counts["tests"], key=len)
    words = [f"all {every.count(',') + 1}" if tests == every else tests.replace(",", " + ") + ("" if "," in tests else " alone")
             for tests in out["tests"]]  # fmt: skip
    axes.set_yticks(out.index, labels=words)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set(ylim=(len(out) - 0.4, -0.6), xlim=(0, 1.13 * out["n"].max()))


def _matrix(axes: Axes, pairs: pd.DataFrame, made: list[str]) -> None:
    """Of the galaxies that the test of a row takes out, the share that the test of a column takes out too."""
    shares = np.full((len(made), len(made)), np.nan)
    for row in pairs.itertuples():
        i, j = made.index(row.test), made.index(row.other)
        if i != j and row.out:
            shares[i, j] = row.out_too / row.out
        words = f"{row.out}\nof {row.both}" if i == j else f"{100 * row.out_too / row.out:.0f} %" if row.out else "–"
        same = "" if i == j or not row.both else f"\n{100 * row.agree:.0f} % alike"
        dark = i != j and row.out and row.out_too / row.out > 0.55
        shade = "white" if dark else FIT
        axes.text(j, i, words + same, ha="center", va="center", fontsize=8, color=shade, linespacing=1.35)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
    axes.set_xticks(range(len(made)), labels=made)
    axes.set_yticks(range(len(made)), labels=made)
    axes.tick_params(length=0)
    for edge in axes.spines.values():
        edge.set_visible(False)
    axes.set_title("Of those the row takes out,\nthe column takes out too")
    axes.set_xlabel("alike: both say the same", fontsize=8)


def plot_judgement(table: pd.DataFrame, settings: "Settings") -> Figure:
    """Draw kappa against usability, apart by what the eye said, and count whom each test takes out that others keep.

    ``table`` is what `tullyflow.report.judgement.judgement_table` returns. Colours are the reconstruction's misfit over its limit, grey
    where no disc was fitted; crosses are fields unlike the simulated ones. Cuts are lines, dashed where the run does not cut. Without two
    tests that say something, the figure says so.
    """
    made = known_tests(table)
    with house_style():
        if len(made) < 2 or not (table["usable_prob"].notna() & table["kappa"].notna()).any():
            figure = new_figure(6.4, 2.4)
            say(figure.subplots(), "No velocity field of this run was judged for usability and circularity.")
            return figure
        eye = table["out_eye"]
        parts = [(words, table[chosen.to_numpy(bool)]) for words, chosen in (
            ("The eye would use it", eye.eq(False).fillna(False)), ("The eye would not use it", eye.eq(True).fillna(False)),
            ("No eye looked" if "eye" in made else "All galaxies", eye.isna()),
        )]  # fmt: skip
        parts = [(words, rows) for words, rows in parts if len(rows)]
        figure = new_figure(10.0, 7.6)
        above, below = figure.subfigures(2, 1, height_ratios=(1.25, 1))
        panels = above.subplots(1, len(parts), squeeze=False, sharey=True)[0]
        for axes, (words, rows) in zip(panels, parts, strict=True):
            _scatter(axes, rows, dot_looks(len(table)), settings)
            axes.set_title(f"{words} ({len(rows)})")
            axes.set_xlabel("probability that an eye would use it")
        panels[0].set_ylabel("circularity κ")
        dot = {"marker": "o", "linestyle": "none", "markersize": 5}
        handles = [Line2D([], [], color=colour, label=words, **dot) for _, words, colour in _MISFIT]
        handles.append(Line2D([], [], color=_NOT_FITTED, label="no disc fitted", **dot))
        if table["unlike_simulated"].any():
            handles.append(Line2D([], [], color=FIT, label="unlike the simulated", marker="x", linestyle="none", markersize=5))
        above.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, handletextpad=0.2, columnspacing=1.2)
        bars, matrix = below.subplots(1, 2)
        counts = combinations(table)
        _bars(bars, counts, "eye" in made)
        if "eye" in made and not counts.empty:
            key = [Patch(color=colour, label=words) for name, words, colour in _EYES if counts[f"eye_{name}"].sum()]
            below.legend(handles=key, loc="outside lower left", ncols=3, fontsize=8)
        _matrix(matrix, overlaps(table), made)
    return figure
