"""Particles that move in a galaxy's potential, and how much of their motion is circular.

Lengths are in scale lengths of the galaxy, velocities in units of its largest circular velocity. The potential is spherical: a disc's
own flattening is left out, so that every orbit, dispersion and asymmetric drift follows from one curve V_c(r).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import iv, kv

__all__ = [
    "Circularity", "Particles", "Potential", "circularity", "draw_disc_motion", "draw_potential", "draw_spheroid", "random_rotation",
    "turbulent_motion",
]  # fmt: skip

Array = NDArray[np.float64]
_RADII = np.geomspace(0.01, 60, 400)
_Y = np.minimum(_RADII / 2, 50)
_DISC = _Y**2 * (iv(0, _Y) * kv(0, _Y) - iv(1, _Y) * kv(1, _Y)) / 0.194  # V^2 of an exponential disc, 1 at its largest


@dataclass(frozen=True)
class Particles:
    """Positions and velocities (particle, 3) about the centre of the potential, and masses (particle,)."""

    positions: Array
    velocities: Array
    masses: Array

    def __len__(self) -> int:
        return len(self.masses)


@dataclass(frozen=True)
class Circularity:
    """``kappa`` as published, ``kappa_corotating`` of the particles that turn with the galaxy, and the axis (3,), a unit vector."""

    kappa: float
    kappa_corotating: float
    axis: Array


def circularity(particles: Particles) -> Circularity:
    """Return the share of the kinetic energy that is in rotation about the axis of the total angular momentum.

    kappa = sum m (j_z / R)^2 / sum m v^2 over all particles (Sales+2012; thesis eq. 2.1), j_z = R v_phi the specific angular momentum
    about the axis, R the distance from it. Positions are taken from the origin, the centre of the potential, and velocities from their
    mass-weighted mean, so that a galaxy that moves as a whole has the same kappa. Nothing that moves: 0. Particles without angular
    momentum in total are measured about z.

    kappa is blind to the sense of rotation: two discs that turn against each other have 1, and a spheroid that turns because
    its orbits were flipped has what it had before. Isotropic random motion has 1/3, one direction of three, not 0; less than
    that takes radial motion. ``kappa_corotating`` counts in its numerator only particles with j_z > 0 (Correa+2017): 1/2 for two equal
    discs against each other, 1/6 for isotropic random motion.
    """
    total = particles.masses.sum()
    velocities = particles.velocities - particles.masses @ particles.velocities / total
    energy = particles.masses @ (velocities**2).sum(axis=1)
    momentum = particles.masses @ np.cross(particles.positions, velocities)
    length = np.linalg.norm(momentum)
    axis = momentum / length if length > 0 else np.array([0.0, 0.0, 1.0])
    if not energy > 0:
        return Circularity(0.0, 0.0, axis)
    j_z = np.cross(particles.positions, velocities) @ axis
    r_squared = (particles.positions**2).sum(axis=1) - (particles.positions @ axis) ** 2
    rotating = particles.masses * np.divide(j_z**2, r_squared, out=np.zeros_like(j_z), where=r_squared > 0)
    return Circularity(float(rotating.sum() / energy), float(rotating[j_z > 0].sum() / energy), axis)


@dataclass(frozen=True)
class Potential:
    """A spherical potential by its circular velocity ``v_circular`` at ``radius``, both (radius,)."""

    radius: Array
    v_circular: Array

    def circular(self, radius: Array) -> Array:
        return np.interp(radius, self.radius, self.v_circular)

    def slope(self, radius: Array) -> Array:
        """d ln V_c / d ln r."""
        slope = np.gradient(np.log(self.v_circular), np.log(self.radius))
        return np.interp(radius, self.radius, slope)

    def acceleration(self, positions: Array) -> Array:
        """Of positions (particle, 3), in units of velocity squared over length."""
        r = np.sqrt(np.einsum("ij,ij->i", positions, positions))
        return -np.interp(r, self.radius, (self.v_circular / self.radius) ** 2)[:, None] * positions


def draw_potential(rng: np.random.Generator) -> Potential:
    """Draw a halo (logarithmic), an exponential disc (Freeman 1970) and a bulge (Plummer) in quadrature; the largest V_c is 1."""
    r = _RADII
    core, r_bulge = np.exp(rng.uniform(np.log([0.3, 0.05]), np.log([3.0, 0.4])))
    halo = r**2 / (r**2 + core**2)
    s = r / r_bulge
    bulge = s**2 / (1 + s**2) ** 1.5 / 0.385
    share = rng.uniform([0.3, 0.0, 0.0], [1.0, 1.0, 0.6])
    curve = np.sqrt(share @ np.array([halo, _DISC, bulge]))
    return Potential(r, curve / curve.max())


def draw_disc_motion(
    rng: np.random.Generator, potential: Potential, radius: Array, angle: Array, sigma: float, profile: float
) -> Particles:
    """Give particles at ``radius`` and ``angle`` of a disc about z their heights and velocities.

    The radial dispersion is ``sigma`` of V_c, falling as exp(-r / ``profile``) if that is finite; sigma_phi / sigma_R = K / 2 Omega
    (epicycles), sigma_z / sigma_R = 0.6 in a cold disc and 1 in a hot one; heights are those of sigma_z in the potential. The mean
    rotation is V_c less the asymmetric drift of an exponential disc: V_phi^2 = V_c^2 + sigma_R^2 (1 + d ln(nu sigma_R^2) / d ln R)
    - sigma_phi^2, and 0 where that is negative. Slower clouds then fall on orbits that a real disc would not keep: so is hot gas.
    """
    v_c, slope = potential.circular(radius), potential.slope(radius)
    ratio_phi = np.sqrt(np.clip((1 + slope) / 2, 0.1, 1.0))
    sigma_r = sigma * v_c * np.exp(-radius / profile)
    sigma_phi, sigma_z = ratio_phi * sigma_r, (0.6 + 0.4 * min(sigma, 1.0)) * sigma_r
    gradient = -radius - 2 * radius / profile + 2 * slope
    v_phi = np.sqrt(np.clip(v_c**2 + sigma_r**2 * (1 + gradient) - sigma_phi**2, 0, None))
    n = len(radius)
    noise = rng.standard_normal((4, n))
    height = np.clip(radius * sigma_z / v_c, 0.02, 1.0 * np.maximum(radius, 0.1)) * noise[0]
    v_r, v_phi = sigma_r * noise[1], v_phi + sigma_phi * noise[2]
    cos, sin = np.cos(angle), np.sin(angle)
    return Particles(
        np.stack([radius * cos, radius * sin, height], axis=1),
        np.stack([v_r * cos - v_phi * sin, v_r * sin + v_phi * cos, sigma_z * noise[3]], axis=1),
        np.full(n, 1 / n),
    )


def draw_spheroid(
    rng: np.random.Generator, potential: Potential, n: int, size: float, anisotropy: float, flattening: float, share_forward: float
) -> Particles:
    """Draw particles held up by their dispersion: density (1 + (r/size)^2)^-2, constant anisotropy, the spherical Jeans equation.

    ``anisotropy`` is 1 - sigma_t^2 / sigma_r^2; ``flattening`` shrinks z, and v_z by its root; ``share_forward`` of the particles have
    their v_phi made positive and the others negative (0.5: no net rotation), which changes no orbit's energy.
    """
    r = potential.radius
    density = (1 + (r / size) ** 2) ** -2.0
    integrand = density * r ** (2 * anisotropy) * potential.v_circular**2  # d ln r
    step = np.diff(np.log(r))
    inside = np.concatenate([np.cumsum((step * (integrand[1:] + integrand[:-1]) / 2)[::-1])[::-1], [0.0]])
    sigma_r = np.sqrt(inside / (density * r ** (2 * anisotropy)))
    mass = np.concatenate([[0.0], np.cumsum(step * (density * r**3)[1:])])
    drawn = np.interp(rng.random(n) * mass[r < 6 * size][-1], mass, r)
    position = rng.standard_normal((n, 3))
    position /= np.linalg.norm(position, axis=1, keepdims=True)
    velocity = rng.standard_normal((n, 3)) * np.sqrt(1 - anisotropy)
    along = (velocity * position).sum(axis=1, keepdims=True)
    velocity = velocity + along * (1 / np.sqrt(1 - anisotropy) - 1) * position
    velocity *= np.interp(drawn, r, sigma_r)[:, None]
    position *= drawn[:, None]
    position[:, 2] *= flattening
    velocity[:, 2] *= np.sqrt(flattening)
    turning = position[:, 0] * velocity[:, 1] - position[:, 1] * velocity[:, 0]
    wanted = np.where(rng.random(n) < share_forward, 1.0, -1.0)
    flip = turning * wanted < 0
    r_squared = (position[:, :2] ** 2).sum(axis=1).clip(min=1e-12)
    twice = 2 * (turning / r_squared)[:, None] * np.stack([-position[:, 1], position[:, 0]], axis=1)
    velocity[flip, :2] -= twice[flip]
    return Particles(position, velocity, np.full(n, 1 / n))


def turbulent_motion(rng: np.random.Generator, positions: Array, largest: float, smallest: float, slope: float, waves: int = 48) -> Array:
    """Return a random velocity field (particle, 3), 1 rms in each direction, at positions (particle, 3).

    It is a sum of waves of lengths between ``smallest`` and ``largest``, their power falling with wavenumber to the ``slope``.
    """
    number = 2 * np.pi / np.exp(rng.uniform(np.log(smallest), np.log(largest), waves))
    direction, amplitude = rng.standard_normal((2, waves, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    weight = number ** (-slope / 2)
    amplitude *= weight[:, None]
    phase = positions.astype(np.float32) @ (direction * number[:, None]).T.astype(np.float32)
    phase += rng.uniform(0, 2 * np.pi, waves).astype(np.float32)
    motion = (np.cos(phase, out=phase) @ amplitude.astype(np.float32)).astype(float)
    return motion / np.sqrt((amplitude**2).sum() / 2 / 3)


def random_rotation(rng: np.random.Generator) -> Array:
    """Draw a rotation matrix (3, 3), uniform over all rotations."""
    turned, triangle = np.linalg.qr(rng.standard_normal((3, 3)))
    turned *= np.sign(np.diag(triangle))
    turned[:, 0] *= np.sign(np.linalg.det(turned))
    return turned
