"""One mock galaxy seen: a KinMS cube (Davis et al. 2013, independent of our disc model), its moments, and noise.

Arrays are (y, x) with East at -x. The disc has I ~ exp(-R/r_scale) exp(-|z|/z_0), z_0 = 0.1 r_scale, and the
rotation V(R) = (2/pi) V_max arctan(R/r_turn) (Dawson+2021 eqs 3-4); nothing else moves. Noise is white.
"""

import warnings
from dataclasses import dataclass

import numpy as np

from tullyflow.conventions import FWHM_PER_SIGMA

__all__ = ["THICKNESS", "Disc", "Moments", "OpticalMaps", "channels_needed", "field_of_view", "moments", "observe_optical", "simulate_cube"]

THICKNESS = 0.1  # exponential scale height of the gas, in scale lengths
_FITTED_SNR = 1.5  # below this a survey's line fit gives no value
_SIGMA_ERR_FACTOR = 1.2  # error of the dispersion over that of the velocity, as in real MaNGA maps


@dataclass(frozen=True)
class Disc:
    """What KinMS is told. ``pa_image_deg`` is counter-clockwise from +y to the receding side; ``centre`` is (x, y), 0-based."""

    inclination_deg: float
    pa_image_deg: float
    v_max_kms: float
    r_scale_arcsec: float
    r_turn_arcsec: float
    dispersion_kms: float
    centre: tuple[float, float]


@dataclass(frozen=True)
class Moments:
    """Noise-free maps (y, x): cloudlets per pixel, mean velocity and dispersion (km/s); NaN where no cloudlet fell.

    ``velocity_err`` is the counting noise of the cloudlets in the velocity, km/s.
    """

    flux: np.ndarray
    velocity: np.ndarray
    dispersion: np.ndarray
    velocity_err: np.ndarray


@dataclass(frozen=True)
class OpticalMaps:
    """One galaxy as an integral-field survey measures it, (y, x); errors are 1 sigma of the noise really added.

    ``true_velocity`` is the smoothed noise-free velocity, ``dispersion`` still holds the instrument, ``field`` is the
    field of view, ``fitted`` where a value exists, ``star`` and ``column`` where it must not be used.
    """

    flux: np.ndarray
    flux_err: np.ndarray
    velocity: np.ndarray
    velocity_err: np.ndarray
    dispersion: np.ndarray
    dispersion_err: np.ndarray
    true_velocity: np.ndarray
    field: np.ndarray
    fitted: np.ndarray
    star: np.ndarray
    column: np.ndarray


