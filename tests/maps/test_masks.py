"""Promises of the mask."""

from dataclasses import replace

import numpy as np
import pytest

from tullyflow.flags import BAD_VELOCITY, PIXEL
from tullyflow.maps.geometry import fill_factor, measure_geometry, outer_dispersion
from tullyflow.maps.masks import count_mask, mask_maps
from tullyflow.maps.stamps import make_stamp
from tullyflow.settings import Maps
from tullyflow.surveys import GalaxyMaps


def galaxy(**changes):
    y, x = np.indices((30, 40), dtype=float)
    velocity = 5 * (x - 18) + 2 * (y - 14)
    maps = GalaxyMaps(
        galaxy="g", velocity=velocity, velocity_err=np.full(velocity.shape, 2.0), mask=np.zeros(velocity.shape, dtype=np.int32),
        wcs=None, centre=(18.0, 14.0), pixel_scale_arcsec=0.5, intensity=np.full(velocity.shape, 50.0),
        intensity_err=np.ones(velocity.shape), dispersion_sq=np.full(velocity.shape, 100.0), fov_pixels=1200,
    )  # fmt: skip
    return replace(maps, **changes)


def changed(image, at, value):
    out = np.array(image, dtype=float)
    out[at] = value
    return out


def test_a_clean_map_keeps_every_pixel():
    assert not mask_maps(galaxy(), Maps()).any()


def island(maps):
    """The map cut by a moat; what lies beyond is small."""
    bits = maps.mask.copy()
    bits[:, 33:35] = PIXEL.NO_COVERAGE
    bits[:26, 35:] = PIXEL.NO_COVERAGE
    return replace(maps, mask=bits)


FROM_READER = ("NO_COVERAGE", "UNRELIABLE", "DO_NOT_USE", "FOREGROUND", "NEAR_BOUND", "NO_VALUE")
AT = (20, 9)
CUTS = {
    "LOW_SNR": lambda m: replace(m, intensity=changed(m.intensity, AT, 9.0)),
    "UNRELIABLE": lambda m: replace(m, velocity_err=changed(m.velocity_err, AT, 60.0)),
    "VELOCITY_OUTLIER": lambda m: replace(m, velocity=changed(m.velocity, AT, m.velocity[AT] + 90)),
    "NO_VALUE": lambda m: replace(m, intensity=changed(m.intensity, AT, np.nan)),
    "NEGATIVE_DISPERSION": lambda m: replace(m, dispersion_sq=changed(m.dispersion_sq, AT, -1000.0)),
}


def covered_by(mask, stamp, angle, at):
    """Whether the stamp pixel nearest to a native pixel is valid, and its bits."""
    a, (x, y) = np.radians(angle), (at[1] - 18.0, at[0] - 14.0)
    scale = stamp.scale_arcsec / 0.5
    column, row = np.cos(a) * x + np.sin(a) * y, np.cos(a) * y - np.sin(a) * x
    bits = stamp.mask[round(31.5 + row / scale), round(31.5 + column / scale)]
    return (bits & BAD_VELOCITY) == 0, bits


@pytest.mark.parametrize("name", [flag.name for flag in PIXEL])
def test_every_reason_reaches_the_stamp_and_takes_its_pixel_only(name):
    ways = [lambda m: replace(m, mask=changed(m.mask, AT, getattr(PIXEL, name)).astype(np.int32))] if name in FROM_READER else []
    ways += [CUTS[name]] if name in CUTS else []
    ways += [island] if name == "ISLAND" else []
    assert ways
    clean, angle = galaxy(), 21.8
    for way in ways:
        maps = way(clean)
        at = (28, 37) if name == "ISLAND" else AT
        mask = mask_maps(maps, Maps())
        expected = np.zeros(mask.shape, dtype=bool)
        expected[(slice(26, None), slice(35, None)) if name == "ISLAND" else at] = True
        np.testing.assert_array_equal((mask & getattr(PIXEL, name)) != 0, expected)
        assert (mask[at] & BAD_VELOCITY == 0) == (name == "NEGATIVE_DISPERSION")
        stamp, before = make_stamp(maps, mask, angle, 0.0, 12.0), make_stamp(clean, clean.mask, angle, 0.0, 12.0)
        there, bits = covered_by(mask, stamp, angle, at)
        assert covered_by(mask, before, angle, at)[0]
        assert bits & getattr(PIXEL, name)
        assert there == (name == "NEGATIVE_DISPERSION")


