"""How a galaxy made of particles is seen: as an interferometer or an integral-field survey sees it, by KinMS (Davis+2013).

KinMS puts the particles into the channels of its cube. Its beam is not used, a convolution channel by channel, but the same Gaussian as
two matrix products for the whole cube (`beam_matrix`).
"""

import math
import warnings
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tullyflow.conventions import FWHM_PER_SIGMA, STAMP
from tullyflow.maps.fields import empty_field, make_field
from tullyflow.network.judges.particles import Particles

__all__ = ["View", "beam_matrix", "draw_view", "observe", "plain"]

_CHANNELS = 48  # at most
_HELD = 40  # per cent of the particles that are in the field of view at least, face-on: else a ring would be beyond it
_MARGIN = 1.5  # beams beyond every edge, where the beam finds light
_SMOOTHED = (0.25, 0.5, 0.25)  # over channels, for the mask

Footprint = Literal["none", "hexagon", "circle", "square"]


@dataclass(frozen=True)
class View:
    """How one galaxy is seen.

    ``inclination_deg`` of the angular momentum to the line of sight, ``pa_deg`` of the receding side (counter-clockwise from +y, as North
    through East on an image with North up), ``spin_deg`` about the axis; ``pixels`` across the image, which spans ``reach`` times the
    radius that holds 98 % of the particles, or that of 40 % if that is more; ``beam`` FWHM and ``off`` (2) of the centre as shares of
    the image; ``v_max_kms`` of the potential; ``channel_kms`` the least channel. ``peak_snr`` (inf: none) is thesis eq. 2.2's; its noise
    is ``correlated`` over the beam or from pixel to pixel; ``mask_snr`` is where the smoothed cube is masked (without noise: ``faintest``
    of the brightest pixel). ``binned`` views have no cube: moments, then ``velocity_err_kms`` of the median pixel, in ``bins`` (0: pixels).
    """

    inclination_deg: float
    pa_deg: float
    spin_deg: float
    pixels: int
    reach: float
    beam: float
    off: tuple[float, float]
    v_max_kms: float
    channel_kms: float
    peak_snr: float
    correlated: bool
    mask_snr: float
    faintest: float
    binned: bool
    velocity_err_kms: float
    bins: int
    footprint: Footprint
    footprint_size: float
    footprint_turn_deg: float
    gaps: float


def draw_view(rng: np.random.Generator) -> View:
    """Draw a view: 70 % cubes, a quarter of them without noise, and 30 % as integral-field surveys bin and smear."""

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(math.log(low), math.log(high))))

    binned = bool(rng.random() < 0.3)
    shapes = ("none", "hexagon", "circle", "square")
    return View(
        inclination_deg=float(rng.uniform(5, 85)),
        pa_deg=float(rng.uniform(0, 360)),
        spin_deg=float(rng.uniform(0, 360)),
        pixels=int(rng.integers(22, 64)) if binned or rng.random() < 0.2 else STAMP,
        reach=log_uniform(0.3, 1.2),
        beam=log_uniform(4, 10) / STAMP if binned else log_uniform(2, 8) / STAMP,
        off=tuple(0.03 * rng.standard_normal(2)),
        v_max_kms=log_uniform(30, 350),
        channel_kms=log_uniform(2, 20),
        peak_snr=math.inf if rng.random() < 0.25 else log_uniform(5, 100),
        correlated=bool(rng.random() < 0.5),
        mask_snr=float(rng.uniform(3, 4.5)),
        faintest=log_uniform(1e-3, 3e-2),
        binned=binned,
        velocity_err_kms=log_uniform(1, 30),
        bins=int(log_uniform(15, 400)) if rng.random() < 0.6 else 0,
        footprint=str(rng.choice(shapes, p=(0.1, 0.6, 0.2, 0.1) if binned else (0.5, 0.2, 0.15, 0.15))),
        footprint_size=float(rng.uniform(0.6, 1.0)),
        footprint_turn_deg=0.0 if rng.random() < 0.3 else float(rng.uniform(0, 360)),
        gaps=float(max(0.0, rng.uniform(-0.15, 0.15))),
    )


