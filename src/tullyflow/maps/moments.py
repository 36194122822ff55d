"""Moments of a spectral-line cube, with the mask and the errors they need (Dawson+2021 eqs 1-2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray

from tullyflow.flags import PIXEL
from tullyflow.maps.cube_file import CubeFile
from tullyflow.maps.cube_mask import MaskLimits, find_line
from tullyflow.maps.cube_noise import Noise, instrument_variance
from tullyflow.maps.spectral_axis import beam_fwhm_arcsec, read_spectral_axis, sky_axes
from tullyflow.settings import Maps
from tullyflow.surveys.fits_images import beam_of

__all__ = ["CubeMoments", "Moments", "moments", "moments_from_cube"]

_SMOOTH_PIXELS = 3.0  # FWHM of the mask's smoothing where the beam is not known
_ORDERS = ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2))


@dataclass(frozen=True)
class Moments:
    """Moments (y, x) of a masked cube; NaN where fewer channels than asked are unmasked or the sum is not positive."""

    intensity: NDArray[np.float64]
    intensity_err: NDArray[np.float64]
    velocity: NDArray[np.float64]
    velocity_err: NDArray[np.float64]
    dispersion_sq: NDArray[np.float64]
    dispersion_sq_err: NDArray[np.float64]


@dataclass(frozen=True)
class CubeMoments(Moments):
    """Moments of one file: ``intensity`` in ``intensity_unit``, velocities in km/s (optical, heliocentric where the frame is known).

    ``dispersion_sq`` has the channels' width and smoothing taken out (``channel_dispersion_kms``, squared), so it may be
    negative. ``beam`` is (FWHM, FWHM, position angle) where the header says all three, ``mask`` of ``flags.PIXEL``. ``messages``
    say what a reader should know, ``history`` what was done.
    """

    mask: NDArray[np.int32]
    wcs: WCS
    pixel_scale_arcsec: float
    beam_fwhm_arcsec: float
    intensity_unit: str
    noise: Noise
    channel_kms: float
    channel_dispersion_kms: float
    beam: tuple[float, float, float] | None = None
    messages: tuple[str, ...] = ()
    history: tuple[tuple[str, str], ...] = ()

    @property
    def rms(self) -> float:
        return self.noise.rms


def moments_from_cube(path: str | Path, settings: Maps, hdu: int = 0) -> CubeMoments:
    """Read a cube and take its moments, a channel at a time: three readings, none of the whole cube.

    Axes of length one (Stokes) are dropped. The noise is that of the line-free voxels; it differs by channel and over the field
    where these show it, and the correlation of neighbouring channels (Hanning smoothing) enters every error.
    Raises `DataError`: UNREADABLE_FILE (truncated, or no three axes), NO_WCS (no velocities, no sky).
    """
    path = Path(path)
    with CubeFile(path, hdu, settings.blank) as cube:
        header = cube.header
        wcs, pixel_scale = sky_axes(header, path.name)
        middle = tuple(float(a) for a in wcs.wcs_pix2world([[(n - 1) / 2 for n in cube.shape[:0:-1]]], 0)[0])
        axis = read_spectral_axis(header, cube.axis, path.name, middle)
        beam = beam_fwhm_arcsec(header, cube.beams())
        limits = MaskLimits(
            settings.cube_snr_high, settings.cube_snr_low, settings.cube_min_channels, settings.cube_min_beams, settings.cube_grow_beams,
        )  # fmt: skip
        signal, noise, covered = find_line(cube, beam / pixel_scale if np.isfinite(beam) else _SMOOTH_PIXELS, limits)
        result = moments(
            cube, axis.velocity_kms, signal, noise.channel_rms, gain=noise.gain, correlation=noise.correlation,
            baseline=noise.baseline, channels_min=settings.cube_min_channels,
        )  # fmt: skip
    width = float(np.median(np.abs(np.diff(axis.velocity_kms))))
    channel_variance = width**2 * instrument_variance(noise)
    mask = np.where(covered, 0, PIXEL.NO_COVERAGE) | np.where(np.isfinite(result.velocity), 0, PIXEL.NO_VALUE)
    unit = str(header.get("BUNIT", "")).strip()
    messages = (*axis.messages, *_noise_messages(path.name, noise))
    history = (
        ("CUBE", path.name), ("VELFRAME", axis.frame or "not said"), ("VELCONV", axis.convention),
        ("NOISE", noise.sentence()), ("LINE", f"{signal.regions} regions, {signal.found - signal.regions} too small"),
    )  # fmt: skip
    return CubeMoments(
        **{**vars(result), "dispersion_sq": result.dispersion_sq - channel_variance},
        mask=mask.astype(np.int32), wcs=wcs, pixel_scale_arcsec=pixel_scale, beam_fwhm_arcsec=beam,
        intensity_unit=f"{unit} km/s".strip(), noise=noise, channel_kms=width,
        channel_dispersion_kms=float(np.sqrt(channel_variance)), beam=beam_of(header), messages=messages, history=history,
    )  # fmt: skip


def _noise_messages(name: str, noise: Noise) -> list[str]:
    said = []
    if noise.by_channel:
        said.append(f"{name}: the noise differs between channels ({noise.channel_rms.min():.3g} to {noise.channel_rms.max():.3g}).")
    if noise.gain is not None:
        said.append(f"{name}: the noise differs over the field ({noise.gain.min():.2f} to {noise.gain.max():.2f} of the typical one).")
    if noise.baseline:
        offset = np.sqrt(noise.baseline)
        said.append(f"{name}: residual continuum: offsets of the spectra of {offset:.2f} of the noise; they are in the errors.")
    return said


def moments(
    cube: Sequence[NDArray], velocity_kms: NDArray, signal: Sequence[NDArray], rms: ArrayLike, *, gain: NDArray | None = None,
    correlation: ArrayLike = (), baseline: float = 0.0, channels_min: int = 2,
) -> Moments:  # fmt: skip
    """Moments of the unmasked voxels and their errors.

    Parameters
    ----------
    cube : (channel, y, x)
        Intensity; read by channels, in order; NaN never enters.
    velocity_kms : (channel,)
        Velocity of each channel, km/s; steps need not be equal.
    signal : (channel, y, x), bool
        Voxels that count.
    rms : float or (channel,)
        Noise of one voxel, times ``gain`` (y, x) if given.
    correlation : (lag,)
        Correlation of the noise of channels 1, 2, ... apart beyond ``baseline``, which is that of any two channels of a spectrum.
    channels_min
        Fewer unmasked channels give NaN.

    Notes
    -----
    With S = sum I dv: mom0 = S (Dawson+2021 eq. 1), mom1 = sum v I dv / S (eq. 2), mom2 = sum (v - mom1)^2 I dv / S, the
    square of the dispersion. Linear propagation: each is a sum over channels of noise times w = dv times 1, (v - mom1) / S,
    ((v - mom1)^2 - mom2) / S, so its variance is sum over pairs of channels of w w' rms rms' correlation(c, c'). A line
    narrower than the channels has its mean known to dv / sqrt(12) only; of that, exp(-2 pi^2 sigma^2 / dv^2) is added, which
    is nothing for a resolved line.
    """
    channels, height, width = cube.shape
    step = np.abs(np.gradient(velocity_kms))
    middle, scale = float(np.average(velocity_kms)), float(np.ptp(velocity_kms)) / 2
    u = (velocity_kms - middle) / scale  # within 1: the sums of powers stay exact
    noise = np.broadcast_to(np.asarray(rms, dtype=float), channels) * step
    correlation = np.concatenate([[1.0 - baseline], np.asarray(correlation, dtype=float)])
    number = np.zeros(height * width, dtype=np.int32)
    power = np.zeros((3, height * width))
    variance = np.zeros((len(_ORDERS), height * width))
    offset = np.zeros((3, height * width))  # of the sums, by one unit of an offset of the spectrum
    recent: list[NDArray] = []  # the unmasked pixels of this channel and the ones before
    for k, mask in zip(range(channels), signal, strict=True):
        if not mask.any():
            recent = [np.zeros(0, dtype=bool), *recent][: len(correlation)]
            continue
        image = np.asarray(cube[k], dtype=float).ravel()
        here = np.asarray(mask).ravel() & np.isfinite(image)
        at = np.flatnonzero(here)
        flux = image[at] * step[k]
        number[at] += 1
        for p in range(3):
            power[p, at] += flux * u[k] ** p
            offset[p, at] += noise[k] * u[k] ** p
        recent = [here, *recent][: len(correlation)]
        for lag, before in enumerate(recent):
            both = at if lag == 0 else at[before[at]] if before.size else at[:0]
            factor = noise[k] * noise[k - lag] * correlation[lag] * (1 if lag == 0 else 2)
            for n, (p, q) in enumerate(_ORDERS):
                variance[n, both] += factor * (u[k] ** p * u[k - lag] ** q + u[k] ** q * u[k - lag] ** p) / 2
    variance += baseline * np.stack([offset[p] * offset[q] for p, q in _ORDERS])
    if gain is not None:
        variance *= np.square(gain, dtype=float).ravel()
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.where((number >= channels_min) & (power[0] > 0), power[0], np.nan)
        mean = power[1] / total
        square = power[2] / total - mean**2
        of_one, of_mean, of_square = _propagated(variance, mean, square)
        unresolved = np.exp(-2 * np.pi**2 * np.maximum(square * (scale / np.median(step)) ** 2 - 1 / 12, 0.0))
        velocity_err = scale * np.sqrt(of_mean) / total
        velocity_err = np.hypot(velocity_err, np.median(step) / np.sqrt(12) * unresolved)
        inside = np.abs(mean) <= 1
    images = (
        total, np.sqrt(of_one), middle + scale * mean, velocity_err, scale**2 * square, scale**2 * np.sqrt(of_square) / total,
    )  # fmt: skip
    return Moments(*(np.where(inside, image, np.nan).reshape(height, width) for image in images))


def _propagated(variance: NDArray, mean: NDArray, square: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Variances of the sums with weights 1, (u - mean) and (u - mean)^2 - square, from those of the powers of u."""
    v00, v01, v11, v02, v12, v22 = variance
    of_mean = v11 - 2 * mean * v01 + mean**2 * v00
    a, b = -2 * mean, mean**2 - square  # u^2 + a u + b
    of_square = v22 + a**2 * v11 + b**2 * v00 + 2 * (a * v12 + b * v02 + a * b * v01)
    return v00, np.maximum(of_mean, 0.0), np.maximum(of_square, 0.0)
