"""Promises of the kinematic centre."""

from dataclasses import replace

import numpy as np
import pytest

from tullyflow.maps.kinematic_centre import fit_centre, move_centre
from tullyflow.maps.position_angle import fit_position_angle
from tullyflow.surveys import GalaxyMaps

SIZE, CENTRE = 51, (24.3, 26.1)


def disc(angle_deg=40.0, centre=CENTRE, r_turn=4.0, v_sys=33.0):
    """Arctan disc (km/s) and pixels without any symmetry: an ellipse with a bite and a hole."""
    y, x = np.indices((SIZE, SIZE), dtype=float)
    dx, dy = x - centre[0], y - centre[1]
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    along, across = c * dx + s * dy, (c * dy - s * dx) / 0.55
    radius = np.hypot(along, across)
    valid = (radius < 21) & ~((x > 33) & (y < 20)) & ~((np.abs(x - 18) < 2) & (np.abs(y - 30) < 3))
    return v_sys + 120 * np.arctan(radius / r_turn) * along / np.maximum(radius, 1e-9), valid


@pytest.mark.parametrize("angle", [0.0, 40.0, 117.0])
@pytest.mark.parametrize("off", [(0.0, 0.0), (1.7, -1.2), (-2.1, 0.6)])
def test_a_noiseless_disc_has_its_centre_found(angle, off):
    velocity, valid = disc(angle)
    found = fit_centre(velocity, 3.0, valid, (CENTRE[0] + off[0], CENTRE[1] + off[1]))
    assert found.fitted
    assert np.hypot(found.x - CENTRE[0], found.y - CENTRE[1]) < 0.1


def test_the_centre_found_mends_angle_and_systemic_velocity_of_a_wrong_one():
    velocity, valid = disc()
    velocity = velocity + np.random.default_rng(3).normal(0, 4, velocity.shape)
    wrong = (CENTRE[0] + 2.0, CENTRE[1] + 1.0)
    found = fit_centre(velocity, 4.0, valid, wrong)
    before, after = (fit_position_angle(velocity, 4.0, valid, centre) for centre in (wrong, (found.x, found.y)))
    assert abs(after.v_sys_kms - 33.0) < 2.0 < abs(before.v_sys_kms - 33.0)


def test_the_error_covers_and_grows_with_noise():
    velocity, valid = disc()
    c, s = np.cos(np.radians(40.0)), np.sin(np.radians(40.0))
    pulls, errors = [], {}
    for sigma in (4.0, 12.0):
        for seed in range(12):
            noisy = velocity + np.random.default_rng(seed).normal(0, sigma, velocity.shape)
            found = fit_centre(noisy, sigma, valid, (CENTRE[0] + 1, CENTRE[1] - 1))
            dx, dy = found.x - CENTRE[0], found.y - CENTRE[1]
            pulls += [(c * dx + s * dy) / found.err_along, (c * dy - s * dx) / found.err_across]
            errors.setdefault(sigma, []).append(found.err_along)
    assert 0.5 < np.sqrt(np.mean(np.square(pulls))) < 1.5
    assert np.median(errors[12.0]) > 2 * np.median(errors[4.0])


def test_solid_body_rotation_has_no_centre():
    y, x = np.indices((SIZE, SIZE), dtype=float)
    velocity = 3 * (x - CENTRE[0]) + np.random.default_rng(4).normal(0, 3, (SIZE, SIZE))
    found = fit_centre(velocity, 3.0, np.hypot(x - CENTRE[0], y - CENTRE[1]) < 21, CENTRE)
    assert not found.fitted
    assert (found.x, found.y) == CENTRE
    assert "centre" in found.message


def test_no_map_is_a_message_and_no_exception():
    found = fit_centre(np.full((9, 9), np.nan), 3.0, np.ones((9, 9), bool), (4.0, 4.0))
    assert not found.fitted
    assert found.message


def test_maps_get_their_kinematic_centre_or_keep_theirs():
    velocity, valid = disc()
    mask = np.where(valid, 0, 1).astype(np.int32)
    maps = GalaxyMaps("x", velocity, np.full(velocity.shape, 3.0), mask, None, (CENTRE[0] + 1.5, CENTRE[1]), 0.5)
    moved, said = move_centre(maps, valid)
    assert np.hypot(moved.centre[0] - CENTRE[0], moved.centre[1] - CENTRE[1]) < 0.1
    assert "1.5 pixels from the given one" in said
    flat, said = move_centre(replace(maps, velocity=np.zeros_like(velocity)), valid)
    assert flat.centre == maps.centre
    assert said.startswith("No kinematic centre")