def plain(view: View, peak_snr: float) -> View:
    """Return the same view as a cube of a given peak S/N (inf: no noise), without footprint or gaps."""
    return replace(view, peak_snr=peak_snr, binned=False, footprint="none", gaps=0.0)


def beam_matrix(size: int, margin: int, fwhm: float) -> NDArray[np.float32]:
    """Return the Gaussian (size, size + 2 margin) that smooths one axis and leaves out its margins, its columns' sum 1 in the middle."""
    away = np.arange(size)[:, None] + margin - np.arange(size + 2 * margin)
    kernel = np.exp(-0.5 * (away * FWHM_PER_SIGMA / fwhm) ** 2)
    return (kernel / np.exp(-0.5 * (np.arange(-99, 100) * FWHM_PER_SIGMA / fwhm) ** 2).sum()).astype(np.float32)


def _blur(matrix: NDArray, cube: NDArray) -> NDArray:
    """Smooth (y, x, v) along y and x."""
    first = matrix @ cube.reshape(len(cube), -1)
    return matrix @ first.reshape(len(matrix), *cube.shape[1:])


def _project(particles: Particles, view: View) -> tuple[NDArray, NDArray, NDArray]:
    """Positions x, y on the image in galaxy units and velocities away from us, km/s; a galaxy's spin is along +z."""
    spin, inclination, turn = np.radians([view.spin_deg, view.inclination_deg, view.pa_deg + 90])
    c, s, ci, si, ct, st = np.cos(spin), np.sin(spin), np.cos(inclination), np.sin(inclination), np.cos(turn), np.sin(turn)
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, ci, si], [0, si, -ci]])  # the last: away from us
    on_sky = np.array([[ct, -st, 0], [st, ct, 0], [0, 0, 1]]) @ tilt @ about_z
    x, y, _ = on_sky @ particles.positions.T
    return x, y, view.v_max_kms * (particles.velocities @ on_sky[2])