def test_values_no_velocity_and_no_light_can_have_are_no_values():
    maps = galaxy()
    for value in (1e20, -1e20, np.inf, -np.inf, np.nan):
        for name in ("velocity", "intensity"):
            mask = mask_maps(replace(maps, **{name: changed(getattr(maps, name), AT, value)}), Maps())
            assert mask[AT] & PIXEL.NO_VALUE
            assert (mask != 0).sum() == 1
    assert mask_maps(replace(maps, velocity_err=changed(maps.velocity_err, AT, 0.0)), Maps())[AT] & PIXEL.NO_VALUE
    bright = mask_maps(replace(maps, intensity=changed(maps.intensity, AT, 5e5)), Maps())
    assert not bright.any()  # 10^4 times the median is a nucleus


def test_reader_bits_are_kept():
    bits = np.zeros((30, 40), dtype=np.int32)
    bits[3, 7] = PIXEL.FOREGROUND | PIXEL.NEAR_BOUND
    assert mask_maps(galaxy(mask=bits), Maps())[3, 7] & PIXEL.FOREGROUND
    assert bits[3, 8] == 0


def test_faint_pixels_are_masked_and_velocity_alone_is_not_tested():
    maps = galaxy()
    maps = replace(maps, intensity=changed(maps.intensity, (5, 6), 9.9))
    mask = mask_maps(maps, Maps())
    assert mask[5, 6] == PIXEL.LOW_SNR
    assert (mask != 0).sum() == 1
    assert not mask_maps(replace(maps, intensity=None, intensity_err=None), Maps()).any()


def test_missing_values_and_large_errors_are_masked():
    maps = galaxy()
    maps = replace(maps, velocity=changed(maps.velocity, (4, 4), np.nan), velocity_err=changed(maps.velocity_err, (9, 9), 51.0))
    mask = mask_maps(maps, Maps())
    assert mask[4, 4] & PIXEL.NO_VALUE
    assert mask[9, 9] == PIXEL.UNRELIABLE
    assert (mask != 0).sum() == 2


def test_an_outlier_is_masked_only_beyond_both_limits():
    maps = galaxy()
    far = changed(maps.velocity, (12, 20), maps.velocity[12, 20] + 70)
    assert mask_maps(replace(maps, velocity=far), Maps())[12, 20] == PIXEL.VELOCITY_OUTLIER
    assert mask_maps(replace(maps, velocity=far, velocity_err=np.full_like(far, 15.0)), Maps())[12, 20] == 0
    near = changed(maps.velocity, (12, 20), maps.velocity[12, 20] + 50)
    assert mask_maps(replace(maps, velocity=near), Maps())[12, 20] == 0


def test_an_outlier_spoils_none_of_its_neighbours():
    maps = galaxy()
    mask = mask_maps(replace(maps, velocity=changed(maps.velocity, (12, 20), 5000.0)), Maps())
    assert (mask != 0).sum() == 1


def test_a_small_island_goes_and_a_large_one_stays():
    bits = np.full((30, 40), PIXEL.NO_COVERAGE, dtype=np.int32)
    bits[5:20, 5:20] = 0  # 225 pixels
    bits[5:12, 30:38] = 0  # 56: a quarter
    bits[25:28, 25:30] = 0  # 15
    mask = mask_maps(galaxy(mask=bits), Maps())
    assert (mask[5:20, 5:20] == 0).all()
    assert (mask[5:12, 30:38] == 0).all()
    assert (mask[25:28, 25:30] == PIXEL.ISLAND).all()


def test_negative_dispersion_does_not_spoil_the_velocity():
    maps = galaxy()
    mask = mask_maps(replace(maps, dispersion_sq=changed(maps.dispersion_sq, (8, 8), -4.0)), Maps())
    assert mask[8, 8] == PIXEL.NEGATIVE_DISPERSION
    assert mask[8, 8] & BAD_VELOCITY == 0


