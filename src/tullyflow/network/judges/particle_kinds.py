"""Kinds of galaxies made of particles, from cold discs to gas that only falls in, so that circularity is covered from 0 to 1.

Velocity that a map shows as disorder must be that of few clouds, or be coherent over more than a beam: many particles with
independent motions in one beam show only their mean. So what is disordered here mostly is so in clouds, streams, waves or as a whole.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tullyflow.network.judges.particles import (
    Array,
    Circularity,
    Particles,
    Potential,
    circularity,
    draw_disc_motion,
    draw_potential,
    draw_spheroid,
    random_rotation,
    turbulent_motion,
)

__all__ = ["KINDS", "Galaxy", "draw_galaxy", "draw_kind"]

_FEWEST, _MANY, _MOST = 100, 3000, 20_000  # particles: EAGLE's of 2e6 Msun, in gas of 2e8 to 4e10
_MOST_HOT = 5000  # where they move on their own: gas as hot as it turns has no more clouds, and less mass
_STEPS, _STREAMS = 100, 120
_TRIES = 60


@dataclass(frozen=True)
class Galaxy:
    """Particles with the axis of their angular momentum along +z, their kind (a key of `KINDS`) and circularity."""

    particles: Particles
    kind: str
    circularity: Circularity


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _in_plane(radius: Array, angle: Array) -> tuple[Array, Array]:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), 0 * radius], axis=1), np.stack(
        [-np.sin(angle), np.cos(angle), 0 * radius], axis=1
    )


def _tilted(particles: Particles, tilt: Array, node: Array) -> Particles:
    """Turn each particle by ``tilt`` about the line in the plane at angle ``node``, radians."""
    axis = np.stack(np.broadcast_arrays(np.cos(node), np.sin(node), 0 * node), axis=-1)
    cos, sin = np.cos(tilt)[:, None], np.sin(tilt)[:, None]

    def turn(vector: Array) -> Array:  # Rodrigues
        along = (vector * axis).sum(axis=1, keepdims=True)
        return vector * cos + np.cross(axis, vector) * sin + axis * along * (1 - cos)

    return replace(particles, positions=turn(particles.positions), velocities=turn(particles.velocities))


def _joined(*parts: Particles) -> Particles:
    return Particles(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("positions", "velocities", "masses")))


def _disc_places(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Radii and angles of an exponential disc, 7 of 10 of which may be lopsided, have arms, a hole or patches, or be a ring."""
    lopsided, arms, hole, ring, patches = (rng.random(5) < (0.4, 0.4, 0.25, 0.2, 0.5)) & (rng.random() < 0.7)
    many = 4 * n
    radius, angle = np.minimum(rng.gamma(2.0, 1.0, many), 6), rng.uniform(0, 2 * np.pi, many)
    if ring:
        radius = np.abs(rng.uniform(1.0, 3.0) + rng.uniform(0.1, 0.5) * rng.standard_normal(many))
    weight = np.ones(many)
    if lopsided:
        weight *= 1 + rng.uniform(0.2, 1.0) * np.cos(angle - rng.uniform(0, 2 * np.pi))
    if arms:
        winding = rng.choice([-1, 1]) / np.tan(np.radians(rng.uniform(10, 35)))
        weight *= 1 + rng.uniform(0.3, 1.0) * np.cos(rng.integers(1, 4) * (angle - winding * np.log(radius.clip(min=0.05))))
    if hole:
        weight *= radius > rng.uniform(0.3, 1.5)
    if patches:
        at = _in_plane(radius, angle)[0]
        waves = turbulent_motion(rng, at, _log_uniform(rng, 0.5, 3.0), 0.3, 2.0, 24)[:, 0]
        weight *= np.exp(np.clip(rng.uniform(0.5, 2.5) * waves, -5, 3))
    chosen = np.argpartition(rng.exponential(size=many) / weight.clip(min=1e-9), n)[:n]  # by weight, none twice
    return radius[chosen], angle[chosen]


def _disc(rng: np.random.Generator, potential: Potential, n: int, sigma: float) -> Particles:
    radius, angle = _disc_places(rng, n)
    return draw_disc_motion(rng, potential, radius, angle, sigma, rng.choice([np.inf, rng.uniform(2, 8)]))