def _kinms_cube(particles: Particles, view: View, margin: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return KinMS's cube (y, x, v) before the beam, margins included, and its channels, km/s."""
    with warnings.catch_warnings():  # importing kinms silences every later warning of the process
        from kinms import KinMS

    x, y, velocity = _project(particles, view)
    size = view.pixels + 2 * margin
    inner, outer = np.percentile(np.linalg.norm(particles.positions, axis=1), (_HELD, 98))
    scale = 2 * max(view.reach * outer, inner) / view.pixels
    middle = np.median(velocity)
    half = 1.1 * np.percentile(np.abs(velocity - middle), 99.5)
    channel = max(view.channel_kms, half / (_CHANNELS / 2 - 3))
    channels = 2 * (math.ceil(half / channel) + 3)
    at = np.stack([x / scale + view.off[0] * view.pixels, y / scale + view.off[1] * view.pixels, 0 * x], axis=1) - [0.5, 0.5, 0]
    model = KinMS(size, size, channels * channel, 1.0, channel, [1.0, 1.0, 0.0], nSamps=1, cleanOut=True)
    weights = None if np.ptp(particles.masses) == 0 else particles.masses
    with np.errstate(invalid="ignore", divide="ignore"):
        cube = model.model_cube(0, 0, inClouds=at, vLOS_clouds=velocity - middle, flux_clouds=weights, intFlux=1.0)
    cube = np.nan_to_num(cube).astype(np.float32).transpose(1, 0, 2)
    return np.ascontiguousarray(cube), ((np.arange(channels) - channels / 2) * channel).astype(np.float32)


def _moments(cube: NDArray, channels: NDArray) -> tuple[NDArray, NDArray]:
    flux = cube.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return flux, cube @ channels / flux


def _observed_cube(cube: NDArray, clean: NDArray, channels: NDArray, matrix: NDArray, view: View, rng: np.random.Generator) -> NDArray:
    """Moment 1 of the cube with noise, masked where it is faint after smoothing (Dame 2011); NaN where none."""
    peaks = clean.max(axis=(0, 1))
    rms = peaks[peaks > 0.01 * peaks.max()].mean() / view.peak_snr
    if view.correlated:
        noise = _blur(matrix, rng.standard_normal(cube.shape, dtype=np.float32)) / (matrix**2).sum(axis=1).max()
    else:
        noise = rng.standard_normal(clean.shape, dtype=np.float32)
    noisy = clean + rms * noise
    smooth = _blur(beam_matrix(view.pixels, 0, view.beam * view.pixels), noisy)
    smooth[..., 1:-1] = _SMOOTHED[0] * (smooth[..., :-2] + smooth[..., 2:]) + _SMOOTHED[1] * smooth[..., 1:-1]
    below = smooth[smooth < 0]  # the line is positive
    level = math.sqrt(float(np.mean(below**2))) if len(below) else 0.0
    flux, velocity = _moments(np.where(smooth > view.mask_snr * level, noisy, 0), channels)
    return np.where((flux > 0) & (np.abs(velocity) <= channels.max()), velocity, np.nan)


def _binned_map(flux: NDArray, velocity: NDArray, valid: NDArray, view: View, rng: np.random.Generator) -> NDArray:
    """Velocities with errors that grow as the light falls, in bins or pixel by pixel; some errors are far larger than they should be."""
    n = int(valid.sum())
    if n == 0:
        return np.full_like(velocity, np.nan)
    light, values = flux[valid], velocity[valid]
    places = np.argwhere(valid)
    member = np.arange(n)
    if 0 < view.bins < n:
        seeds = rng.choice(n, view.bins, replace=False, p=light / light.sum())
        member = cKDTree(places[seeds]).query(places)[1]
    total = np.bincount(member, weights=light)
    mean = np.bincount(member, weights=light * values) / np.maximum(total, 1e-30)
    filled = total > 0
    err = view.velocity_err_kms * np.sqrt(np.median(total[filled]) / np.maximum(total, 1e-30)).clip(0.3, 4.0)
    wild = rng.random(len(mean)) < rng.choice([0.0, 0.03])
    mean += err * np.where(wild, 10, 1) * rng.standard_normal(len(mean))
    out = np.full_like(velocity, np.nan)
    out[valid] = mean[member]
    return out


def _looked_at(view: View, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Pixels inside the field of view that are not lost: single ones, and up to two round holes."""
    n = view.pixels
    y, x = (np.mgrid[:n, :n] - (n - 1) / 2) / (n / 2)
    turn = np.radians(view.footprint_turn_deg)
    x, y = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    away = {
        "none": np.zeros_like(x),
        "circle": np.hypot(x, y),
        "square": np.maximum(np.abs(x), np.abs(y)),
        "hexagon": np.maximum(np.abs(y) / (math.sqrt(3) / 2), np.abs(x) + np.abs(y) / math.sqrt(3)),
    }[view.footprint]
    seen = away <= view.footprint_size
    if view.gaps > 0:
        seen &= rng.random((n, n)) >= rng.choice([0, view.gaps])
        for _ in range(2):
            at = rng.uniform(-0.8, 0.8, 2)
            seen &= np.hypot(x - at[0], y - at[1]) >= max(0.0, rng.uniform(-0.25, 0.25))
    return seen


def observe(particles: Particles, view: View, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the velocity field (64, 64), km/s less its median, NaN where none (`maps.fields.make_field`), of a galaxy seen so.

    An image that no particle falls on has none.
    """
    beam = view.beam * view.pixels
    margin = math.ceil(_MARGIN * beam)
    cube, channels = _kinms_cube(particles, view, margin)
    if not cube.any():
        return empty_field()
    matrix = beam_matrix(view.pixels, margin, beam)
    seen = _looked_at(view, rng)
    if math.isfinite(view.peak_snr) and not view.binned:
        velocity = _observed_cube(cube, _blur(matrix, cube), channels, matrix, view, rng)
        return make_field(velocity, seen & np.isfinite(velocity))
    flux, momentum = np.moveaxis(_blur(matrix, np.stack([cube.sum(axis=2), cube @ channels], axis=2)), 2, 0)
    valid = seen & (flux > view.faintest * flux.max())
    velocity = np.divide(momentum, flux, out=np.zeros_like(flux), where=flux > 0)
    if view.binned:
        velocity = _binned_map(flux, velocity, valid, view, rng)
    return make_field(velocity, valid)
