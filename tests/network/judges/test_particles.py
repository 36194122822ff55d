"""Circularity of particles, and the galaxies that they make."""

import numpy as np
import pytest

from tullyflow.network.judges.particle_kinds import KINDS, draw_galaxy, draw_kind
from tullyflow.network.judges.particles import (
    Particles,
    circularity,
    draw_disc_motion,
    draw_potential,
    draw_spheroid,
    random_rotation,
    turbulent_motion,
)

N = 20_000


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def _ring(n: int = 400, sense: float = 1.0) -> Particles:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    radius = np.linspace(0.5, 3, n)[np.argsort(np.sin(7919 * np.arange(n)))]
    return Particles(
        np.stack([radius * np.cos(angle), radius * np.sin(angle), 0 * angle], axis=1),
        sense * np.stack([-np.sin(angle), np.cos(angle), 0 * angle], axis=1),
        np.full(n, 1 / n),
    )


def _without_drift(particles: Particles) -> Particles:
    """Every particle and its opposite, so that nothing moves as a whole."""
    return Particles(
        np.concatenate([particles.positions, -particles.positions]),
        np.concatenate([particles.velocities, -particles.velocities]),
        np.tile(particles.masses, 2),
    )


def _random(rng: np.random.Generator) -> Particles:
    position, velocity = rng.standard_normal((2, N, 3))
    return Particles(position, velocity, np.full(N, 1 / N))


def test_circular_orbits_have_circularity_one():
    found = circularity(_without_drift(_ring()))
    assert found.kappa == pytest.approx(1) and found.kappa_corotating == pytest.approx(1)
    np.testing.assert_allclose(found.axis, [0, 0, 1], atol=1e-12)


def test_radial_orbits_have_circularity_zero(rng):
    position = rng.standard_normal((N, 3))
    particles = _without_drift(Particles(position, 0.7 * position, np.ones(N)))
    assert circularity(particles).kappa == pytest.approx(0, abs=1e-12)


def test_isotropic_random_motion_has_a_third_and_a_sixth_corotating(rng):
    found = circularity(_random(rng))
    assert found.kappa == pytest.approx(1 / 3, abs=0.01)
    assert found.kappa_corotating == pytest.approx(1 / 6, abs=0.01)


def test_circularity_as_published_is_blind_to_the_sense_of_rotation_and_the_corotating_one_is_not():
    more, fewer = _ring(400), _ring(398, -1.0)
    parts = (_without_drift(more), _without_drift(fewer))
    together = Particles(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("positions", "velocities", "masses")))
    found = circularity(together)
    assert found.kappa == pytest.approx(1) and found.kappa_corotating == pytest.approx(0.5, abs=1e-3)


def test_circularity_depends_on_no_direction_mass_unit_speed_or_motion_as_a_whole(rng):
    particles = _ring(300)
    particles.velocities[:] += 0.5 * rng.standard_normal((300, 3)) + [0, 0, 0.2]
    turned = random_rotation(rng)
    other = Particles(2 * particles.positions @ turned, 3 * particles.velocities @ turned + [30, -20, 10], 5 * particles.masses)
    before, after = circularity(particles), circularity(other)
    assert 0.3 < before.kappa < 0.95
    assert after.kappa == pytest.approx(before.kappa) and after.kappa_corotating == pytest.approx(before.kappa_corotating)
    np.testing.assert_allclose(after.axis, before.axis @ turned, atol=1e-9)


def test_heavy_particles_count_more():
    ring = _without_drift(_ring(200))
    radial = _without_drift(Particles(ring.positions[:200], ring.positions[:200], np.ones(200)))
    energy = (radial.velocities**2).sum() / (ring.velocities**2).sum()
    for mass in (1.0, 3.0):
        both = Particles(
            np.concatenate([ring.positions, radial.positions]),
            np.concatenate([ring.velocities, radial.velocities]),
            np.concatenate([np.full(400, mass), np.ones(400)]),
        )
        assert circularity(both).kappa == pytest.approx(mass / (mass + energy))


def test_nothing_that_moves_has_circularity_zero():
    still = Particles(np.eye(3), np.zeros((3, 3)), np.ones(3))
    assert circularity(still).kappa == 0
    assert circularity(Particles(np.eye(3), np.ones((3, 3)), np.ones(3))).kappa == 0


