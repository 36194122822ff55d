"""A velocity map with its kinematic axis, and the curve the axis is the minimum of."""

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tullyflow.maps.orientation import image_to_sky_angle
from tullyflow.report.figures.style import FIT, OKABE_ITO, VELOCITY_MAP, house_style, new_figure, round_limit
from tullyflow.tools.axis import Axis, KinematicAxes

__all__ = ["draw_compass", "plot_axes"]

_OUTLINE = [patheffects.withStroke(linewidth=2.4, foreground="white", alpha=0.9)]
_MASKED = "#ececec"
_MARGIN = 2  # pixels shown around the valid ones


def plot_axes(axes: KinematicAxes) -> Figure:
    """Draw the map of the gas (and below it the stars, where there are any) beside its curve of chi-squared.

    Colours are centred on v_sys (white); pixels that were left out are grey. The solid half of the line points to the
    receding side, the pale wedge is 1 sigma; N and E are those of the header. The dotted line of a curve is the position
    angle, the band 1 sigma. A good figure has the line along the strongest gradient and one deep minimum.
    """
    parts = [("gas" if axes.stars is not None else "", axes.gas)] + ([("stars", axes.stars)] if axes.stars is not None else [])
    with house_style():
        figure = new_figure(8.2, 3.9 * len(parts))
        grid = figure.subplots(len(parts), 2, squeeze=False, width_ratios=(1.15, 1))
        for (name, axis), (left, right) in zip(parts, grid, strict=True):
            _draw_map(figure, left, axis, axes)
            _draw_curve(right, axis, axes)
            v_sys, err = axis.fit.v_sys_kms, axis.fit.v_sys_err_kms
            said = f", v_sys {v_sys:.1f} ± {err:.1f} km/s" if np.isfinite(v_sys) else ""
            left.set_title(f"{axes.galaxy} {name}".strip() + said)
            right.set_title(_title(axis, axes))
    return figure


def _title(axis: Axis, axes: KinematicAxes) -> str:
    if axis.fit.flags or not np.isfinite(axis.fit.err_deg):
        return "no axis: " + (axis.fit.message if len(axis.fit.message) < 52 else axis.fit.message[:50] + "…")
    angle = axis.pa_deg if axes.sky is not None else axis.fit.image_angle_deg
    return f"{'PA' if axes.sky is not None else 'on the image'} {angle:.1f} ± {axis.fit.err_deg:.1f}°"


def _draw_map(figure: Figure, panel: Axes, axis: Axis, axes: KinematicAxes) -> None:
    panel.set(xticks=[], yticks=[], facecolor=_MASKED)
    panel.spines[:].set_visible(False)
    v_sys = axis.fit.v_sys_kms
    if not np.isfinite(v_sys):
        v_sys = float(np.median(axis.velocity[axis.valid])) if axis.valid.any() else 0.0
    shown = np.where(axis.valid, axis.velocity - v_sys, np.nan)
    limit = round_limit(shown)
    picture = panel.imshow(shown, origin="lower", cmap=VELOCITY_MAP, vmin=-limit, vmax=limit, interpolation="nearest")
    bar = figure.colorbar(picture, ax=panel, shrink=0.85, pad=0.02, ticks=[-limit, 0, limit])
    bar.outline.set_visible(False)
    bar.set_label("velocity − v_sys (km/s)", fontsize=8)
    _frame(panel, axis)
    if np.isfinite(axis.fit.image_angle_deg):
        _draw_axis(panel, axis)
    panel.plot(*axis.centre, marker="+", color=FIT, markersize=9, markeredgewidth=1.3, path_effects=_OUTLINE)
    if axes.sky is not None:
        draw_compass(panel, *axes.sky)
    _draw_scale(panel, axes.pixel_scale_arcsec)


def _frame(panel: Axes, axis: Axis) -> None:
    """Show a square around the valid pixels."""
    rows, columns = np.nonzero(axis.valid)
    if not len(rows):
        return
    x, y = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
    half = max(np.ptp(columns), np.ptp(rows)) / 2 + _MARGIN
    panel.set(xlim=(x - half - 0.5, x + half + 0.5), ylim=(y - half - 0.5, y + half + 0.5))


