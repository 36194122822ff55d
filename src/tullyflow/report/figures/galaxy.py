"""One galaxy on one page: its maps, the disc found in them, the rotation curve with its band, and the corner of the posterior."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tullyflow.report.figures.sky_marks import draw_sky_marks, draw_values
from tullyflow.report.figures.style import FIT, INTENSITY_MAP, OKABE_ITO, RESIDUAL_LIMIT_KMS, VELOCITY_MAP, house_style, round_limit
from tullyflow.report.galaxy import GalaxyView, azimuthal_velocities

__all__ = ["plot_galaxy"]

_BINS = 24
_SMOOTH = 1.4  # bins: some hundred samples make ragged contours
_INSIDE = (0.393, 0.865)  # of a bivariate normal within 1 and 2 sigma


def plot_galaxy(
    view: GalaxyView,
    posterior: Mapping[str, NDArray[np.float64]],
    sky: tuple[tuple[float, float], tuple[float, float]] | None = None,
    beam: tuple[float, float, float] | None = None,
) -> Figure:
    """Draw the stamps of one galaxy, its model and residual; below them the rotation curve and the corner.

    ``posterior`` holds the samples (sample,) by the name that stands on their axis; empty: no corner.
    ``sky`` holds the unit vectors (x, y) of north and east on the stamp, ``beam`` the FWHM of both axes (arcsec) and its position angle
    (deg). Velocity and model share one scale, the residual has one of its own (±30 km/s or more); contours of the corner hold 39 and
    86 % of the samples (1 and 2 sigma of a normal error), the lines are 16, 50 and 84 %. A good disc leaves a residual without pattern.
    """
    limit, valid = round_limit(view.velocity), np.isfinite(view.velocity)
    with house_style():
        figure = Figure(figsize=(11.0, 7.3))  # laid out by hand: a solver takes longer than all the rest
        figure.suptitle(str(view.row["galaxy"]), x=0.01, y=0.985, ha="left", fontsize=11, fontweight="bold")
        panels = figure.add_gridspec(1, 4, left=0.01, right=0.94, top=0.915, bottom=0.6, wspace=0.34).subplots()
        images = (
            ("Intensity (peak 1)", view.intensity, "", {"cmap": INTENSITY_MAP, "norm": PowerNorm(0.5, 0, 1, clip=True)}),
            ("Velocity", view.velocity, "km/s", _centred(limit)),
            ("Model", np.where(valid, view.model_velocity, np.nan), "km/s", _centred(limit)),
            ("Residual", view.residual, "km/s", _centred(round_limit(view.residual, least=RESIDUAL_LIMIT_KMS))),
        )
        for panel, (title, values, unit, look) in zip(panels, images, strict=True):
            draw_values(figure, panel, values, unit, **look)
            panel.set_title(title)
        draw_sky_marks(panels[0], valid, sky, view.scale_arcsec, beam)
        _draw_curve(figure.add_axes((0.045, 0.075, 0.41, 0.445)), view)
        if posterior:
            _draw_corner(figure, posterior)
    return figure


def _centred(limit: float) -> dict:
    return {"cmap": VELOCITY_MAP, "vmin": -limit, "vmax": limit, "ticks": [-limit, 0, limit]}


def _draw_curve(axes: Axes, view: GalaxyView) -> None:
    """Draw the model's rotation curve with its band, and the rotation velocities of pixels near the major axis."""
    inclination = float(view.row.get("inclination_used_deg", np.nan))
    rings = azimuthal_velocities(view.velocity, inclination, view.scale_arcsec, view.placing)
    for side, colour, fill in (("receding", OKABE_ITO["vermilion"], OKABE_ITO["vermilion"]), ("approaching", OKABE_ITO["blue"], "white")):
        rows = rings[rings["side"] == side]
        axes.errorbar(
            rows["radius_arcsec"], rows["velocity_kms"], yerr=rows["velocity_kms_err"], fmt="o", color=colour, markerfacecolor=fill,
            markersize=3, elinewidth=0.7, markeredgewidth=0.8, label=side,
        )  # fmt: skip
    reach = view.half_width_arcsec
    tops = list(rings["velocity_kms"][rings["velocity_kms"] > 0])
    if view.curve is not None:
        inside = view.curve.radius_arcsec <= reach
        axes.fill_between(
            view.curve.radius_arcsec[inside], view.curve.low_kms[inside], view.curve.high_kms[inside], color=FIT, alpha=0.16, linewidth=0
        )
        axes.plot(view.curve.radius_arcsec[inside], view.curve.velocity_kms[inside], color=FIT, linewidth=1.4, label="model")
        tops += list(view.curve.high_kms[inside & np.isfinite(view.curve.high_kms)])
    top = 1.12 * float(np.percentile(tops, 97)) if tops else 100.0
    r_max = float(view.row.get("r_max_arcsec", np.nan))
    if np.isfinite(r_max) and r_max < reach:
        axes.axvline(r_max, color="#888888", linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set(xlim=(0, reach), ylim=(0, top))
    axes.set_title("Rotation curve (km/s)", fontsize=9, pad=4)
    axes.set_xlabel("radius in the disc (arcsec)", fontsize=8, labelpad=1)
    axes.tick_params(labelsize=7.5, length=2.5, pad=2)
    if axes.get_legend_handles_labels()[0]:
        legend = axes.legend(loc="lower right", fontsize=7, handlelength=1.2, borderaxespad=0.1, labelspacing=0.2, framealpha=0.85)
        legend.set_frame_on(True)
        legend.get_frame().set_edgecolor("none")


def _draw_corner(figure: Figure, posterior: Mapping[str, NDArray[np.float64]]) -> None:
    names = list(posterior)
    spacing = {"left": 0.545, "right": 0.99, "bottom": 0.075, "top": 0.545, "wspace": 0.1, "hspace": 0.1}
    grid = figure.add_gridspec(len(names), len(names), **spacing).subplots(squeeze=False)
    for row, below in enumerate(names):
        for column, name in enumerate(names):
            panel = grid[row, column]
            if column > row:
                panel.set_axis_off()
                continue
            if row == column:
                _draw_marginal(panel, posterior[name])
            else:
                _draw_pair(panel, posterior[name], posterior[below])
            last = row == len(names) - 1
            _label(panel, name if last else "", below if column == 0 and row else "", last, column == 0 and row > 0)
    figure.align_labels(list(grid.ravel()))


def _label(panel: Axes, x: str, y: str, x_ticks: bool, y_ticks: bool) -> None:
    panel.xaxis.set_major_locator(MaxNLocator(3, prune="both"))
    panel.yaxis.set_major_locator(MaxNLocator(3, prune="both"))
    panel.tick_params(labelsize=7, length=2.5, pad=2, labelbottom=x_ticks, labelleft=y_ticks, left=y_ticks)
    panel.set_xlabel(x, fontsize=8)
    panel.set_ylabel(y, fontsize=8)


def _range(values: NDArray) -> tuple[float, float]:
    """Range that shows all but the outermost per cent of the samples, with room; never empty."""
    low, high = np.percentile(values, (0.5, 99.5))
    room = 0.08 * (high - low) or 0.01 * abs(high) or 1.0
    return float(low - room), float(high + room)


def _draw_marginal(panel: Axes, values: NDArray) -> None:
    panel.stairs(*np.histogram(values, bins=_BINS, range=_range(values)), fill=True, color=OKABE_ITO["blue"], alpha=0.35, linewidth=0)
    for value, dashes in zip(np.percentile(values, (16, 50, 84)), ((0, (2, 2)), "-", (0, (2, 2))), strict=True):
        panel.axvline(value, color=FIT, linewidth=0.9, linestyle=dashes)
    panel.set_xlim(_range(values))
    panel.spines["left"].set_visible(False)


def _draw_pair(panel: Axes, x: NDArray, y: NDArray) -> None:
    panel.plot(x, y, ".", color=OKABE_ITO["blue"], markersize=1.8, alpha=0.35, markeredgewidth=0)
    counts, x_edges, y_edges = np.histogram2d(x, y, bins=_BINS, range=(_range(x), _range(y)))
    density = gaussian_filter(counts, _SMOOTH)
    levels = _levels(density, _INSIDE)
    if len(levels):
        middles = [(edges[1:] + edges[:-1]) / 2 for edges in (x_edges, y_edges)]
        panel.contour(*middles, density.T, levels=levels, colors=FIT, linewidths=0.9)
    panel.set(xlim=_range(x), ylim=_range(y))


def _levels(density: NDArray, shares: Sequence[float]) -> list[float]:
    """Densities above which these shares of the samples lie, rising, each once."""
    ordered = np.sort(density.ravel())[::-1]
    held = np.cumsum(ordered) / ordered.sum()
    return sorted({float(ordered[np.searchsorted(held, share)]) for share in shares})
