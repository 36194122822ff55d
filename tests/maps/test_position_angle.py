"""Promises of the kinematic position angle."""

import numpy as np
import pytest
from astropy.wcs import WCS

from tullyflow.conventions import sky_to_image_angle
from tullyflow.errors import DataError
from tullyflow.flags import GALAXY
from tullyflow.maps.orientation import image_axes, image_to_sky_angle
from tullyflow.maps.position_angle import fit_position_angle

SIZE = 51
CENTRE = (24.3, 26.1)


def disc(image_angle_deg, centre=CENTRE, inclination_deg=55.0, size=SIZE, v_sys=33.0, r_turn=5.0, v_max=150.0):
    """Velocity field of an arctan disc (km/s) and its in-plane radius (pixels)."""
    y, x = np.indices((size, size), dtype=float)
    x, y = x - centre[0], y - centre[1]
    a, i = np.radians([image_angle_deg, inclination_deg])
    along, across = np.cos(a) * x + np.sin(a) * y, (np.cos(a) * y - np.sin(a) * x) / np.cos(i)
    radius = np.hypot(along, across)
    curve = 2 / np.pi * v_max * np.sin(i) * np.arctan(radius / r_turn)
    return v_sys + curve * along / np.maximum(radius, 1e-9), radius


def ragged(radius):
    """Valid pixels without any symmetry: an ellipse with a bite and a hole."""
    y, x = np.indices(radius.shape)
    return (radius < 21) & ~((x > 33) & (y < 20)) & ~((np.abs(x - 18) < 2) & (np.abs(y - 30) < 3))


