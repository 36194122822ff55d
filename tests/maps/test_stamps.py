"""Promises of the stamp: orientation, parity, masks that do not leak, units."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.wcs import WCS

from tullyflow.flags import BAD_VELOCITY, PIXEL
from tullyflow.maps.position_angle import fit_position_angle
from tullyflow.maps.stamps import dispersion_from_square, empty_stamp, field_half_width, half_width, make_stamp, photometric_intensity
from tullyflow.surveys import GalaxyMaps

CENTRE = (24.3, 26.1)


def asymmetric_galaxy(angle=23.0, size=51, centre=CENTRE, scale=0.5):
    """A disc with a bright knot on one side of its receding half, so that any flip shows."""
    y, x = np.indices((size, size), dtype=float)
    x, y = x - centre[0], y - centre[1]
    a = np.radians(angle)
    along, across = np.cos(a) * x + np.sin(a) * y, np.cos(a) * y - np.sin(a) * x
    radius = np.hypot(along, across / 0.6)
    velocity = 70.0 + 120 * np.arctan(radius / 5) * along / np.maximum(radius, 1e-9)
    intensity = 8 * np.exp(-radius / 8) + 5 * np.exp(-((along - 9) ** 2 + (across - 5) ** 2) / 12)
    mask = np.where(radius < 20, 0, PIXEL.NO_COVERAGE).astype(np.int32)
    return GalaxyMaps(
        galaxy="g", velocity=velocity, velocity_err=np.full_like(velocity, 3.0), mask=mask, wcs=WCS(naxis=2), centre=centre,
        pixel_scale_arcsec=scale, intensity=intensity, intensity_err=np.full_like(velocity, 0.1), intensity_unit="count",
        dispersion_sq=np.full_like(velocity, 400.0) + along, dispersion_sq_err=np.full_like(velocity, 40.0),
    )  # fmt: skip


def turned(maps, quarter_turns):
    """The same galaxy with all its images turned by quarter turns."""
    n, (x, y) = maps.velocity.shape[0], maps.centre
    names = ("velocity", "velocity_err", "mask", "intensity", "intensity_err", "dispersion_sq", "dispersion_sq_err")
    images = {name: np.rot90(getattr(maps, name), quarter_turns) for name in names}
    for _ in range(quarter_turns % 4):
        x, y = y, n - 1 - x
    return replace(maps, centre=(x, y), **images)


def cut(maps, angle=None):
    valid = (maps.mask & BAD_VELOCITY) == 0
    fit = fit_position_angle(maps.velocity, maps.velocity_err, valid, maps.centre)
    angle = fit.image_angle_deg if angle is None else angle
    width = half_width(valid, maps.centre, angle, maps.pixel_scale_arcsec)
    return make_stamp(maps, maps.mask, angle, fit.v_sys_kms, width)


def test_receding_side_is_at_plus_x_and_the_knot_above_it():
    stamp = cut(asymmetric_galaxy())
    assert np.nanmean(stamp.velocity[28:36, 44:58]) > 60
    assert np.nanmean(stamp.velocity[28:36, 6:20]) < -60
    assert np.nanmean(stamp.intensity[34:44, 40:52]) > 1.5 * np.nanmean(stamp.intensity[20:30, 40:52])


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_a_turned_image_gives_the_same_stamp(quarter_turns):
    first, second = cut(asymmetric_galaxy()), cut(turned(asymmetric_galaxy(), quarter_turns))
    for name in ("intensity", "velocity", "dispersion"):
        a, b = getattr(first, name), getattr(second, name)
        assert np.mean(np.isfinite(a) != np.isfinite(b)) < 0.002
        assert np.nanmax(np.abs(a - b)) < 1e-2 * np.nanmax(np.abs(a))


@pytest.mark.parametrize("angle", [0.0, 45.0, 137.0, 256.0])
def test_any_orientation_gives_nearly_the_same_stamp(angle):
    first, second = cut(asymmetric_galaxy(0.0), 0.0), cut(asymmetric_galaxy(angle), angle)
    assert np.nanmedian(np.abs(first.velocity - second.velocity)) < 0.8
    assert np.nanmedian(np.abs(first.intensity - second.intensity)) < 0.01


def test_a_stamp_is_a_rotation_and_never_a_mirror():
    stamp = cut(asymmetric_galaxy())
    mirrored = asymmetric_galaxy()
    names = ("velocity", "velocity_err", "mask", "intensity", "intensity_err", "dispersion_sq", "dispersion_sq_err")
    flipped = replace(mirrored, centre=(50 - CENTRE[0], CENTRE[1]), **{n: getattr(mirrored, n)[:, ::-1] for n in names})
    other = cut(flipped)
    assert np.nanmax(np.abs(other.intensity[::-1] - stamp.intensity)) < 0.02
    assert np.nanmax(np.abs(other.intensity - stamp.intensity)) > 0.2


@pytest.mark.parametrize("scale_of_stamp", [0.4, 1.0, 3.3])
def test_masked_pixels_never_leak(scale_of_stamp):
    maps = asymmetric_galaxy()
    rng = np.random.default_rng(1)
    mask = np.where(rng.random(maps.mask.shape) < 0.1, maps.mask | PIXEL.LOW_SNR, maps.mask)
    bad = (mask & BAD_VELOCITY) != 0
    wild = replace(maps, velocity=np.where(bad, 1e12, maps.velocity), intensity=np.where(bad, np.inf, maps.intensity),
                   velocity_err=np.where(bad, np.nan, 3.0), dispersion_sq=np.where(bad, -1e12, maps.dispersion_sq))  # fmt: skip
    width = 32 * scale_of_stamp * 0.5
    stamp, expected = make_stamp(wild, mask, 23.0, 70.0, width), make_stamp(maps, mask, 23.0, 70.0, width)
    valid = (stamp.mask & BAD_VELOCITY) == 0
    assert valid.sum() > 30
    for name in ("velocity", "velocity_err", "intensity", "dispersion"):
        image = getattr(stamp, name)
        assert np.isfinite(image[valid]).all()
        assert np.isnan(image[~valid]).all()
        np.testing.assert_array_equal(image, getattr(expected, name))
    assert (stamp.mask[~valid] != 0).all()


def test_velocity_and_intensity_come_back_in_their_units():
    maps = asymmetric_galaxy(0.0, centre=(25.0, 25.0))
    stamp = make_stamp(maps, maps.mask, 0.0, 70.0, 16.0)  # one stamp pixel is one native pixel, half a pixel aside
    y, x = 36, 41
    native = (slice(29, 31), slice(34, 36))  # natives around stamp (41, 36): 25 + 9.5, 25 + 4.5
    assert stamp.scale_arcsec == 0.5
    assert np.isclose(stamp.velocity[y, x] + 70.0, maps.velocity[native].mean(), atol=1e-4)
    assert np.isclose(stamp.intensity[y, x] * stamp.intensity_norm, maps.intensity[native].mean(), rtol=1e-5)
    assert np.isclose(stamp.dispersion[y, x] ** 2, maps.dispersion_sq[native].mean(), rtol=1e-5)
    assert np.nanmax(stamp.intensity) == 1


def test_physical_units_come_back_exactly():
    maps = asymmetric_galaxy(0.0, size=64, centre=(31.5, 31.5))  # stamp pixels are native pixels
    stamp = make_stamp(maps, maps.mask, 0.0, 70.0, 32 * maps.pixel_scale_arcsec)
    valid = stamp.mask == 0
    np.testing.assert_array_equal(valid, maps.mask == 0)
    assert 64 * stamp.scale_arcsec == 64 * maps.pixel_scale_arcsec
    back = {
        "velocity": stamp.velocity + 70.0, "velocity_err": stamp.velocity_err, "intensity": stamp.intensity * stamp.intensity_norm,
        "intensity_err": stamp.intensity_err * stamp.intensity_norm, "dispersion_sq": stamp.dispersion.astype(float) ** 2,
    }  # fmt: skip
    for name, values in back.items():
        np.testing.assert_allclose(values[valid], getattr(maps, name)[valid], rtol=5e-7, atol=2e-5, err_msg=name)  # float32
    upside_down = make_stamp(maps, maps.mask, 180.0, 70.0, 32 * maps.pixel_scale_arcsec)
    np.testing.assert_allclose(upside_down.velocity[::-1, ::-1][valid], stamp.velocity[valid], atol=2e-5)


@pytest.mark.parametrize("angle", [0.0, 23.0, 137.0])
@pytest.mark.parametrize("stamp_pixels_per_native", [2.5, 1.3, 0.8, 0.45])
def test_flux_is_conserved_on_an_unmasked_map(angle, stamp_pixels_per_native):
    size = int(0.9 * 64 / stamp_pixels_per_native / np.sqrt(2))  # the whole map lies on the stamp
    y, x = np.indices((size, size), dtype=float) - size / 2
    a, r = np.radians(40), size / 10
    along, across = np.cos(a) * x + np.sin(a) * y, np.cos(a) * y - np.sin(a) * x
    light = np.exp(-((along / r) ** 2 + (across / (0.6 * r)) ** 2) / 2) + 0.4 * np.exp(-((along - r) ** 2 + (across - r) ** 2) / r**2)
    none, one = np.zeros(light.shape, dtype=np.int32), np.ones_like(light)
    maps = GalaxyMaps("g", one, one, none, None, (size / 2 - 0.3, size / 2 + 0.2), 0.5, intensity=light, intensity_err=one)
    stamp = make_stamp(maps, none, angle, 0.0, 32 * 0.5 / stamp_pixels_per_native)
    flux = np.nansum(stamp.intensity.astype(float)) * stamp.intensity_norm * stamp.scale_arcsec**2
    assert flux == pytest.approx(light.sum() * 0.5**2, rel=1e-3)


def test_the_field_is_the_datas_unless_the_disc_is_larger():
    r_e = 1.678 * 6.0  # a scale length of 6 arcsec
    assert field_half_width(10.0, r_e, 0.6) == (10.0, "data")
    assert field_half_width(10.0, 1.001 * r_e, 0.6) == (pytest.approx(10.01), "r_e")
    assert field_half_width(10.0, 5 * r_e, 0.6) == (pytest.approx(18.0), "r_e")  # never more than 1.8 times the data
    assert field_half_width(10.0, 5 * r_e, None) == (10.0, "data")
    assert field_half_width(10.0, np.nan, 0.6) == field_half_width(10.0, -1.0, 0.6) == (10.0, "data")


def test_errors_stay_those_of_native_pixels():
    stamp = cut(asymmetric_galaxy())
    valid = (stamp.mask & BAD_VELOCITY) == 0
    np.testing.assert_allclose(stamp.velocity_err[valid], 3.0, rtol=1e-5)
    np.testing.assert_allclose(stamp.intensity_err[valid] * stamp.intensity_norm, 0.1, rtol=1e-5)


def test_large_stamp_pixels_average_the_native_ones():
    maps = asymmetric_galaxy(0.0, centre=(25.0, 25.0))
    checkers = np.where(np.indices(maps.velocity.shape).sum(axis=0) % 2 == 0, 50.0, -50.0)
    stamp = make_stamp(replace(maps, velocity=checkers), maps.mask, 0.0, 0.0, 32 * 4 * 0.5)
    assert np.nanmax(np.abs(stamp.velocity)) < 5


def test_negative_dispersion_is_missing_and_leaves_the_velocity():
    maps = asymmetric_galaxy()
    stamp = make_stamp(replace(maps, dispersion_sq=np.full_like(maps.velocity, -9.0)), maps.mask, 23.0, 70.0, 10.0)
    valid = (stamp.mask & BAD_VELOCITY) == 0
    assert valid.any()
    assert np.isnan(stamp.dispersion).all()
    assert np.isfinite(stamp.velocity[valid]).all()
    assert (stamp.mask[valid] == PIXEL.NEGATIVE_DISPERSION).all()


def test_a_missing_dispersion_leaves_its_neighbours():
    maps = asymmetric_galaxy()
    square = maps.dispersion_sq.copy()
    square[30, 30] = np.nan
    stamp = make_stamp(replace(maps, dispersion_sq=square), maps.mask, 23.0, 70.0, 10.0)
    valid = (stamp.mask & BAD_VELOCITY) == 0
    assert 0 < (valid & np.isnan(stamp.dispersion)).sum() < 60


def test_dispersion_error_is_linear_far_from_zero_and_finite_at_zero():
    root, err = dispersion_from_square(np.array([10_000.0, 0.0, -1.0]), np.array([20.0, 400.0, 400.0]))
    assert np.isclose(err[0], 20 / (2 * 100), rtol=1e-2)
    assert err[1] == 20
    assert np.isnan(root[2])


def test_half_width_reaches_the_data_and_no_further():
    valid = np.zeros((81, 81), dtype=bool)
    valid[38:43, 10:71] = True
    assert 30 * 0.97 < half_width(valid, (40, 40), 0.0, 1.0) <= 31
    assert np.isclose(half_width(valid, (40, 40), 0.0, 1.0), half_width(valid, (40, 40), 90.0, 1.0))
    assert np.isclose(half_width(valid, (40, 40), 0.0, 0.25) * 4, half_width(valid, (40, 40), 0.0, 1.0))


def test_photometric_disc_has_the_scale_length_and_the_inclination_of_the_catalogue():
    scale = 0.1
    disc, err = photometric_intensity(1.678 * 1.2, 0.5408, scale, np.nan)  # a scale length of 12 stamp pixels
    profile = disc[31, 36:60]
    slope = np.polyfit(np.arange(24), np.log(profile), 1)[0]
    assert np.isclose(-1 / slope, 12, rtol=0.03)
    cos = np.sqrt((0.5408**2 - 0.04) / 0.96)
    across = np.polyfit(np.arange(24), np.log(disc[36:60, 31]), 1)[0]
    assert np.isclose(slope / across, cos, rtol=0.05)
    assert (err == err[0, 0]).all()


def test_photometric_disc_is_blurred_by_the_beam():
    sharp, _ = photometric_intensity(1.0, 0.6, 0.1, np.nan)
    blurred, _ = photometric_intensity(1.0, 0.6, 0.1, 0.8)
    assert blurred.max() < 0.9 * sharp.max()
    assert np.isclose(blurred.sum(), sharp.sum(), rtol=0.02)


def test_an_empty_stamp_says_no_coverage():
    stamp = empty_stamp()
    assert np.isnan(stamp.velocity).all()
    assert (stamp.mask == PIXEL.NO_COVERAGE).all()
