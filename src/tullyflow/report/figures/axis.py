"""A velocity map with its kinematic axis, and the curve the axis is the minimum of."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tullyflow.maps.orientation import image_to_sky_angle
from tullyflow.report.figures.sky_marks import OUTLINE, draw_sky_marks, draw_values, frame_valid
from tullyflow.report.figures.style import FIT, OKABE_ITO, VELOCITY_MAP, house_style, new_figure, round_limit
from tullyflow.tools.axis import Axis, KinematicAxes

__all__ = ["plot_axes"]


def plot_axes(axes: KinematicAxes) -> Figure:
    """Draw the map of the gas (and below it the stars, where there are any) beside its curve of chi-squared.

    Colours are centred on v_sys (white); pixels that were left out are grey. The solid half of the line points to the
    receding side, the pale wedge is 1 sigma; N and E are those of the header, the ellipse is the beam. The dotted line of
    a curve is the position angle, the band 1 sigma. A good figure has the line along the strongest gradient and one deep minimum.
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
        return "no axis"
    angle = axis.pa_deg if axes.sky is not None else axis.fit.image_angle_deg
    return f"{'PA' if axes.sky is not None else 'on the image'} {angle:.1f} ± {axis.fit.err_deg:.1f}°"


def _draw_map(figure: Figure, panel: Axes, axis: Axis, axes: KinematicAxes) -> None:
    v_sys = axis.fit.v_sys_kms
    if not np.isfinite(v_sys):
        v_sys = float(np.median(axis.velocity[axis.valid])) if axis.valid.any() else 0.0
    shown = np.where(axis.valid, axis.velocity - v_sys, np.nan)
    limit = round_limit(shown)
    draw_values(figure, panel, shown, "km/s", ticks=[-limit, 0, limit], cmap=VELOCITY_MAP, vmin=-limit, vmax=limit)
    frame_valid(panel, axis.valid)
    if np.isfinite(axis.fit.image_angle_deg) and not axis.fit.flags:
        _draw_axis(panel, axis)
    panel.plot(*axis.centre, marker="+", color=FIT, markersize=9, markeredgewidth=1.3, path_effects=OUTLINE)
    draw_sky_marks(panel, axis.valid, axes.sky, axes.pixel_scale_arcsec, axes.beam)


def _draw_axis(panel: Axes, axis: Axis) -> None:
    angle, err = axis.fit.image_angle_deg, axis.fit.err_deg
    centre = np.array(axis.centre)
    frame = np.sort([panel.get_xlim(), panel.get_ylim()], axis=1)

    def end(angle_deg: float) -> NDArray:
        """Point near the border of the frame, along an angle from the centre (the centre itself where that lies outside)."""
        step = np.array([np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))])
        step[np.abs(step) < 1e-9] = 1e-9
        reach = np.where(step > 0, frame[:, 1] - centre, frame[:, 0] - centre) / step
        return centre + 0.95 * max(float(reach.min()), 0.0) * step

    if np.isfinite(err):
        for side in (angle, angle + 180):
            wedge = [end(side + turn) for turn in np.linspace(-err, err, 9)]
            panel.fill(*zip(centre, *wedge, strict=True), color=FIT, alpha=0.15, linewidth=0)
    arrow = {"arrowstyle": "-|>", "color": FIT, "linewidth": 1.5, "path_effects": OUTLINE, "shrinkA": 0, "shrinkB": 0}
    panel.annotate("", end(angle), centre, arrowprops=arrow)
    panel.plot(*zip(centre, end(angle + 180), strict=True), color=FIT, linewidth=1.4, linestyle=(0, (4, 2)), path_effects=OUTLINE)


def _draw_curve(panel: Axes, axis: Axis, axes: KinematicAxes) -> None:
    fit = axis.fit
    angles, chi2 = np.asarray(fit.angles_deg, dtype=float), np.asarray(fit.chi2, dtype=float)
    unit = "position angle" if axes.sky is not None else "angle on the image"
    panel.set_xlabel(f"{unit} of the axis, modulo 180 (deg)")
    if fit.message:
        said = textwrap.fill(fit.message, 48)
        panel.text(0.03, 0.97, said, transform=panel.transAxes, va="top", fontsize=8.5, path_effects=OUTLINE, zorder=5)
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
    if np.isfinite(best) and not fit.flags:
        for shift in (-180, 0, 180):
            panel.axvspan(best - fit.err_deg + shift, best + fit.err_deg + shift, color=FIT, alpha=0.15, linewidth=0)
            panel.axvline(best + shift, color=FIT, linewidth=1.0, linestyle=(0, (1, 1.5)))
    least = f"{chi2.min():,.0f}" if chi2.min() >= 100 else f"{chi2.min():.3g}"
    panel.set_ylabel(f"χ² over its minimum ({least}, {fit.n_pixels:,} pixels)")
    panel.set(xlim=(0, 180), xticks=range(0, 181, 45), ylim=(0, (1.25 if fit.message else 1.06) * ratio.max()))