def test_counts_add_up():
    maps = galaxy()
    bits = maps.mask.copy()
    bits[:4] = PIXEL.NO_COVERAGE
    maps = replace(maps, mask=bits, intensity=changed(maps.intensity, (slice(10, 14), slice(0, 5)), 1.0))
    counts = count_mask(mask_maps(maps, Maps()))
    assert counts.looked_at == 26 * 40
    assert counts.reasons == {"LOW_SNR": 20}
    assert counts.kept + sum(counts.reasons.values()) == counts.looked_at


def test_fill_factor_is_of_the_field_and_not_tested_for_velocity_alone():
    maps = galaxy()
    bits = np.zeros((30, 40), dtype=np.int32)
    bits[:, :10] = PIXEL.LOW_SNR
    bits[:, 30:] = PIXEL.NO_COVERAGE
    assert fill_factor(replace(maps, fov_pixels=1000), bits) == 0.6
    assert fill_factor(replace(maps, fov_pixels=0), bits) == 600 / 900
    assert np.isnan(fill_factor(replace(maps, intensity=None), bits))


def test_outer_dispersion_averages_squares_negative_ones_too():
    rng = np.random.default_rng(4)
    radius = rng.uniform(0, 10, 20_000)
    square = 25.0**2 + rng.normal(0, 900, radius.size)  # a third is negative
    found = outer_dispersion(radius, np.zeros_like(radius), square, 10.0, 2.0)
    assert abs(found.dispersion_kms - 25) < 4 * found.err_kms
    assert 0.05 < found.err_kms < 0.5


def test_outer_dispersion_looks_beyond_two_effective_radii_or_the_outer_half():
    radius = np.linspace(0, 10, 2001)
    square, on_axis = np.where(radius < 6, 60.0**2, 20.0**2), np.zeros_like(radius)
    assert np.isclose(outer_dispersion(radius, on_axis, square, 10.0, 3.0).dispersion_kms, 20.0)
    wide = outer_dispersion(radius, on_axis, square, 10.0, 8.0)  # 2 R_e beyond the data: from 5
    assert np.isclose(wide.dispersion_kms**2, np.mean(square[radius >= 5]), rtol=0.01)
    assert np.isnan(outer_dispersion(radius, on_axis, np.full_like(radius, -5.0), 10.0, 3.0).dispersion_kms)


def test_r_max_is_in_the_disc_plane():
    y, x = np.indices((101, 101), dtype=float)
    cos = 0.5
    radius = np.hypot(x - 50, (y - 50) / cos)
    bits = np.where(radius < 40, 0, PIXEL.NO_COVERAGE).astype(np.int32)
    maps = GalaxyMaps(
        galaxy="g", velocity=x - 50, velocity_err=np.ones_like(x), mask=bits, wcs=None, centre=(50.0, 50.0), pixel_scale_arcsec=0.5
    )
    axis_ratio = np.sqrt(0.04 + 0.96 * cos**2)
    known = measure_geometry(maps, bits, 0.0, 0.0, axis_ratio=axis_ratio, r_e_arcsec=np.nan)
    assert np.isclose(known.r_max_arcsec, 20 * np.sqrt(0.98), rtol=0.02)
    assert np.isclose(known.v_abs_max_kms, 40, rtol=0.1)
    guessed = measure_geometry(maps, bits, 0.0, 0.0, axis_ratio=np.nan, r_e_arcsec=np.nan)
    assert np.isclose(guessed.r_max_arcsec, known.r_max_arcsec, rtol=0.1)


@pytest.mark.parametrize(("n_near", "n_middle", "expected"), [(20, 40, 20.0), (19, 40, None), (5, 14, None)])
def test_outer_dispersion_looks_along_the_major_axis_while_it_holds_enough_pixels(n_near, n_middle, expected):
    # 20 km/s within 30 deg of the major axis, 30 to 60 deg, 50 beyond: rotation smeared by the PSF
    angle = np.r_[np.linspace(0, 29, n_near), np.linspace(31, 59, n_middle), np.linspace(61, 90, 60)]
    square = np.r_[np.full(n_near, 400.0), np.full(n_middle, 900.0), np.full(60, 2500.0)]
    found = outer_dispersion(np.full(angle.size, 9.0), angle, square, 10.0, np.nan)
    used = square if n_near + n_middle < 20 else square[: n_near + n_middle]
    assert np.isclose(found.dispersion_kms, expected or np.sqrt(used.mean()))


