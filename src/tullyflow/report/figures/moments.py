"""The quick look at a cube: three moment maps, the spectrum of the line, the noise of the channels."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from tullyflow import flags
from tullyflow.errors import DataError
from tullyflow.maps.antisymmetry import middle_of
from tullyflow.maps.moments import CubeMoments
from tullyflow.maps.orientation import image_axes
from tullyflow.report.figures.sky_marks import draw_sky_marks, draw_values, frame_valid
from tullyflow.report.figures.style import FIT, INTENSITY_MAP, OKABE_ITO, VELOCITY_MAP, house_style, new_figure, round_limit

if TYPE_CHECKING:
    from tullyflow.tools.line_moments import LineSpectrum

__all__ = ["plot_moments"]


def plot_moments(name: str, found: CubeMoments, spectrum: "LineSpectrum") -> Figure:
    """Draw intensity (its square root), velocity about its flux-weighted mean, and dispersion; below them spectrum and noise.

    Grey pixels have no velocity; the ellipse is the beam. The band of the spectrum is 1 sigma. A good figure has a velocity map
    without speckles, a spectrum that goes to zero at both ends, and noise that does not rise where the line is.
    """
    valid = (found.mask & flags.BAD_VELOCITY) == 0
    middle = float(np.average(found.velocity[valid], weights=found.intensity[valid]))
    speed = np.where(valid, found.velocity - middle, np.nan)
    limit = round_limit(speed)
    positive = valid & (found.dispersion_sq > 0)
    dispersion = np.sqrt(np.where(positive, found.dispersion_sq, np.nan))
    top = float(np.percentile(dispersion[positive], 98)) if positive.any() else 1.0
    with house_style():
        figure = new_figure(11.0, 7.0)
        grid = figure.add_gridspec(3, 3, height_ratios=(3.4, 1.7, 0.9))
        panels = [figure.add_subplot(grid[0, k]) for k in range(3)]
        _map(figure, panels[0], np.where(valid, found.intensity, np.nan), f"{name}: intensity ({found.intensity_unit})",
             cmap=INTENSITY_MAP, norm=PowerNorm(0.5, 0, float(np.nanmax(found.intensity)), clip=True))  # fmt: skip
        _map(figure, panels[1], speed, f"velocity about {middle:.1f} km/s", cmap=VELOCITY_MAP, vmin=-limit, vmax=limit)
        _map(figure, panels[2], dispersion, "dispersion (km/s)", cmap=INTENSITY_MAP, vmin=0, vmax=top)
        for panel in panels:
            frame_valid(panel, valid)
        draw_sky_marks(panels[0], valid, _sky(found, valid), found.pixel_scale_arcsec, found.beam or _circle(found))
        spectral, noise = figure.add_subplot(grid[1, :]), figure.add_subplot(grid[2, :])
        _draw_spectrum(spectral, spectrum, middle)
        unit = found.intensity_unit.removesuffix("km/s").strip()
        noise.plot(spectrum.velocity_kms, found.noise.channel_rms, color=OKABE_ITO["vermilion"], drawstyle="steps-mid")
        noise.set(xlabel="velocity, optical (km/s)", ylabel=f"noise\n({unit})")
        noise.set_ylim(0, 1.3 * float(np.nanmax(found.noise.channel_rms)))
        noise.sharex(spectral)
        spectral.set_xlim(*np.sort(spectrum.velocity_kms[[0, -1]]))
        spectral.tick_params(labelbottom=False)
        figure.align_ylabels([spectral, noise])
    return figure


def _map(figure: Figure, panel: Axes, image, title: str, **look) -> None:
    draw_values(figure, panel, image, "", **look)
    panel.set_title(title)


def _circle(found: CubeMoments) -> tuple[float, float, float] | None:
    width = found.beam_fwhm_arcsec
    return (width, width, 0.0) if np.isfinite(width) else None


def _sky(found: CubeMoments, valid):
    try:
        return image_axes(found.wcs, middle_of(valid))
    except DataError:  # oblong pixels: the map is shown without directions
        return None


def _draw_spectrum(panel: Axes, spectrum: "LineSpectrum", middle: float) -> None:
    low, high = spectrum.flux - spectrum.flux_err, spectrum.flux + spectrum.flux_err
    panel.fill_between(spectrum.velocity_kms, low, high, step="mid", color=OKABE_ITO["blue"], alpha=0.2, linewidth=0)
    panel.plot(spectrum.velocity_kms, spectrum.flux, color=OKABE_ITO["blue"], drawstyle="steps-mid")
    panel.axhline(0, color=FIT, linewidth=0.7)
    panel.axvline(middle, color=FIT, linewidth=0.8, linestyle=(0, (2, 2)))
    panel.set_ylabel(f"flux ({spectrum.unit})" if len(spectrum.unit) < 8 else spectrum.unit)
    panel.set_title("spectrum of the pixels above; dotted: flux-weighted mean velocity")
