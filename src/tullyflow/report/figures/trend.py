"""One property of the galaxies against another, survey by survey, with running medians and rank correlations (thesis figs 4.5-4.10)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tullyflow.relation.rank_correlation import correlate_ranks
from tullyflow.report.figures.panels import count_beyond, draw_points, draw_running_median, log_axis, panel_key, robust_limits, say
from tullyflow.report.figures.quantities import QUANTITIES, Quantity, quantity_table, residual_quantity, velocity_quantity
from tullyflow.report.figures.style import FIT, house_style, new_figure

if TYPE_CHECKING:
    from tullyflow.settings import Settings

__all__ = ["Trend", "coefficient_words", "plot_trends", "trend_points", "trend_table", "trends_of"]

_PANELS = {  # figure -> its panels, each y against x
    "age": (("log_v", "log_age_yr"),),
    "mass_to_light": (("log_v", "log_ml"),),
    "turnover": (("log_mstar", "r_turn_over_re"), ("log_v", "r_turn_over_re")),
    "magnitude_residual": (("r_turn_over_re", "residual_r_band"),),
    "mass_residual": (("r_turn_over_re", "residual_forward"),),
    "extent": (("r_turn_over_re", "r_max_over_re"),),
}


@dataclass(frozen=True)
class Trend:
    """One panel: the two quantities and the used galaxies that have both (galaxy, survey, x, y, open); ``missing`` lack one of them.

    ``open`` marks galaxies whose turnover radius, where it is on an axis, is within half the beam: not resolved, a limit rather
    than a value. ``sentence`` says why there is nothing to draw, where there is nothing.
    """

    x: Quantity
    y: Quantity
    points: pd.DataFrame
    missing: int
    sentence: str = ""


def trend_points(table: pd.DataFrame, x: Quantity, y: Quantity) -> Trend:
    """Return one panel of the `quantity_table`; what is missing, or not positive on a logarithmic axis, is left out and counted."""
    points = table[["galaxy", "survey"]].assign(x=table[x.name], y=table[y.name])
    points["open"] = table["r_turn_unresolved"] & ("r_turn_over_re" in (x.name, y.name))
    bad = {axis: points[axis].isna() | (quantity.log & ~(points[axis] > 0)) for axis, quantity in (("x", x), ("y", y))}
    known = ~(bad["x"] | bad["y"])
    sentence = ""
    if table.empty:
        sentence = "No galaxy is in the relation."
    elif not known.any():
        alone = next((q.absent for axis, q in (("y", y), ("x", x)) if bad[axis].all()), None)
        sentence = alone or f"No galaxy in the relation has both {y.words} and {x.words}."
    return Trend(x, y, points[known].reset_index(drop=True), int((~known).sum()), sentence)


def trends_of(name: str, sample: pd.DataFrame, fits: Sequence[Mapping], settings: "Settings") -> list[Trend]:
    """Return the panels of a figure of this kind (``age``, ``mass_to_light``, ``turnover``, ``..._residual``, ``extent``)."""
    table = quantity_table(sample, fits, settings)

    def quantity(key: str) -> Quantity:
        if key == "log_v":
            return velocity_quantity(settings)
        relation = key.removeprefix("residual_")
        return residual_quantity(relation, fits) if relation != key else QUANTITIES[key]

    return [trend_points(table, quantity(x), quantity(y)) for x, y in _PANELS[name]]


def coefficients(trend: Trend, rows: Sequence[Mapping], seed: int) -> dict[str, str]:
    """Return the words of each survey's rank correlation: of the record's ``rows``, or measured here where they lack the pair."""
    pair, words = {trend.x.name, trend.y.name}, {}
    recorded = {str(row["survey"]): row for row in rows if {row["x"], row["y"]} == pair and not row.get("at_fixed")}
    for survey, points in trend.points.groupby("survey", sort=False):
        row = recorded.get(str(survey)) or asdict(correlate_ranks(points["x"], points["y"], np.random.default_rng(seed)))
        words[str(survey)] = coefficient_words(row)
    return words


def coefficient_words(row: Mapping | None) -> str:
    """Say a rank correlation: coefficient, bootstrap error and permutation p; "" where there is none."""
    if row is None or row.get("rho") is None or not np.isfinite(row["rho"]):
        return ""
    rho, err, p = (row.get(key) for key in ("rho", "rho_err", "p"))
    words = rf"$r_s$ = {rho:.2f}".replace("-", "−")
    words += f" ± {err:.2f}" if err is not None and np.isfinite(err) else ""
    if p is None or not np.isfinite(p):
        return words
    return f"{words}, p ≤ 0.001" if p < 0.0015 else f"{words}, p = {p:.{3 if p < 0.1 else 2}f}"


def _guide(axes: Axes, trend: Trend) -> None:
    """The line a panel is read against: no residual, or data that end where the curve turns over."""
    dashes = {"color": FIT, "linewidth": 0.9, "linestyle": (0, (2, 2)), "zorder": 1}
    if trend.y.name.startswith("residual"):
        axes.axhline(0, **dashes)
    if trend.y.name == "residual_r_band":
        for y, word in ((0.98, "fainter than the relation"), (0.02, "brighter")):
            axes.annotate(word, (0.01, y), xycoords="axes fraction", va="top" if y > 0.5 else "bottom", fontsize=7.5, color="#555555")
    if trend.y.name == "r_max_over_re":
        grid = np.array(axes.get_xlim())
        axes.plot(grid, grid, **dashes, scalex=False, scaley=False)
        where = {"xycoords": "axes fraction", "ha": "right", "va": "bottom", "fontsize": 7.5, "color": "#555555"}
        axes.annotate(r"$r_\mathrm{max} = r_\mathrm{turn}$", (0.98, 0.02), **where)


def _draw(axes: Axes, trend: Trend, words: Mapping[str, str]) -> list[Line2D]:
    for which, quantity in (("x", trend.x), ("y", trend.y)):
        getattr(axes, f"set_{which}label")(quantity.label)
    if trend.sentence:
        say(axes, trend.sentence)
        return []
    limits = {which: robust_limits(trend.points[which], quantity.log) for which, quantity in (("x", trend.x), ("y", trend.y))}
    for which, quantity in (("x", trend.x), ("y", trend.y)):
        if quantity.log:
            log_axis(axes, which, limits[which])
        else:
            getattr(axes, f"set_{which}lim")(*limits[which])
    handles = draw_points(axes, trend.points)
    medians = draw_running_median(axes, trend.points)
    _guide(axes, trend)
    count_beyond(axes, trend.points["x"], trend.points["y"])
    for survey, handle in handles.items():
        handle.set_label("  ".join(filter(None, (handle.get_label(), words.get(survey, "")))))
        handle.set_linestyle(medians.get(survey, "none"))
    shown = list(handles.values())
    if trend.points["open"].any():
        looks = {"marker": "o", "markerfacecolor": "none", "color": FIT, "markersize": 4.5, "linestyle": "none"}
        label = rf"open: $r_\mathrm{{turn}}$ within half the beam ({int(trend.points['open'].sum())})"
        shown.append(Line2D([], [], label=label, **looks))
    if medians:
        shown.append(Line2D([], [], color=FIT, linewidth=1.2, label="running median, its 1σ"))
    return shown


def plot_trends(trends: Sequence[Trend], title: str, rows: Sequence[Mapping] = (), seed: int = 42) -> Figure:
    """Draw the panels side by side.

    ``rows`` are rank correlations (``x``, ``y``, ``survey``, ``rho``, ``rho_err``, ``p``), said in each panel's key; a pair they
    lack is measured here, with ``seed``. A panel without galaxies carries its sentence; galaxies beyond the robust limits are
    counted, never cut from the medians.
    """
    with house_style():
        figure = new_figure(5.6 if len(trends) == 1 else 4.5 * len(trends), 4.7)
        panels = figure.subplots(1, len(trends), squeeze=False, sharey=len({t.y.name for t in trends}) == 1)[0]
        for axes, trend in zip(panels, trends, strict=True):
            words = coefficients(trend, rows, seed)
            handles = _draw(axes, trend, words)
            axes.label_outer(remove_inner_ticks=False)
            panel_key(axes, title if axes is panels[0] else f"against {trend.x.words}", handles)
    return figure


def trend_table(trends: Sequence[Trend]) -> pd.DataFrame:
    """Return what the panels show: galaxy, survey and a column per quantity."""
    tables = [t.points.rename(columns={"x": t.x.name, "y": t.y.name, "open": "r_turn_unresolved"}) for t in trends]
    table = tables[0]
    for other in tables[1:]:
        table = table.merge(other, how="outer", on=[c for c in other if c in table], sort=False)
    return table