def wcs_of(rotation_deg=0.0, parity=-1.0, centre=CENTRE):
    """Sky axes of an image whose north is turned counter-clockwise from +y; parity -1 has east on the left of north."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 30.0]
    wcs.wcs.crpix = [centre[0] + 1, centre[1] + 1]
    c, s = np.cos(np.radians(rotation_deg)), np.sin(np.radians(rotation_deg))
    wcs.wcs.cd = np.diag([parity, 1.0]) @ np.array([[c, s], [-s, c]]) * 0.5 / 3600
    return wcs


def difference(a, b, period=360.0):
    return (np.asarray(a) - b + period / 2) % period - period / 2


def sky_pa(velocity, valid, centre, wcs):
    fit = fit_position_angle(velocity, 3.0, valid, centre)
    return image_to_sky_angle(fit.image_angle_deg, *image_axes(wcs, centre)), fit


@pytest.mark.parametrize("angle", [0.0, 13.4, 90.0, 178.9, 261.7, 359.5])
@pytest.mark.parametrize("inclination", [20.0, 55.0, 80.0])
def test_angle_of_a_noiseless_disc_is_recovered(angle, inclination):
    velocity, radius = disc(angle, inclination_deg=inclination)
    fit = fit_position_angle(velocity, 3.0, radius < 21, CENTRE)
    assert abs(difference(fit.image_angle_deg, angle)) < 0.4
    assert abs(fit.v_sys_kms - 33.0) < 0.3
    assert fit.flags == 0


def test_rotation_by_180_swaps_receding_side():
    velocity, radius = disc(40.0)
    valid = ragged(radius)
    turned = fit_position_angle(velocity[::-1, ::-1], 3.0, valid[::-1, ::-1], (SIZE - 1 - CENTRE[0], SIZE - 1 - CENTRE[1]))
    here = fit_position_angle(velocity, 3.0, valid, CENTRE)
    assert abs(difference(turned.image_angle_deg, here.image_angle_deg + 180)) < 1e-3


def test_opposite_velocities_swap_receding_side_and_keep_the_axis():
    velocity, radius = disc(40.0, v_sys=0.0)
    here = fit_position_angle(velocity, 3.0, ragged(radius), CENTRE)
    there = fit_position_angle(-velocity, 3.0, ragged(radius), CENTRE)
    assert abs(difference(there.image_angle_deg, here.image_angle_deg + 180)) < 1e-3


@pytest.mark.parametrize("quarter_turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_eight_orientations_give_one_sky_angle(quarter_turns, mirrored):
    rng = np.random.default_rng(5)
    velocity, radius = disc(23.0)
    velocity = velocity + rng.normal(0, 3, velocity.shape)
    valid = ragged(radius)
    expected, _ = sky_pa(velocity, valid, CENTRE, wcs_of())

    v, ok, (x, y), parity = velocity, valid, CENTRE, -1.0
    if mirrored:
        v, ok, x, parity = v[:, ::-1], ok[:, ::-1], SIZE - 1 - x, 1.0
    for _ in range(quarter_turns):  # np.rot90 turns counter-clockwise with y up where rows are read downwards: (x, y) -> (y, n-1-x)
        v, ok, (x, y) = np.rot90(v), np.rot90(ok), (y, SIZE - 1 - x)
    found, _ = sky_pa(v, ok, (x, y), wcs_of(-90.0 * quarter_turns, parity, (x, y)))
    assert abs(difference(found, expected)) < 0.01


@pytest.mark.parametrize("rotation", [37.0, -121.0])
@pytest.mark.parametrize("parity", [-1.0, 1.0])
def test_a_rotated_wcs_moves_the_sky_angle_and_not_the_image_angle(rotation, parity):
    velocity, radius = disc(23.0)
    before, fit = sky_pa(velocity, ragged(radius), CENTRE, wcs_of(0.0, parity))
    after, fit_after = sky_pa(velocity, ragged(radius), CENTRE, wcs_of(rotation, parity))
    # north turned counter-clockwise takes the position angle down where east is left of north, up in a mirror image
    assert abs(difference(after, before + parity * rotation)) < 0.01
    assert fit.image_angle_deg == fit_after.image_angle_deg


def test_north_up_east_left_means_position_angle_counts_from_up_to_the_left():
    north, east = image_axes(wcs_of(), CENTRE)
    assert np.allclose(north, (0, 1), atol=1e-4)
    assert np.allclose(east, (-1, 0), atol=1e-4)
    assert abs(difference(image_to_sky_angle(180.0, north, east), 90.0)) < 0.01


@pytest.mark.parametrize("pa", [0.0, 12.3, 200.0, 359.0])
def test_sky_and_image_angles_are_inverse(pa):
    north, east = image_axes(wcs_of(71.0, 1.0), CENTRE)
    assert abs(difference(image_to_sky_angle(sky_to_image_angle(pa, north, east), north, east), pa)) < 1e-9


def test_masked_pixels_do_not_move_the_angle():
    velocity, radius = disc(100.0)
    valid = ragged(radius)
    wild = np.where(valid, velocity, 1e6)
    blank = np.where(valid, velocity, np.nan)
    assert fit_position_angle(wild, 3.0, valid, CENTRE).image_angle_deg == fit_position_angle(blank, 3.0, valid, CENTRE).image_angle_deg


@pytest.mark.parametrize(("noise_kms", "correlated"), [(4.0, False), (4.0, True)])
def test_one_sigma_covers_two_thirds(noise_kms, correlated):
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(11)
    pull_pa, pull_v = [], []
    for _ in range(120):
        angle = rng.uniform(0, 360)
        velocity, radius = disc(angle)
        noise = rng.normal(size=velocity.shape)
        noise = gaussian_filter(noise, 1.5) if correlated else noise
        fit = fit_position_angle(velocity + noise_kms * noise / noise.std(), noise_kms, radius < 21, CENTRE, centre_err=0.0)
        pull_pa.append(difference(fit.image_angle_deg, angle) / fit.err_deg)
        pull_v.append((fit.v_sys_kms - 33.0) / fit.v_sys_err_kms)
    assert 0.58 < np.mean(np.abs(pull_pa) < 1) < 0.85
    assert 0.55 < np.mean(np.abs(pull_v) < 1) < 0.82


@pytest.mark.parametrize("r_turn", [3.0, 12.0])
def test_a_centre_off_by_a_third_of_a_pixel_is_in_the_error_of_v_sys(r_turn):
    rng = np.random.default_rng(29)
    n, inside = 200, 0
    for _ in range(n):
        velocity, radius = disc(rng.uniform(0, 360), r_turn=r_turn)
        dx, dy = rng.normal(0, 0.3, 2)
        fit = fit_position_angle(velocity + rng.normal(0, 4, velocity.shape), 4.0, radius < 21, (CENTRE[0] + dx, CENTRE[1] + dy))
        inside += abs(fit.v_sys_kms - 33.0) < fit.v_sys_err_kms
    assert 0.60 <= inside / n <= 0.75


@pytest.mark.parametrize("case", ["noise", "few", "one_side", "constant"])
def test_a_map_without_an_axis_is_flagged_and_raises_nothing(case):
    rng = np.random.default_rng(2)
    velocity, radius = disc(10.0)
    valid = radius < 21
    if case == "noise":
        velocity = rng.normal(0, 30, velocity.shape)
    elif case == "few":
        valid = radius < 1
    elif case == "one_side":
        valid = valid & (np.indices(valid.shape)[1] > CENTRE[0] + 2)
    else:
        velocity = np.full_like(velocity, 5.0)
    fit = fit_position_angle(velocity, 3.0, valid, CENTRE)
    assert fit.flags == GALAXY.PA_FAILED
    assert fit.message


def test_a_map_without_sky_is_a_flag_of_the_data():
    with pytest.raises(DataError) as caught:
        image_axes(WCS(naxis=2), CENTRE)
    assert caught.value.flag == GALAXY.NO_WCS
    with pytest.raises(DataError):
        image_axes(None, CENTRE)


def test_real_stellar_maps_agree_with_published_angles(shared):
    import pandas as pd
    from astropy.io import fits

    truth = pd.read_csv(shared / "truth" / "manga_kinematic_pa.csv").set_index("plateifu")
    folder = shared / "truth" / "manga_stellar_velocity"
    clean = [g for g in pd.read_csv(folder / "galaxies.csv").galaxy if g in truth.index and truth.stel_qual[g] == 2]
    away = []
    for galaxy in clean:
        with fits.open(folder / f"{galaxy}.fits.gz") as hdus:
            velocity, err = hdus["VELOCITY"].data.astype(float), hdus["VELOCITY_ERR"].data.astype(float)
            centre = ((velocity.shape[1] - 1) / 2, (velocity.shape[0] - 1) / 2)
            found, _ = sky_angle(velocity, err, centre, WCS(hdus["VELOCITY"].header))
        away.append(abs(difference(found, truth.stellar_pa[galaxy])))
    assert len(away) == 55
    assert np.median(away) < 0.9
    assert np.sum(np.array(away) < 10) >= 52


def sky_angle(velocity, err, centre, wcs):
    fit = fit_position_angle(velocity, err, np.isfinite(velocity), centre)
    return image_to_sky_angle(fit.image_angle_deg, *image_axes(wcs, centre)), fit


def test_a_narrow_strip_of_data_has_its_axis_with_an_error_that_is_none_of_a_flat_curve():
    y, x = np.indices((60, 50), dtype=float)
    c, s = np.cos(np.radians(133.0)), np.sin(np.radians(133.0))
    along, across = c * (x - 25) + s * (y - 30), c * (y - 30) - s * (x - 25)
    velocity = 150 * np.tanh(along / 8) + np.random.default_rng(8).normal(0, 8, x.shape)
    fit = fit_position_angle(velocity, 8.0, (np.abs(across) < 5) & (np.abs(along) < 26), (25.0, 30.0))
    assert fit.flags == 0
    assert abs(difference(fit.image_angle_deg, 133.0)) < 3 * fit.err_deg < 10


def test_wild_bins_at_the_rim_do_not_turn_the_receding_side():
    velocity, radius = disc(40.0)
    y, x = np.indices(velocity.shape)
    wild = (radius > 17) & ((x - CENTRE[0]) + (y - CENTRE[1]) > 0)  # on the receding side, far beyond any rotation
    fit = fit_position_angle(np.where(wild, -600.0, velocity), 3.0, radius < 21, CENTRE)
    assert abs(difference(fit.image_angle_deg, 40.0)) < 15


def test_noise_alone_has_no_axis_and_an_error_no_larger_than_of_any_axis():
    velocity, radius = disc(0.0)
    noise = np.random.default_rng(9).normal(0, 5, velocity.shape)
    fit = fit_position_angle(noise, 5.0, radius < 21, CENTRE)
    assert fit.flags == GALAXY.PA_FAILED
    assert fit.err_deg <= 180 / np.sqrt(12)
