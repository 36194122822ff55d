"""A map on a page, and what its reader needs to know of the sky: north and east, a length, the beam, drawn where the map is emptiest."""

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from tullyflow.report.figures.style import FIT

__all__ = ["MASKED", "OUTLINE", "draw_sky_marks", "draw_values", "frame_valid", "scale_bar_arcsec"]

MASKED = "#ececec"
OUTLINE = [patheffects.withStroke(linewidth=2.4, foreground="white", alpha=0.9)]
_CORNER = 0.27  # of the frame: a corner's share of each side
_ARROW = 0.09
_BEAM_MAX = 0.2  # of the frame; a larger one would hide the map

Vector = tuple[float, float]
Beam = tuple[float, float, float]


def scale_bar_arcsec(half_width_arcsec: float) -> float:
    """Return the round length (1, 2 or 5 times a power of ten, arcsec) nearest below a third of the stamp."""
    third = 2 * half_width_arcsec / 3
    decade = 10.0 ** np.floor(np.log10(third))
    return float(max(step * decade for step in (1, 2, 5) if step * decade <= third))


def draw_values(figure: Figure, panel: Axes, values: NDArray, unit: str, *, ticks=None, **look) -> None:
    """Draw a map (y, x), NaN grey, and a colour bar of its height with the unit above; ``look`` goes to ``imshow``."""
    panel.set(xticks=[], yticks=[], facecolor=MASKED)
    panel.spines[:].set_visible(False)
    picture = panel.imshow(values, origin="lower", interpolation="nearest", **look)
    bar = figure.colorbar(picture, cax=panel.inset_axes((1.025, 0.0, 0.04, 0.94)), ticks=ticks)
    bar.outline.set_visible(False)
    bar.ax.set_title(unit, fontsize=8, fontweight="normal", loc="center", pad=5)


def frame_valid(panel: Axes, valid: NDArray[np.bool_], margin: float = 2.0) -> None:
    """Show a square around the valid pixels (y, x) and ``margin`` pixels around them; the whole map where there are none."""
    rows, columns = np.nonzero(valid)
    if not len(rows):
        return
    x, y = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
    half = max(np.ptp(columns), np.ptp(rows)) / 2 + margin + 0.5
    panel.set(xlim=(x - half, x + half), ylim=(y - half, y + half))


def draw_sky_marks(
    panel: Axes, valid: NDArray[np.bool_], sky: tuple[Vector, Vector] | None, pixel_scale_arcsec: float, beam: Beam | None
) -> None:
    """Draw arrows to north and east, a bar of round length, and the beam on a map that has been framed.

    ``sky`` holds the unit pixel vectors (x, y) of north and east, ``beam`` the FWHM of both axes (arcsec) and the position angle (deg);
    what is not known (None, NaN) is not drawn.
    """
    corners = _by_emptiness(panel, valid)
    if sky is not None:
        _draw_compass(panel, corners[0], *sky)
    if np.isfinite(pixel_scale_arcsec) and pixel_scale_arcsec > 0:
        _draw_bar(panel, corners[1], pixel_scale_arcsec)
        if beam is not None and sky is not None:
            _draw_beam(panel, corners[1], tuple(sky), pixel_scale_arcsec, beam)


def _by_emptiness(panel: Axes, valid: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Corners (0 or 1 along x, and y) of the frame, those with the fewest valid pixels first; the lower left one of equals."""
    rows, columns = np.nonzero(valid)
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    x, y = (columns - left) / (right - left), (rows - bottom) / (top - bottom)

    def number(corner: tuple[int, int]) -> int:
        return int(((np.abs(x - corner[0]) < _CORNER) & (np.abs(y - corner[1]) < _CORNER)).sum())

    return sorted([(0, 0), (1, 0), (0, 1), (1, 1)], key=number)


def _draw_compass(panel: Axes, corner: tuple[int, int], north: Vector, east: Vector) -> None:
    middle = np.array([0.12 + 0.76 * side for side in corner])
    foot = middle - _ARROW / 2 * (np.array(north) + np.array(east))
    for name, vector in (("N", north), ("E", east)):
        ends = np.array([foot, foot + _ARROW * np.array(vector)])
        panel.plot(*ends.T, transform=panel.transAxes, color=FIT, linewidth=1.1, path_effects=OUTLINE)
        label = foot + 1.38 * _ARROW * np.array(vector)
        panel.text(*label, name, transform=panel.transAxes, ha="center", va="center", fontsize=7.5, path_effects=OUTLINE)


def _width(panel: Axes) -> float:
    left, right = panel.get_xlim()
    return right - left


def _draw_bar(panel: Axes, corner: tuple[int, int], pixel_scale_arcsec: float) -> None:
    width = _width(panel)
    reach = 0.3 * width * pixel_scale_arcsec  # the bar is at most two thirds of it
    unit, mark = (60.0, "′") if reach >= 180 else (1.0, "″")
    bar = scale_bar_arcsec(reach / unit)
    length = bar * unit / pixel_scale_arcsec / width  # of the frame
    start = 0.04 if corner[0] == 0 else 0.96 - length
    y = 0.045 if corner[1] == 0 else 0.9
    panel.plot(
        [start, start + length], [y, y], transform=panel.transAxes, color=FIT, linewidth=1.6, solid_capstyle="butt", path_effects=OUTLINE
    )
    look = {"transform": panel.transAxes, "ha": "center", "va": "bottom", "fontsize": 7.5, "path_effects": OUTLINE}
    panel.text(start + length / 2, y + 0.015, f"{bar:g}{mark}", **look)


def _draw_beam(panel: Axes, corner: tuple[int, int], sky: tuple[Vector, Vector], pixel_scale_arcsec: float, beam: Beam) -> None:
    major, minor = (fwhm / pixel_scale_arcsec / _width(panel) for fwhm in beam[:2])
    if not 0 < major <= _BEAM_MAX:
        return
    north, east = np.array(sky[0]), np.array(sky[1])
    angle = np.radians(beam[2])
    along = np.cos(angle) * north + np.sin(angle) * east
    x = 0.04 + major / 2 if corner[0] == 0 else 0.96 - major / 2
    y = 0.12 + major / 2 if corner[1] == 0 else 0.87 - major / 2
    tilt = float(np.degrees(np.arctan2(along[1], along[0])))
    look = {"facecolor": "none", "edgecolor": FIT, "linewidth": 1.1, "path_effects": OUTLINE}
    panel.add_patch(Ellipse((x, y), major, minor, angle=tilt, transform=panel.transAxes, **look))
