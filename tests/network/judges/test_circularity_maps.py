"""Velocity fields of particles as KinMS and a survey show them."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest

from tullyflow.errors import ModelError
from tullyflow.network.judges import particle_views
from tullyflow.network.judges.circularity_maps import read_simulated, simulate, simulate_fields, write_simulated
from tullyflow.network.judges.particle_views import beam_matrix, draw_view, observe, plain
from tullyflow.network.judges.particles import Particles, draw_disc_motion, draw_potential
from tullyflow.settings import parse_settings


@pytest.fixture(scope="module")
def disc() -> Particles:
    rng = np.random.default_rng(3)
    radius, angle = rng.uniform(0.2, 4, 20_000), rng.uniform(0, 2 * np.pi, 20_000)
    return draw_disc_motion(rng, draw_potential(rng), radius, angle, 0.02, np.inf)


def _view(**changes):
    view = plain(draw_view(np.random.default_rng(1)), math.inf)
    usual = {"inclination_deg": 50.0, "pa_deg": 130.0, "pixels": 64, "reach": 1.0, "beam": 3 / 64, "off": (0.0, 0.0), "v_max_kms": 200.0}
    return replace(view, **(usual | {"channel_kms": 8.0, "faintest": 1e-2} | changes))


def _see(particles, **changes):
    return observe(particles, _view(**changes), np.random.default_rng(4))


@pytest.mark.parametrize("pa", [0.0, 130.0, 250.0])
def test_the_receding_side_lies_at_the_position_angle(disc, pa):
    field = _see(disc, pa_deg=pa)
    y, x = np.mgrid[:64, :64] - 31.5
    good = np.isfinite(field)
    slope = np.linalg.lstsq(np.stack([x[good], y[good], np.ones(good.sum())], axis=1), field[good], rcond=None)[0]
    found = np.degrees(np.arctan2(-slope[0], slope[1])) % 360
    assert abs((found - pa + 180) % 360 - 180) < 4


def test_a_face_on_disc_shows_little_and_an_inclined_one_v_sin_i(disc):
    def fastest(inclination):
        return np.nanpercentile(np.abs(_see(disc, inclination_deg=inclination)), 96)

    assert fastest(5.0) < 0.15 * fastest(70.0)
    assert fastest(60.0) == pytest.approx(fastest(30.0) * math.sqrt(3), rel=0.1)
    assert 0.75 < fastest(60.0) / (200 * math.sin(math.radians(60))) < 1.05


def test_an_inclined_disc_is_short_across_its_axis(disc):
    for pa, along in ((0.0, 0), (90.0, 1)):
        covered = np.isfinite(_see(disc, inclination_deg=70.0, pa_deg=pa))
        extent = [covered.any(axis=1 - axis).sum() for axis in (along, 1 - along)]
        assert extent[1] < 0.65 * extent[0]


def test_the_beam_is_that_of_kinms(disc):
    from kinms import KinMS

    view = _view(beam=5 / 64)
    margin = math.ceil(1.5 * 5)
    cube, channels = particle_views._kinms_cube(disc, view, margin)
    ours = particle_views._blur(beam_matrix(64, margin, 5.0), cube)
    size = 64 + 2 * margin
    model = KinMS(size, size, 10.0, 1.0, 1.0, [5.0, 5.0, 0.0], nSamps=1)
    from astropy.convolution import convolve

    for k in (len(channels) // 2, len(channels) // 3):
        theirs = convolve(cube[..., k], model.psf)[margin:-margin, margin:-margin]
        np.testing.assert_allclose(ours[..., k], theirs, atol=2e-3 * theirs.max())


def test_channels_are_where_the_clouds_move(disc):
    view = _view()
    cube, channels = particle_views._kinms_cube(disc, view, 5)
    velocity = particle_views._project(disc, view)[2]
    velocity = velocity - np.median(velocity)
    assert cube.sum() > 0 and len(channels) <= 48
    mean = (cube.sum(axis=(0, 1)) @ channels) / cube.sum()
    assert mean == pytest.approx(velocity.mean(), abs=1.0)
    spread = np.sqrt((cube.sum(axis=(0, 1)) @ channels**2) / cube.sum() - mean**2)
    assert spread == pytest.approx(np.hypot(velocity.std(), np.diff(channels)[0] / math.sqrt(12)), rel=0.03)


def test_noise_masks_what_is_faint_and_moves_what_is_left_about_the_clean_field(disc):
    clean = _see(disc)
    rms, covered = [], []
    for snr in (5.0, 100.0):
        noisy = _see(disc, peak_snr=snr, mask_snr=4.0)
        both = np.isfinite(noisy) & np.isfinite(clean)
        rms.append(np.nanstd((noisy - clean)[both]))
        covered.append(np.isfinite(noisy).mean())
    assert rms[0] > 2 * rms[1] and covered[0] < covered[1]


def test_a_footprint_hides_what_is_outside(disc):
    for shape, least, most in (("square", 0.97, 1.0), ("hexagon", 0.74, 0.86), ("circle", 0.72, 0.84)):
        field = _see(disc, footprint=shape, footprint_size=0.5, footprint_turn_deg=0.0, inclination_deg=5.0)
        rows, columns = (np.isfinite(field).any(axis=axis) for axis in (1, 0))
        box = field[np.flatnonzero(rows)[0] : np.flatnonzero(rows)[-1] + 1, np.flatnonzero(columns)[0] : np.flatnonzero(columns)[-1] + 1]
        assert least <= np.isfinite(box).mean() <= most, shape


@pytest.mark.filterwarnings("error")
def test_a_field_of_view_without_gas_is_empty_and_not_an_error(disc):
    ring = replace(disc, positions=disc.positions / np.linalg.norm(disc.positions, axis=1, keepdims=True))
    assert np.isfinite(_see(ring, reach=0.1, inclination_deg=5.0)).sum() > 50  # never smaller than what most of the gas is in
    for peak_snr in (math.inf, 10.0):
        assert np.isnan(_see(ring, off=(5.0, 0.0), peak_snr=peak_snr)).all()


def test_bins_hold_one_velocity_and_errors_are_those_asked_for(disc):
    y, x = np.mgrid[:40, :40]
    valid, light = np.hypot(x - 18, y - 20) < 17, 1.0 + x
    binned = particle_views._binned_map(light, 3.0 * x, valid, _view(bins=30, velocity_err_kms=1e-6), np.random.default_rng(2))
    assert len(np.unique(np.round(binned[valid], 3))) == 30 and np.isnan(binned[~valid]).all()
    assert (light * binned)[valid].sum() == pytest.approx((light * 3.0 * x)[valid].sum(), rel=1e-4)  # means by light
    clean, noisy = (_see(disc, binned=True, bins=0, velocity_err_kms=err) for err in (1e-3, 20.0))
    away = (noisy - clean)[np.isfinite(clean)]
    assert 12 < 1.4826 * np.median(np.abs(away - np.median(away))) < 30


def test_a_galaxy_of_unequal_masses_is_seen_by_them(disc):
    heavy = replace(disc, masses=np.where(disc.positions[:, 0] > 0, 1.0, 1e-3))
    cube, channels = particle_views._kinms_cube(heavy, _view(), 5)
    velocity = particle_views._project(heavy, _view())[2]
    expected = np.average(velocity, weights=heavy.masses) - np.median(velocity)
    assert abs(expected) > 5
    assert cube.sum(axis=(0, 1)) @ channels / cube.sum() == pytest.approx(expected, abs=1.0)


@pytest.fixture(scope="module")
def seen():
    return simulate_fields(10, 2, 3)


def test_the_same_seed_makes_the_same_fields_with_any_workers(seen):
    np.testing.assert_array_equal(simulate_fields(2, 2, 3, first=3, workers=2).field, seen.field[6:10])
    assert not np.array_equal(simulate_fields(1, 2, 4, first=3).field, seen.field[6:8], equal_nan=True)


def test_another_noise_changes_no_galaxy_and_no_view(seen):
    clean, noisy = (simulate_fields(2, 2, 3, first=3, peak_snr=snr) for snr in (math.inf, 10.0))
    for name in ("kappa", "inclination_deg", "pa_deg", "beam", "particle_set", "kind"):
        np.testing.assert_array_equal(getattr(clean, name), getattr(seen, name)[6:10])
    assert np.isinf(clean.peak_snr).all() and (noisy.peak_snr == 10).all()
    assert not np.array_equal(clean.field, noisy.field, equal_nan=True)


def test_tenths_of_circularity_are_equally_filled(seen):
    np.testing.assert_array_equal(np.minimum(seen.kappa * 10, 9).astype(int), np.repeat(np.arange(10), 2))
    assert seen.field.shape == (20, 64, 64) and seen.field.dtype == np.float32
    assert (np.isfinite(seen.field).sum(axis=(1, 2)) > 0).all()


@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_a_file_of_fields_gives_back_what_was_written(tmp_path, seen):
    write_simulated(seen, tmp_path / "fields.fits")
    again = read_simulated(tmp_path / "fields.fits")
    for f in fields(seen):
        np.testing.assert_array_equal(getattr(again, f.name), getattr(seen, f.name))
    (tmp_path / "cut.fits").write_bytes((tmp_path / "fields.fits").read_bytes()[:50_000])
    for wrong in ("cut.fits", "none.fits"):
        with pytest.raises(ModelError, match="simulate them again"):
            read_simulated(tmp_path / wrong)


def test_settings_choose_galaxies_views_and_seed(tmp_path):
    settings = parse_settings({"seed": 3, "network": {"circularity": {"galaxies": 20, "views": 2}}})
    made = simulate(settings, tmp_path / "fields.fits")
    np.testing.assert_array_equal(made.field, read_simulated(tmp_path / "fields.fits").field)
    np.testing.assert_array_equal(made.field, simulate_fields(20, 2, 3).field)
