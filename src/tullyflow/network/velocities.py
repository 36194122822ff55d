"""Rotation velocities at defined radii, corrected for inclination, with the calibrated errors of all they are made of."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tullyflow.conventions import EXTRAPOLATION_FACTOR
from tullyflow.disc.profiles import rotation_velocity

__all__ = ["Velocity", "calibrated_samples", "extrapolations", "rotation_curve", "velocity_at"]

_SMALLEST_INCLINATION = 1.0  # deg: V sin i / sin i stays finite


@dataclass(frozen=True)
class Velocity:
    """Velocity, its 1 sigma (km/s) and the 1 sigma of its log10 (dex), each (galaxy,)."""

    value_kms: np.ndarray
    err_kms: np.ndarray
    log_err: np.ndarray

    def times(self, factor: np.ndarray, ln_err: np.ndarray) -> "Velocity":
        """Return it multiplied by ``factor`` (galaxy,), whose own 1 sigma in ln is ``ln_err`` (galaxy,)."""
        value = self.value_kms * factor
        return Velocity(value, np.hypot(self.err_kms * factor, value * ln_err), np.hypot(self.log_err, ln_err / np.log(10)))


def calibrated_samples(
    mean: np.ndarray, errors: np.ndarray, correlation: np.ndarray, samples: int, generator: np.random.Generator
) -> np.ndarray:
    """Draw samples (sample, galaxy, 4) of the calibrated errors (galaxy, 4) about means (galaxy, 4).

    Inclination is normal in degrees, lengths and velocity in ln, where ``errors`` are relative. ``correlation`` (galaxy,) is that of
    the errors of r_turn and V: a curve that turns over outside the data fixes their ratio better than either, and dropout knows too
    little of it. Inclination and V sin i come from separate encoders: independent. Beyond 90 deg it is the same disc from below.
    """
    deviates = generator.standard_normal((samples, *mean.shape))
    deviates[..., 3] = correlation * deviates[..., 2] + np.sqrt(1 - correlation**2) * deviates[..., 3]
    inclination = mean[:, :1] + errors[:, :1] * deviates[..., :1]
    inclination = np.where(inclination > 90, 180 - inclination, inclination).clip(_SMALLEST_INCLINATION, 90)
    return np.concatenate([inclination, mean[:, 1:] * np.exp(errors[:, 1:] * deviates[..., 1:])], axis=-1)


def _curve(radius: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """V(R) of parameters (..., 4): inclination (deg), r_scale, r_turn (unit of ``radius``), V_max sin i (km/s)."""
    import torch

    sin = np.sin(np.radians(parameters[..., 0].clip(_SMALLEST_INCLINATION, 90)))
    asymptote, r_turn = (torch.as_tensor(np.ascontiguousarray(p)) for p in (parameters[..., 3] / sin, parameters[..., 2]))
    radius = torch.as_tensor(np.broadcast_to(radius, parameters.shape[:-1]).copy())
    return rotation_velocity(radius, asymptote, r_turn).numpy()


def velocity_at(radius_arcsec: np.ndarray, mean: np.ndarray, samples: np.ndarray, drawn_radius: np.ndarray | None = None) -> Velocity:
    """Return V at a radius (galaxy,), inf for the asymptote, of mean parameters (galaxy, 4) and samples (sample, galaxy, 4).

    The value is the mean parameters' own; the errors are half the 16-84 % range of the samples. A radius that is itself uncertain,
    as one of so many scale lengths, is given per sample too, ``drawn_radius`` (sample, galaxy). A NaN radius or parameter gives NaN.
    """
    value, drawn = _curve(radius_arcsec, mean), _curve(radius_arcsec if drawn_radius is None else drawn_radius, samples)
    low, high = np.percentile(drawn, (15.865, 84.135), axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Velocity(value, (high - low) / 2, np.log10(high / low) / 2)


def extrapolations(radii: Mapping[str, np.ndarray], r_turn: np.ndarray, r_max: np.ndarray) -> dict[str, np.ndarray]:
    """Return columns ``{velocity}_extrapolated`` (galaxy,): whether its radius (`velocity_radii`) lies beyond the data's, ``r_max``.

    The asymptote is one where the data reach less than `EXTRAPOLATION_FACTOR` turnover radii. All lengths in one unit. Where r_max is
    NaN nothing is known of the data's extent, and nothing is called an extrapolation.
    """
    reach = {name: EXTRAPOLATION_FACTOR * r_turn if name == "v_max" else radius for name, radius in radii.items()}
    return {f"{name}_extrapolated": radius > r_max for name, radius in reach.items()}


def rotation_curve(radius_arcsec: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return the 16th, 50th and 84th percentile of V(R), (3, galaxy, radius), at radii (galaxy, radius)."""
    drawn = _curve(radius_arcsec, samples[:, :, None, :].repeat(radius_arcsec.shape[1], axis=2))
    return np.percentile(drawn, (16, 50, 84), axis=0)