def _thin_disc(rng, potential, n):
    return _disc(rng, potential, n, rng.uniform(0.01, 0.15))


def _thick_disc(rng, potential, n):
    return _disc(rng, potential, n, rng.uniform(0.15, 1.2))


def _spheroid(rng, potential, n):
    anisotropy = rng.choice([0.0, rng.uniform(-1.0, 0.5), rng.uniform(0.3, 0.97)])
    forward = 0.5 if rng.random() < 0.75 else rng.uniform(0.5, 1.0)
    return draw_spheroid(rng, potential, n, rng.uniform(0.5, 2.0), anisotropy, rng.uniform(0.4, 1.0), forward)


def _counter_rotating(rng, potential, n):
    """A disc with a part that turns against it: mixed with it, or its inner part."""
    disc = _disc(rng, potential, n, rng.uniform(0.02, 0.5))
    against = rng.random(n) < rng.uniform(0.1, 0.5)
    if rng.random() < 0.6:
        against = np.linalg.norm(disc.positions[:, :2], axis=1) < rng.uniform(0.3, 2.0)
    disc.velocities[against, :2] *= -1
    return disc


def _warp(rng, potential, n):
    disc = _disc(rng, potential, n, _log_uniform(rng, 0.02, 0.5))
    radius = np.linalg.norm(disc.positions, axis=1)
    beyond = np.maximum(radius - rng.uniform(0.5, 2.5), 0)
    tilt = np.clip(rng.uniform(0.1, 0.8) * beyond, 0, rng.uniform(0.3, 2.5))
    return _tilted(disc, tilt, rng.uniform(0, 2 * np.pi) + rng.uniform(-1, 1) * beyond)


def _bar(rng, potential, n):
    """Bisymmetric streaming (Spekkens & Sellwood 2007) along a bar, and a disc about it."""
    disc = _disc(rng, potential, n, rng.uniform(0.02, 0.3))
    x, y = disc.positions[:, 0], disc.positions[:, 1]
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    length, strength = rng.uniform(0.5, 3.0), rng.uniform(0.1, 0.9)
    flow = strength * potential.circular(radius) * np.exp(-((radius / length) ** 4))
    v_r, v_t = -flow * np.sin(2 * angle), -rng.uniform(0.5, 1.2) * flow * np.cos(2 * angle)
    disc.velocities[:, 0] += v_r * np.cos(angle) - v_t * np.sin(angle)
    disc.velocities[:, 1] += v_r * np.sin(angle) + v_t * np.cos(angle)
    disc.positions[:, 1] *= np.where(radius < length, 1 - 0.6 * strength, 1)
    return disc


def _streams(rng, potential, n):
    """Gas spread along orbits, from one plane and circular to all planes and radial."""
    orbits = int(_log_uniform(rng, 3, _STREAMS))
    start = np.minimum(rng.gamma(2.5, 0.8, orbits), 6) + 0.2
    direction = _in_plane(start, rng.uniform(0, 2 * np.pi, orbits))
    spread = rng.uniform(0, 1) ** 2 * np.pi
    least, most = np.sort(rng.uniform(0, 1.15, 2)) * (1.0 if rng.random() < 0.7 else rng.uniform(0, 0.7))
    tangential = rng.uniform(least, most, orbits)[:, None] * potential.circular(start)[:, None]
    drawn = Particles(direction[0], tangential * direction[1], np.ones(orbits))
    drawn = _tilted(drawn, spread * rng.standard_normal(orbits), rng.uniform(0, 2 * np.pi, orbits))
    x, v = drawn.positions, drawn.velocities
    step = (0.05 * start / potential.circular(start))[:, None]
    path = np.empty((2, _STEPS, orbits, 3))
    pull = potential.acceleration(x)
    for k in range(_STEPS):  # leapfrog
        v = v + step / 2 * pull
        x = x + step * v
        pull = potential.acceleration(x)
        v = v + step / 2 * pull
        path[:, k] = x, v
    which = rng.choice(orbits, n, p=rng.dirichlet(np.full(orbits, 1.5)))
    length = rng.uniform(1, _STEPS, orbits)
    head = rng.uniform(0, _STEPS - length)
    at = (head[which] + length[which] * rng.random(n)).astype(int)
    width = rng.uniform(0.02, 0.15)
    positions = path[0, at, which] + width * rng.standard_normal((n, 3))
    return Particles(positions, path[1, at, which] + rng.uniform(0.02, 0.1) * rng.standard_normal((n, 3)), np.full(n, 1 / n))