def test_the_error_of_the_outer_dispersion_counts_independent_pixels():
    rng = np.random.default_rng(8)
    radius, on_axis = np.full(2000, 9.0), np.zeros(2000)
    square = 25.0**2 + rng.normal(0, 300, 2000)
    alone = outer_dispersion(radius, on_axis, square, 10.0, np.nan)
    shared = outer_dispersion(radius, on_axis, square, 10.0, np.nan, pixels_per_psf=16.0)
    assert np.isclose(shared.err_kms / alone.err_kms, 4.0, rtol=0.03)
    assert shared.dispersion_kms == alone.dispersion_kms


def seen_disc(r_edge=20.0, cos=0.35, fwhm=6.0):
    """A disc of light to ``r_edge`` pixels turning at 180 km/s, dispersion 20 km/s, seen through a round PSF: moments of the mixture."""
    from scipy.ndimage import gaussian_filter

    y, x = np.indices((101, 101), dtype=float) - 50
    radius = np.hypot(x, y / cos)
    light = np.where(radius < r_edge, np.exp(-radius / 8), 0.0)
    velocity = 180 * np.tanh(radius / 3) * x / np.maximum(radius, 1e-9)
    flux, first, second = (gaussian_filter(light * v, fwhm / 2.355) for v in (1.0, velocity, velocity**2 + 20.0**2))
    bits = np.where(flux > 0.02 * flux.max(), 0, PIXEL.NO_COVERAGE).astype(np.int32)
    with np.errstate(divide="ignore", invalid="ignore"):
        return GalaxyMaps(
            galaxy="g", velocity=first / flux, velocity_err=np.ones_like(x), mask=bits, wcs=None, centre=(50.0, 50.0),
            pixel_scale_arcsec=0.5, dispersion_sq=second / flux - (first / flux) ** 2, psf_fwhm_arcsec=fwhm / 2,
        )  # fmt: skip


def test_light_the_psf_spreads_across_an_inclined_disc_does_not_push_r_max_beyond_the_data():
    maps = seen_disc()
    y, x = np.indices(maps.mask.shape) - 50.0
    valid = maps.mask == 0
    reach = 0.5 * np.abs(x[valid & (np.abs(y) < 2)]).max()  # the data along the major axis
    found = measure_geometry(maps, maps.mask, 0.0, 0.0, axis_ratio=np.sqrt(0.04 + 0.96 * 0.35**2), r_e_arcsec=np.nan, psf_fwhm_arcsec=3.0)
    everywhere = np.percentile(0.5 * np.hypot(x, y / 0.35)[valid], 98)
    assert everywhere > 1.15 * reach
    assert 0.85 * reach < found.r_max_arcsec < 1.05 * reach


def test_rotation_smeared_on_the_minor_axis_stays_out_of_the_outer_dispersion():
    maps = seen_disc()
    arguments = dict(axis_ratio=np.sqrt(0.04 + 0.96 * 0.35**2), r_e_arcsec=np.nan, psf_fwhm_arcsec=3.0)
    along = measure_geometry(maps, maps.mask, 0.0, 0.0, **arguments).outer.dispersion_kms
    across = measure_geometry(maps, maps.mask, 90.0, 0.0, **arguments | {"axis_ratio": 1.0}).outer.dispersion_kms
    assert 20 < along < 30
    assert across > along + 5


def test_an_unknown_psf_counts_every_pixel_and_a_known_one_fewer():
    maps = seen_disc()
    rng = np.random.default_rng(1)
    maps = replace(maps, dispersion_sq=maps.dispersion_sq + rng.normal(0, 100, maps.velocity.shape))

    def err(psf):
        return measure_geometry(maps, maps.mask, 0.0, 0.0, axis_ratio=0.4, r_e_arcsec=np.nan, psf_fwhm_arcsec=psf).outer.err_kms

    assert np.isclose(err(3.0) / err(np.nan), np.sqrt(np.pi / (4 * np.log(2)) * 36), rtol=0.1)  # 6 pixels wide
    assert err(0.1) == err(np.nan)
