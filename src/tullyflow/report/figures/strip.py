"""The strip of one galaxy: intensity, velocity, model, residual on the stamp, and the rotation curve.

The strip is laid out in three blocks of equal height (`BLOCKS`), so that a page can cut it and let a
narrow screen stack them.
"""

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from tullyflow.report.figures.style import FIT, INTENSITY_MAP, OKABE_ITO, VELOCITY_MAP, house_style, round_limit
from tullyflow.report.galaxy import GalaxyView, azimuthal_velocities

__all__ = ["BLOCKS", "RESIDUAL_LIMIT_KMS", "draw_curve", "plot_strip", "scale_bar_arcsec"]

RESIDUAL_LIMIT_KMS = 30.0
BLOCKS = (0.0, 0.36, 0.72, 1.0)  # borders of the three blocks, as fractions of the width
_WIDTH, _HEIGHT = 11.0, 2.04  # inches
_MAP = 1.62
_OUTLINE = [patheffects.withStroke(linewidth=2.2, foreground="white", alpha=0.85)]
_MASKED = "#ececec"


def scale_bar_arcsec(half_width_arcsec: float) -> float:
    """Return the round length (1, 2 or 5 times a power of ten, arcsec) nearest below a third of the stamp."""
    third = 2 * half_width_arcsec / 3
    decade = 10.0 ** np.floor(np.log10(third))
    return float(max(step * decade for step in (1, 2, 5) if step * decade <= third))


def _map_axes(figure: Figure, left_in: float, title: str) -> Axes:
    axes = figure.add_axes((left_in / _WIDTH, 0.16 / _HEIGHT, _MAP / _WIDTH, _MAP / _HEIGHT))
    axes.set_title(title, fontsize=9, pad=4)
    axes.set(xticks=[], yticks=[], facecolor=_MASKED)
    axes.spines[:].set_visible(False)
    return axes


def _colour_bar(figure: Figure, image, left_in: float, limit: float) -> None:
    bar = figure.add_axes((left_in / _WIDTH, 0.26 / _HEIGHT, 0.07 / _WIDTH, (_MAP - 0.2) / _HEIGHT))
    figure.colorbar(image, cax=bar, ticks=[-limit, 0, limit])
    bar.tick_params(labelsize=7.5, length=2, pad=2)
    bar.set_title("km/s", fontsize=7.5, fontweight="normal", loc="left", pad=8)
    bar.spines[:].set_visible(False)


def _draw_beam_and_scale(axes: Axes, view: GalaxyView) -> None:
    half = view.half_width_arcsec
    if np.isfinite(view.beam_arcsec) and 0 < view.beam_arcsec < half:
        radius = view.beam_arcsec / 2
        axes.add_patch(
            Circle(
                (-half * 0.94 + radius, -half * 0.94 + radius),
                radius,
                facecolor="none",
                edgecolor=FIT,
                linewidth=1.0,
                path_effects=_OUTLINE,
            )
        )
    length = scale_bar_arcsec(half)
    axes.plot(
        [0.92 * half - length, 0.92 * half], [-0.9 * half] * 2, color=FIT, linewidth=1.6, solid_capstyle="butt", path_effects=_OUTLINE
    )
    axes.text(0.92 * half - length / 2, -0.84 * half, f"{length:g}″", ha="center", va="bottom", fontsize=7.5, path_effects=_OUTLINE)


def draw_curve(axes: Axes, view: GalaxyView) -> None:
    """Draw the model's rotation curve with its band, and the rotation velocities of pixels near the major axis."""
    inclination = float(view.row.get("inclination_used_deg", np.nan))
    rings = azimuthal_velocities(view.velocity, inclination, view.scale_arcsec)
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


def plot_strip(view: GalaxyView) -> Figure:
    """Draw one galaxy as a strip of 11 by 2 inches.

    The intensity is shown by its square root. Velocity and model share a diverging map and its limits, centred on
    the systemic velocity; the residual has ±30 km/s of its own. Masked pixels are grey; the circle is the beam, the
    bar a length on the sky, the dotted line of the curve the outermost data.
    """
    half = view.half_width_arcsec
    extent = (-half, half, -half, half)
    limit = round_limit(view.velocity)
    with house_style():
        figure = Figure(figsize=(_WIDTH, _HEIGHT))
        second = BLOCKS[1] * _WIDTH
        axes = {
            name: _map_axes(figure, left, name)
            for name, left in (("Intensity", 0.08), ("Velocity", 1.78), ("Model", second + 0.08), ("Residual", second + 1.78))
        }
        axes["Intensity"].imshow(view.intensity, origin="lower", extent=extent, cmap=INTENSITY_MAP, norm=PowerNorm(0.5, 0, 1, clip=True))
        images = {
            name: axes[name].imshow(values, origin="lower", extent=extent, cmap=VELOCITY_MAP, vmin=-bound, vmax=bound)
            for name, values, bound in (
                ("Velocity", view.velocity, limit),
                ("Model", np.where(np.isfinite(view.velocity), view.model_velocity, np.nan), limit),
                ("Residual", view.residual, RESIDUAL_LIMIT_KMS),
            )
        }
        _draw_beam_and_scale(axes["Intensity"], view)
        _colour_bar(figure, images["Velocity"], 3.46, limit)
        _colour_bar(figure, images["Residual"], second + 3.46, RESIDUAL_LIMIT_KMS)
        third = BLOCKS[2] * _WIDTH
        curve = figure.add_axes(((third + 0.42) / _WIDTH, 0.40 / _HEIGHT, (_WIDTH - third - 0.55) / _WIDTH, 1.38 / _HEIGHT))
        draw_curve(curve, view)
    return figure