def _flow(rng, potential, n):
    """Gas that rotates, and falls in or flows out along the plane or from all sides."""
    if rng.random() < 0.25:
        share = rng.uniform(0.5, 1)  # of the speed that is rotation
        gas = _disc(rng, potential, n, rng.uniform(0.02, 0.3))
    else:
        gas = draw_spheroid(rng, potential, n, rng.uniform(0.5, 2.0), 0.0, rng.uniform(0.4, 1.0), 0.5)
        radius, angle = np.hypot(*gas.positions[:, :2].T), np.arctan2(gas.positions[:, 1], gas.positions[:, 0])
        share = rng.uniform(0, 1)
        waves = turbulent_motion(rng, gas.positions, 3.0, 0.3, rng.uniform(0, 3))
        jitter = rng.uniform(0.1, 0.6) * (waves if rng.random() < 0.7 else rng.standard_normal((n, 3)))
        gas = replace(gas, velocities=potential.circular(radius)[:, None] * _in_plane(radius, angle)[1] + jitter)
    r = np.linalg.norm(gas.positions, axis=1)
    speed = potential.circular(r) * (r.clip(0.1, 6) / 2) ** rng.uniform(-0.5, 1.0)
    radial = rng.choice([-1, 1]) * np.sqrt(1 - share**2) * (speed / r.clip(min=1e-6))[:, None] * gas.positions
    one_side = 1.0
    if rng.random() < 0.15:  # from one side
        towards = gas.positions @ random_rotation(rng)[0]
        one_side = (1 / (1 + np.exp(-towards / rng.uniform(0.2, 1.0))))[:, None]
    return replace(gas, velocities=share * gas.velocities + one_side * radial)


def _turbulent(rng, potential, n):
    """A disc or a cloud of gas with motions that are coherent over waves of many lengths."""
    if rng.random() < 0.7:
        gas = _disc(rng, potential, n, rng.uniform(0.02, 0.4))
    else:
        gas = draw_spheroid(rng, potential, n, rng.uniform(0.5, 2.0), 0.0, rng.uniform(0.3, 1.0), rng.uniform(0.5, 1.0))
    strength, rotation = _log_uniform(rng, 0.08, 1.5), rng.uniform(0, 1) if rng.random() < 0.5 else 1.0
    waves = turbulent_motion(rng, gas.positions, _log_uniform(rng, 1, 8), _log_uniform(rng, 0.15, 0.6), rng.uniform(0, 4))
    return replace(gas, velocities=rotation * gas.velocities + strength * waves * rng.uniform(0.3, 1.0, 3) * 0.6)


def _merger(rng, potential, n):
    """Two galaxies near each other, the second turned anyhow."""
    share = rng.uniform(0.15, 0.5)
    few = max(int(share * n), 20)
    kinds = rng.choice(["thin_disc", "thick_disc", "turbulent", "spheroid", "streams"], 2, p=[0.25, 0.3, 0.2, 0.15, 0.1])
    first, second = (KINDS[kind].draw(rng, potential, count) for kind, count in zip(kinds, (max(n - few, 20), few), strict=True))
    size = rng.uniform(0.4, 1.0)
    towards, other = random_rotation(rng), random_rotation(rng)
    apart = rng.uniform(0.5, 5.0) * towards[0]
    speed = rng.uniform(0.2, 1.8) * (np.cos(turn := rng.uniform(0, np.pi / 2)) * towards[0] + np.sin(turn) * towards[1])
    placed = Particles(second.positions @ other * size + apart, second.velocities @ other * np.sqrt(size) + speed, second.masses)
    masses = [np.full(len(part), 1 / n) for part in (first, placed)]
    return _joined(replace(first, masses=masses[0]), replace(placed, masses=masses[1]))