def _draw_axis(panel: Axes, axis: Axis) -> None:
    reach = 0.47 * np.ptp(panel.get_xlim())
    x, y = axis.centre

    def end(angle_deg: float, length: float) -> tuple[float, float]:
        return x + length * np.cos(np.radians(angle_deg)), y + length * np.sin(np.radians(angle_deg))

    angle = axis.fit.image_angle_deg
    if np.isfinite(axis.fit.err_deg) and axis.fit.err_deg < 45:
        for side in (reach, -reach):
            wedge = [end(angle + turn, side) for turn in np.linspace(-axis.fit.err_deg, axis.fit.err_deg, 9)]
            panel.fill(*zip((x, y), *wedge, strict=True), color=FIT, alpha=0.15, linewidth=0)
    arrow = {"arrowstyle": "-|>", "color": FIT, "linewidth": 1.5, "path_effects": _OUTLINE}
    panel.annotate("", end(angle, reach), (x, y), arrowprops=arrow)
    far = end(angle, -reach)
    panel.plot([x, far[0]], [y, far[1]], color=FIT, linewidth=1.4, linestyle=(0, (4, 2)), path_effects=_OUTLINE)


def draw_compass(panel: Axes, north: tuple[float, float], east: tuple[float, float]) -> None:
    """Draw arrows to north and east (unit pixel vectors) into the lower left corner of a map."""
    length = 0.09
    corner = np.array([0.15, 0.15])
    for name, vector in (("N", north), ("E", east)):
        tip = corner + length * np.array(vector)
        style = {"arrowstyle": "-", "color": FIT, "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0}
        panel.annotate("", tuple(tip), tuple(corner), xycoords="axes fraction", textcoords="axes fraction", arrowprops=style)
        label = corner + 1.4 * length * np.array(vector)
        panel.text(*label, name, transform=panel.transAxes, ha="center", va="center", fontsize=7.5, path_effects=_OUTLINE)


def _draw_scale(panel: Axes, pixel_scale_arcsec: float) -> None:
    if not pixel_scale_arcsec > 0:
        return
    from tullyflow.report.figures.strip import scale_bar_arcsec

    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    width = right - left
    length = scale_bar_arcsec(width / 2 * pixel_scale_arcsec) / 2
    pixels = length / pixel_scale_arcsec
    x, y = right - 0.04 * width, bottom + 0.05 * (top - bottom)
    panel.plot([x - pixels, x], [y, y], color=FIT, linewidth=1.6, solid_capstyle="butt", path_effects=_OUTLINE)
    panel.text(x - pixels / 2, y + 0.02 * (top - bottom), f"{length:.3g}″", ha="center", va="bottom", fontsize=7.5, path_effects=_OUTLINE)


def _draw_curve(panel: Axes, axis: Axis, axes: KinematicAxes) -> None:
    fit = axis.fit
    angles, chi2 = np.asarray(fit.angles_deg, dtype=float), np.asarray(fit.chi2, dtype=float)
    unit = "position angle" if axes.sky is not None else "angle on the image"
    panel.set_xlabel(f"{unit} of the axis, modulo 180 (deg)")
    if not (angles.size and np.isfinite(chi2).all() and chi2.min() > 0):
        panel.set(xticks=[], yticks=[])
        return
    if axes.sky is not None:
        angles = np.array([image_to_sky_angle(angle, *axes.sky) for angle in angles]) % 180
    order = np.argsort(angles, kind="stable")
    angles, ratio = angles[order], chi2[order] / chi2.min()
    around = np.r_[angles[-1] - 180, angles, angles[0] + 180]
    panel.plot(around, np.r_[ratio[-1], ratio, ratio[0]], color=OKABE_ITO["blue"])
    best = (axis.pa_deg if axes.sky is not None else fit.image_angle_deg) % 180
    if np.isfinite(best):
        for shift in (-180, 0, 180):
            panel.axvspan(best - fit.err_deg + shift, best + fit.err_deg + shift, color=FIT, alpha=0.15, linewidth=0)
            panel.axvline(best + shift, color=FIT, linewidth=1.0, linestyle=(0, (1, 1.5)))
    panel.set_ylabel(f"χ² / smallest χ² ({chi2.min():.3g})")
    panel.set(xlim=(0, 180), xticks=range(0, 181, 45), ylim=(0, 1.06 * ratio.max()))
