"""Moments of a spectral-line cube, with the mask and the errors they need (Dawson+2021 eqs 1-2)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import ndimage

from tullyflow.conventions import FWHM_PER_SIGMA
from tullyflow.errors import DataError
from tullyflow.flags import GALAXY, PIXEL
from tullyflow.maps.spectral_axis import beam_fwhm_arcsec, channel_velocities, sky_axes, spectral_axis_number
from tullyflow.settings import Maps

__all__ = ["CubeMoments", "Moments", "moments", "moments_from_cube", "signal_mask"]

_VOXELS_FOR_NOISE = 4_000_000
_LINE_FREE_MIN = 4
_SMOOTH_PIXELS = 3.0  # FWHM of the mask's smoothing where the beam is not known


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
    """Moments of one file: ``intensity`` in ``intensity_unit``, velocities in km/s (optical), ``mask`` of ``flags.PIXEL``."""

    mask: NDArray[np.int32]
    wcs: WCS
    pixel_scale_arcsec: float
    beam_fwhm_arcsec: float
    intensity_unit: str
    rms: float


def moments_from_cube(path: str | Path, settings: Maps, hdu: int = 0) -> CubeMoments:
    """Read a cube and take its moments.

    Axes of length one (Stokes) are dropped. The noise is that of the line-free channels; the velocity's error gets the
    channel width / sqrt(12) in quadrature, because no calibration of the axis is better than that.
    Raises `DataError`: UNREADABLE_FILE (truncated, or no three axes), NO_WCS (no velocities, no sky).
    """
    path = Path(path)
    try:
        with fits.open(path, memmap=False) as hdus:
            header, data = hdus[hdu].header, hdus[hdu].data
    except (OSError, ValueError, TypeError, KeyError, IndexError) as err:
        raise DataError(GALAXY.UNREADABLE_FILE, f"{path.name}: not a readable cube: {' '.join(str(err).split())[:160]}.") from err
    if data is None or data.ndim < 3:
        found = 0 if data is None else data.ndim
        raise DataError(GALAXY.UNREADABLE_FILE, f"{path.name}: HDU {hdu} is not a cube: it has {found} axes, needed 3.")
    axis = spectral_axis_number(header, path.name)
    data = np.moveaxis(data, data.ndim - axis, 0)
    while data.ndim > 3 and 1 in data.shape[1:-2]:
        data = np.squeeze(data, axis=1 + data.shape[1:-2].index(1))
    if data.ndim != 3:
        raise DataError(GALAXY.UNREADABLE_FILE, f"{path.name}: axes {data.shape}; a cube has one spectral and two sky axes longer than 1.")
    cube = np.asarray(data, dtype=np.float32)  # (channel, y, x)
    velocity = channel_velocities(header, axis, path.name)
    wcs, pixel_scale = sky_axes(header, path.name)
    beam = beam_fwhm_arcsec(header)

    covered = np.isfinite(cube).any(axis=0)
    signal, rms = signal_mask(
        cube, beam / pixel_scale if np.isfinite(beam) else _SMOOTH_PIXELS,
        high=settings.cube_snr_high, low=settings.cube_snr_low, channels_min=settings.cube_min_channels,
    )  # fmt: skip
    result = moments(cube, velocity, signal, rms, channels_min=settings.cube_min_channels)
    width = float(np.median(np.abs(np.diff(velocity))))
    mask = np.where(covered, 0, PIXEL.NO_COVERAGE) | np.where(np.isfinite(result.velocity), 0, PIXEL.NO_VALUE)
    unit = str(header.get("BUNIT", "")).strip()
    return CubeMoments(
        **{**vars(result), "velocity_err": np.hypot(result.velocity_err, width / np.sqrt(12))},
        mask=mask.astype(np.int32), wcs=wcs, pixel_scale_arcsec=pixel_scale, beam_fwhm_arcsec=beam,
        intensity_unit=f"{unit} km/s".strip(), rms=rms,
    )  # fmt: skip


def moments(cube: NDArray, velocity_kms: NDArray, signal: NDArray, rms: float, *, channels_min: int = 2) -> Moments:
    """Moments of the unmasked voxels and their errors.

    Parameters
    ----------
    cube : (channel, y, x)
        Intensity; NaN never enters.
    velocity_kms : (channel,)
        Velocity of each channel, km/s; steps need not be equal.
    signal : (channel, y, x), bool
        Voxels that count.
    rms
        Noise of one voxel, independent between channels.
    channels_min
        Fewer unmasked channels give NaN.

    Notes
    -----
    With S = sum I dv: mom0 = S (Dawson+2021 eq. 1), mom1 = sum v I dv / S (eq. 2), mom2 = sum (v - mom1)^2 I dv / S, the
    square of the dispersion. Linear propagation: rms^2 sum of dv^2 times 1, ((v - mom1)/S)^2, (((v - mom1)^2 - mom2)/S)^2.
    """
    channel = np.abs(np.gradient(velocity_kms))[:, None, None]
    signal = signal & np.isfinite(cube)
    flux = np.where(signal, cube, 0.0) * channel
    total = flux.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        good = (signal.sum(axis=0) >= channels_min) & (total > 0)
        total = np.where(good, total, np.nan)
        middle = np.average(velocity_kms)
        velocity = middle + np.tensordot(velocity_kms - middle, flux, axes=1) / total
        away = velocity_kms[:, None, None] - velocity
        square = (away**2 * flux).sum(axis=0) / total
        noise = np.where(signal, rms * channel, 0.0) ** 2
        intensity_err = np.sqrt(noise.sum(axis=0))
        velocity_err = np.sqrt((noise * away**2).sum(axis=0)) / total
        square_err = np.sqrt((noise * (away**2 - square) ** 2).sum(axis=0)) / total
        inside = (velocity >= velocity_kms.min()) & (velocity <= velocity_kms.max())
    images = (total, intensity_err, velocity, velocity_err, square, square_err)
    return Moments(*(np.where(good & inside, image, np.nan) for image in images))


def signal_mask(cube: NDArray, beam_pixels: float, *, high: float, low: float, channels_min: int) -> tuple[NDArray[np.bool_], float]:
    """Find the line: connected voxels above ``low`` that hold one above ``high``, in rms of the smoothed cube.

    The cube (channel, y, x) is smoothed with its own beam on the sky and over three channels. Regions that span fewer
    channels than ``channels_min`` are dropped; what is left grows by one channel on each side, so that the wings stay.
    Returns the mask and the rms of the *unsmoothed* cube in channels without line (everywhere outside the mask where there
    are fewer than 4). NaN counts as no signal.
    """
    filled = np.nan_to_num(cube, nan=0.0, posinf=0.0, neginf=0.0)
    width = beam_pixels / FWHM_PER_SIGMA
    smooth = ndimage.gaussian_filter(filled, (0, width, width), mode="constant")  # a reflected edge would double its noise
    smooth = ndimage.convolve1d(smooth, np.array([0.25, 0.5, 0.25]), axis=0, mode="constant")
    finite = np.isfinite(cube)
    rms_smooth = _robust_rms(smooth[finite])
    if not rms_smooth > 0:
        return np.zeros(cube.shape, dtype=bool), float("nan")
    regions, n = ndimage.label(smooth > low * rms_smooth)
    peaks = ndimage.maximum(smooth, regions, np.arange(n + 1)) if n else np.zeros(1)
    spans = np.array([0] + [box[0].stop - box[0].start for box in ndimage.find_objects(regions)])
    keep = (np.asarray(peaks) > high * rms_smooth) & (spans >= channels_min)
    keep[0] = False
    signal = ndimage.binary_dilation(keep[regions], structure=np.ones((3, 1, 1))) & finite
    quiet = ~signal.any(axis=(1, 2))
    sky = cube[quiet] if quiet.sum() >= _LINE_FREE_MIN else cube[~signal]
    return signal, _robust_rms(sky[np.isfinite(sky)])


def _robust_rms(values: NDArray) -> float:
    """Standard deviation from the median absolute deviation about zero, voxels above 4 of it left out until none is new."""
    values = np.abs(values[:: max(1, values.size // _VOXELS_FOR_NOISE)])
    rms = 1.4826 * float(np.median(values)) if values.size else float("nan")
    for _ in range(5):
        kept = values[values < 4 * rms]
        again = 1.4826 * float(np.median(kept)) if kept.size else rms
        if abs(again - rms) < 1e-3 * rms:
            break
        rms = again
    return rms