@dataclass(frozen=True)
class _Kind:
    draw: Callable[[np.random.Generator, Potential, int], Particles]
    share: float  # of the galaxies of a circularity that it reaches
    reaches: tuple[float, float]  # circularities
    most: int = _MOST  # particles
    smooth: float = 0.0  # share of its galaxies that have many particles


KINDS = {
    "thin_disc": _Kind(_thin_disc, 0.50, (0.9, 1.0), smooth=0.7),
    "thick_disc": _Kind(_thick_disc, 0.18, (0.2, 1.0), _MOST_HOT, 0.15),
    "spheroid": _Kind(_spheroid, 0.14, (0.0, 0.5), _MOST_HOT, 0.15),
    "counter_rotating": _Kind(_counter_rotating, 0.02, (0.6, 1.0), smooth=0.3),
    "warp": _Kind(_warp, 0.10, (0.5, 1.0), smooth=0.5),
    "bar": _Kind(_bar, 0.10, (0.6, 1.0), smooth=0.5),
    "streams": _Kind(_streams, 0.16, (0.0, 0.95)),
    "flow": _Kind(_flow, 0.04, (0.0, 1.0), _MOST_HOT),
    "turbulent": _Kind(_turbulent, 0.16, (0.2, 1.0), smooth=0.3),
    "merger": _Kind(_merger, 0.10, (0.2, 0.85), _MOST_HOT),
}


def _in_clouds(rng: np.random.Generator, particles: Particles, each: int) -> Particles:
    """Put ``each`` particles in the place of one, about its position and velocity."""
    if each < 2:
        return particles
    repeated = [np.repeat(values, each, axis=0) for values in (particles.positions, particles.velocities, particles.masses)]
    size = _log_uniform(rng, 0.02, 0.2) * np.exp(0.5 * rng.standard_normal(len(particles))).repeat(each)[:, None]
    repeated[0] = repeated[0] + size * rng.standard_normal(repeated[0].shape) * [1, 1, 0.5]
    repeated[1] = repeated[1] + rng.uniform(0.01, 0.08) * rng.standard_normal(repeated[1].shape)
    return Particles(*repeated)


def draw_kind(rng: np.random.Generator, kind: str) -> Galaxy:
    """Draw a galaxy of a kind, of 100-20,000 particles that may sit in clouds, with its angular momentum along +z."""
    chosen = KINDS[kind]
    n = int(_log_uniform(rng, _MANY, _MOST) if rng.random() < chosen.smooth else _log_uniform(rng, _FEWEST, chosen.most))
    each = int(_log_uniform(rng, 1, min(50, n / 40))) if rng.random() < 0.5 else 1
    particles = _in_clouds(rng, chosen.draw(rng, draw_potential(rng), n // each), each)
    moving = particles.masses @ particles.velocities / particles.masses.sum()
    found = circularity(particles)
    upright = _to_z(found.axis)
    particles = Particles(particles.positions @ upright.T, (particles.velocities - moving) @ upright.T, particles.masses)
    return Galaxy(particles, kind, replace(found, axis=np.array([0.0, 0.0, 1.0])))


def _to_z(axis: Array) -> Array:
    """Return the rotation (3, 3) that brings a unit vector to +z."""
    across = np.cross(axis, [1.0, 0, 0] if abs(axis[0]) < 0.9 else [0, 1.0, 0])
    across /= np.linalg.norm(across)
    return np.stack([across, np.cross(axis, across), axis])


def draw_galaxy(rng: np.random.Generator, kappa: tuple[float, float]) -> Galaxy:
    """Draw a kind that reaches a range of circularity, by the shares of the kinds, and of it galaxies until one lies in the range.

    After 60 galaxies outside the kind is drawn again; a range that no kind reaches is a ValueError.
    """
    names = [name for name, kind in KINDS.items() if kind.reaches[0] < kappa[1] and kind.reaches[1] > kappa[0]]
    if not names:
        raise ValueError(f"no kind of galaxy has a circularity between {kappa[0]} and {kappa[1]}")
    shares = np.array([KINDS[name].share for name in names])
    while True:
        kind = str(rng.choice(names, p=shares / shares.sum()))
        for _ in range(_TRIES):
            galaxy = draw_kind(rng, kind)
            if kappa[0] <= galaxy.circularity.kappa <= kappa[1]:
                return galaxy