def test_rotations_are_proper(rng):
    for _ in range(5):
        turned = random_rotation(rng)
        np.testing.assert_allclose(turned @ turned.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(turned) == pytest.approx(1)


def test_a_cold_disc_turns_with_the_circular_velocity_and_a_hot_one_lags_by_its_asymmetric_drift(rng):
    potential = draw_potential(rng)
    radius, angle = np.full(N, 2.0), rng.uniform(0, 2 * np.pi, N)
    for sigma in (0.01, 0.3):
        disc = draw_disc_motion(rng, potential, radius, angle, sigma, np.inf)
        v_phi = disc.velocities[:, 1] * np.cos(angle) - disc.velocities[:, 0] * np.sin(angle)
        v_r = disc.velocities[:, 0] * np.cos(angle) + disc.velocities[:, 1] * np.sin(angle)
        v_c, slope = potential.circular(np.array([2.0]))[0], potential.slope(np.array([2.0]))[0]
        assert v_r.std() == pytest.approx(sigma * v_c, rel=0.03)
        assert v_phi.std() / v_r.std() == pytest.approx(np.sqrt((1 + slope) / 2), rel=0.05)
        # V_c^2 - <v_phi>^2 = sigma_R^2 (R / R_d - 1 - 2 slope + sigma_phi^2 / sigma_R^2)
        lag = (sigma * v_c) ** 2 * (2.0 - 1 - 2 * slope + (1 + slope) / 2)
        assert v_c**2 - v_phi.mean() ** 2 == pytest.approx(lag, rel=0.1, abs=5e-4)


@pytest.mark.parametrize("anisotropy", [-0.5, 0.0, 0.6])
def test_a_spheroid_has_the_circularity_and_the_energy_of_its_anisotropy(rng, anisotropy):
    potential = draw_potential(rng)
    spheroid = draw_spheroid(rng, potential, N, 1.0, anisotropy, 1.0, 0.5)
    expected = (1 - anisotropy) / (3 - 2 * anisotropy)
    assert circularity(spheroid).kappa == pytest.approx(expected, abs=0.02)
    r = np.linalg.norm(spheroid.positions, axis=1)
    virial = (spheroid.velocities**2).sum(axis=1).mean() / (potential.circular(r) ** 2).mean()
    assert virial == pytest.approx(1, abs=0.12)  # 2K = sum r . grad Phi, but for the truncation


def test_flipped_orbits_turn_a_spheroid_without_a_change_of_circularity():
    potential = draw_potential(np.random.default_rng(1))
    still, turning = (draw_spheroid(np.random.default_rng(2), potential, N, 1.0, 0.0, 1.0, share) for share in (0.5, 1.0))
    assert circularity(turning).kappa == pytest.approx(circularity(still).kappa, abs=0.02)
    assert circularity(turning).kappa_corotating > 1.7 * circularity(still).kappa_corotating
    np.testing.assert_allclose((turning.velocities**2).sum(), (still.velocities**2).sum())


def test_a_free_orbit_in_the_potential_is_circular_at_its_circular_velocity():
    potential = draw_potential(np.random.default_rng(3))
    x = np.array([[2.0, 0, 0]])
    np.testing.assert_allclose(potential.acceleration(x), [[-(potential.circular(np.array([2.0]))[0] ** 2) / 2.0, 0, 0]], rtol=1e-3)


def test_turbulence_is_alike_nearby_and_differs_far_away(rng):
    at = rng.uniform(-20, 20, (4000, 3))
    motion = turbulent_motion(rng, np.concatenate([at, at + 0.02, at + 7.0]), 3.0, 1.0, 2.0)
    here, near, far = motion[:4000].ravel(), motion[4000:8000].ravel(), motion[8000:].ravel()
    assert here.std() == pytest.approx(1, rel=0.1)
    assert np.corrcoef(here, near)[0, 1] > 0.98
    assert abs(np.corrcoef(here, far)[0, 1]) < 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_makes_galaxies_that_spin_about_z_with_the_circularity_they_say(kind):
    rng = np.random.default_rng(5)
    for _ in range(4):
        galaxy = draw_kind(rng, kind)
        again = circularity(galaxy.particles)
        assert all(np.isfinite(v).all() for v in (galaxy.particles.positions, galaxy.particles.velocities))
        np.testing.assert_allclose(again.axis, [0, 0, 1], atol=1e-6)
        assert again.kappa == pytest.approx(galaxy.circularity.kappa)
        assert 50 <= len(galaxy.particles) <= 20_000
        assert 0 <= galaxy.circularity.kappa_corotating <= galaxy.circularity.kappa <= 1 + 1e-9


@pytest.mark.parametrize("low", [0.0, 0.2, 0.5, 0.9])
def test_galaxies_are_drawn_with_a_circularity_asked_for(low):
    galaxy = draw_galaxy(np.random.default_rng([1, int(10 * low)]), (low, low + 0.1))
    assert low <= circularity(galaxy.particles).kappa <= low + 0.1


def test_a_circularity_that_no_galaxy_has_is_refused(rng):
    with pytest.raises(ValueError, match=r"circularity between 1\.2"):
        draw_galaxy(rng, (1.2, 1.3))