def simulate_cube(
    disc: Disc, *, pixels: int, pixel_scale_arcsec: float, beam_fwhm_arcsec: float, channel_kms: float, channels: int,
    samples: int, seed: int, margin: int = 6,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return KinMS's cube (v, y, x) in cloudlets per voxel and its channel velocities (km/s, about the systemic one).

    ``pixels`` and ``channels`` must be even; ``margin`` pixels are simulated beyond every edge so that the beam finds
    light there. KinMS puts its phase centre on pixel ``size / 2``, velocity 0 on channel ``channels / 2``, and measures
    its position angle counter-clockwise from +y to the receding side.
    """
    with warnings.catch_warnings():  # importing kinms silences every later warning of the process
        from kinms import KinMS

    if pixels % 2 or channels % 2:
        raise ValueError(f"pixels {pixels} and channels {channels} must be even")
    size = pixels + 2 * margin
    extent = size * pixel_scale_arcsec
    radius = np.linspace(0.0, 12 * disc.r_scale_arcsec, 2400)
    beam = [beam_fwhm_arcsec, beam_fwhm_arcsec, 0]
    model = KinMS(extent, extent, channels * channel_kms, pixel_scale_arcsec, channel_kms, beam, nSamps=samples, seed=seed)
    cube, clouds, _ = model.model_cube(
        disc.inclination_deg,
        disc.pa_image_deg,
        gasSigma=disc.dispersion_kms,
        diskThick=THICKNESS * disc.r_scale_arcsec,
        sbProf=np.exp(-radius / disc.r_scale_arcsec),
        sbRad=radius,
        velRad=radius,
        velProf=2 / np.pi * disc.v_max_kms * np.arctan(radius / disc.r_turn_arcsec),
        phaseCent=[(c - pixels / 2) * pixel_scale_arcsec for c in disc.centre],
        returnClouds=True,
    )  # (x, y, v), normalised to 1: the number of cloudlets inside is put back
    cube *= np.all(np.abs(clouds[:, :2]) < extent / 2, axis=1).sum() / cube.sum()
    inner = slice(margin, size - margin)
    return cube.transpose(2, 1, 0)[:, inner, inner], (np.arange(channels) - channels / 2) * channel_kms


def channels_needed(disc: Disc, channel_kms: float) -> int:
    """Return the even number of channels that holds the whole line: V_max sin i and five dispersions either side."""
    half = disc.v_max_kms * np.sin(np.radians(disc.inclination_deg)) + 5 * disc.dispersion_kms + channel_kms
    return 2 * int(np.ceil(half / channel_kms))


def moments(cube: np.ndarray, velocity_kms: np.ndarray, beam_fwhm_pixels: float) -> Moments:
    """Return the moments of a noise-free cube (v, y, x) (Dawson+2021 eqs 1-2), the channel width taken out of the dispersion.

    A beam of 1 sigma s pixels averages 4 pi s^2 n cloudlets where n fall on a pixel: the counting noise of the mean velocity.
    """
    flux = cube.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        velocity = np.tensordot(velocity_kms, cube, 1) / flux
        variance = np.tensordot(velocity_kms**2, cube, 1) / flux - velocity**2
        step = velocity_kms[1] - velocity_kms[0]
        dispersion = np.sqrt(np.maximum(variance - step**2 / 12, 0.0))
        counted = flux * 4 * np.pi * (beam_fwhm_pixels / FWHM_PER_SIGMA) ** 2
        return Moments(flux, velocity, dispersion, np.sqrt(variance / counted))


def field_of_view(kind: str, pixels: int, radius_pixels: float) -> np.ndarray:
    """Return True inside a ``hexagon`` (MaNGA; vertices East and West) or a ``circle`` (SAMI) about the grid's centre.

    The centre is pixel ``pixels / 2`` of a MaNGA grid and ``(pixels - 1) / 2`` of a SAMI grid, as in their WCS.
    """
    centre = pixels / 2 if kind == "hexagon" else (pixels - 1) / 2
    y, x = np.abs(np.mgrid[:pixels, :pixels] - centre)
    if kind == "hexagon":
        return np.maximum(y, x * np.sqrt(3) / 2 + y / 2) <= radius_pixels * np.sqrt(3) / 2
    return np.hypot(x, y) <= radius_pixels


def observe_optical(
    truth: Moments, field: np.ndarray, rng: np.random.Generator, *, v_sys_kms: float, instrument_kms: float,
    snr_edge: float, bright_pixels: int = 0, star_radius: float = 0.0, bad_column: bool = False,
) -> OpticalMaps:  # fmt: skip
    """Add noise to a galaxy's moments.

    ``snr_edge`` is the S/N where the disc leaves the field of view along its major axis, or, with ``bright_pixels``,
    that of the so-manieth brightest pixel. A line of dispersion s and signal-to-noise S/N has a velocity error of
    s / (S/N), as real maps show; the cloudlets' counting noise is added to it in quadrature. ``star_radius`` (pixels)
    makes a gap, ``bad_column`` a column of wrong velocities.
    """
    y, x = np.nonzero(field)
    radius = np.hypot(x - x.mean(), y - y.mean())
    inside = truth.flux[field]
    edge = np.sort(inside)[-bright_pixels] if bright_pixels else inside[radius > 0.85 * radius.max()].max()
    unit = np.exp(rng.normal(np.log(20.0), 0.4)) / inside.max()
    flux_err = unit * edge / snr_edge * np.sqrt((1 + truth.flux / edge) / 2)  # at the edge half sky, half photons
    snr = unit * truth.flux / flux_err
    fitted = field & (snr > _FITTED_SNR)
    snr = np.where(fitted, snr, 1.0)
    flux = unit * truth.flux + flux_err * rng.standard_normal(flux_err.shape)
    width = np.hypot(np.nan_to_num(truth.dispersion), instrument_kms)
    photon_err = width / snr
    true_velocity = np.nan_to_num(truth.velocity) + v_sys_kms
    velocity = true_velocity + photon_err * rng.standard_normal(width.shape)  # the cloudlets' own noise is in it already
    dispersion_err = _SIGMA_ERR_FACTOR * photon_err
    dispersion = np.abs(width + dispersion_err * rng.standard_normal(width.shape))

    yy, xx = np.mgrid[: field.shape[0], : field.shape[1]]
    distance = np.hypot(xx - x.mean(), yy - y.mean()) / radius.max()
    on_disc = np.argwhere(fitted & (distance > 0.3) & (distance < 0.6))  # where a star spoils something
    star_y, star_x = rng.choice(on_disc if len(on_disc) else np.argwhere(field))
    star = field & (np.hypot(xx - star_x, yy - star_y) < star_radius)
    where = int(x.mean() + rng.choice([-1, 1]) * rng.integers(2, max(3, int(0.6 * radius.max()))))
    column = field & (xx == where) if bad_column else np.zeros_like(field)
    velocity = np.where(column, velocity + 150 * rng.standard_normal(velocity.shape), velocity)
    return OpticalMaps(
        flux, flux_err, velocity, np.hypot(photon_err, np.nan_to_num(truth.velocity_err)), dispersion, dispersion_err,
        true_velocity, field, fitted, star, column,
    )  # fmt: skip
