"""One galaxy from its maps to its row and stamp: sky angles, beam, misalignment, field, and that no masked pixel counts."""

import types
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from astropy.wcs import WCS

import tullyflow.maps.galaxies as galaxies_module
from tullyflow.conventions import R_E_PER_SCALE_LENGTH
from tullyflow.flags import BAD_VELOCITY, GALAXY, PIXEL
from tullyflow.settings import parse_settings
from tullyflow.surveys import GalaxyMaps
from tullyflow.tables import STAMP_HDUS, TARGETS, conform

CENTRE = (22.5, 21.0)
IMAGE_ANGLE = 205.0  # of the receding side
SETTINGS = parse_settings({"maps": {"min_pixels": 150}})


def sky(rotation=0.0, parity=-1.0, centre=CENTRE):
    """Sky axes about a centre: north turned counter-clockwise from up by ``rotation``, east left of it (parity -1) or right."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [10.0, 20.0], [centre[0] + 1, centre[1] + 1]
    c, s = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    wcs.wcs.cd = np.array([[parity * c, parity * s], [-s, c]]) * 0.5 / 3600
    return wcs


def disc(angle=IMAGE_ANGLE, **changes):
    """An inclined disc with a knot on one side of its receding half and gaps: no symmetry."""
    y, x = np.indices((44, 48), dtype=float)
    x, y = x - CENTRE[0], y - CENTRE[1]
    a = np.radians(angle)
    along, across = np.cos(a) * x + np.sin(a) * y, np.cos(a) * y - np.sin(a) * x
    radius = np.hypot(along, across / 0.5)
    velocity = 45 + 90 * np.arctan(radius / 4) * along / np.maximum(radius, 1e-9)
    light = 40 * np.exp(-radius / 8) + 15 * np.exp(-((along - 9) ** 2 + (across - 4) ** 2) / 12) + 10
    covered = (radius < 19) & ~((np.hypot(along + 8, across + 3) < 2.5) | ((x > 6) & (y > 9)))
    maps = GalaxyMaps(
        galaxy="disc", velocity=velocity, velocity_err=3 + 0.05 * radius, wcs=sky(), centre=CENTRE, pixel_scale_arcsec=0.5,
        mask=np.where(covered, 0, PIXEL.NO_COVERAGE).astype(np.int32), intensity=light, intensity_err=np.full(velocity.shape, 0.5),
        intensity_unit="count", dispersion_sq=625 + 3 * along, dispersion_sq_err=np.full(velocity.shape, 50.0), psf_fwhm_arcsec=2.5,
        fov_pixels=900,
    )  # fmt: skip
    return replace(maps, **changes)


@pytest.fixture
def make(monkeypatch):
    """Make one galaxy of maps that are at hand."""

    def made(maps, settings=SETTINGS, **target):
        monkeypatch.setattr(galaxies_module, "get_survey", lambda name: types.SimpleNamespace(read=lambda paths, row, settings: maps))
        row = {"galaxy": "disc", "survey": "local", "release": "user", "shard": "s", "axis_ratio": 0.5, "r_e_arcsec": 3.0} | target
        target = conform(pd.DataFrame([row]), TARGETS).to_dict("records")[0]
        return galaxies_module.make_galaxy(target, {"maps": {"path": "x.fits", "status": "ok", "message": ""}}, settings)

    return made


def same_stamp(one, other):
    for name in STAMP_HDUS:
        np.testing.assert_array_equal(getattr(one, name.lower()), getattr(other, name.lower()))


@pytest.mark.parametrize("parity", [-1.0, 1.0])
def test_turning_the_sky_axes_turns_the_position_angle_and_leaves_the_stamp(make, parity):
    here, there = make(disc(wcs=sky(0.0, parity))), make(disc(wcs=sky(37.0, parity)))
    turned = (there.row["pa_deg"] - here.row["pa_deg"] + 180) % 360 - 180
    assert turned == pytest.approx(parity * 37.0, abs=0.01)
    same_stamp(here.stamp, there.stamp)


@pytest.mark.parametrize(("stars", "expected"), [(0, 0), (30, 30), (-30, 30), (179, 179), (-179, 179), (181, 179), (340, 20)])
def test_the_misalignment_is_the_angle_between_gas_and_stars_whichever_way_round(make, stars, expected):
    gas = disc()
    for wcs in (sky(), sky(130.0), sky(130.0, 1.0)):  # the gas at every side of north
        row = make(replace(gas, wcs=wcs, stellar_velocity=disc(IMAGE_ANGLE + stars).velocity)).row
        assert row["delta_pa_deg"] == pytest.approx(expected, abs=0.5)
        assert row["delta_pa_err_deg"] == pytest.approx(np.hypot(row["pa_err_deg"], row["pa_stellar_err_deg"]), rel=1e-9)
        assert row["delta_pa_err_deg"] > row["pa_err_deg"] > 0
    assert np.isnan(make(gas).row["delta_pa_deg"]) and np.isnan(make(gas).row["delta_pa_err_deg"])


def test_a_misalignment_covers_with_its_error(make):
    rng = np.random.default_rng(7)
    pulls = []
    for _ in range(60):
        gas, stars = disc(), disc(IMAGE_ANGLE + 25.0)
        noisy = gas.velocity + rng.normal(0, 12, gas.velocity.shape)
        seen = stars.velocity + rng.normal(0, 20, gas.velocity.shape)
        err = np.full(gas.velocity.shape, 12.0)
        row = make(replace(gas, velocity=noisy, velocity_err=err, stellar_velocity=seen, stellar_velocity_err=err / 0.6)).row
        pulls.append((row["delta_pa_deg"] - 25.0) / row["delta_pa_err_deg"])
    assert 0.5 < np.mean(np.abs(pulls) < 1) < 0.95
    assert abs(np.mean(pulls)) < 0.6


@pytest.mark.parametrize(("wcs", "beam_angle", "expected"), [
    # the receding side lies at 205 deg on the image; north up, east left: position angle p is at 90 + p on the image
    (sky(), 0.0, 65.0), (sky(), 115.0, 0.0), (sky(), 40.0, 105.0),
    # north turned counter-clockwise by 30 deg takes the beam along
    (sky(30.0), 40.0, 135.0),
    # east right: position angle p is at 90 - p
    (sky(0.0, 1.0), 40.0, 25.0), (sky(30.0, 1.0), 40.0, 55.0),
])  # fmt: skip
def test_the_beam_is_turned_with_the_image(make, wcs, beam_angle, expected):
    made = make(disc(wcs=wcs, beam=(4.0, 2.5, beam_angle)))
    away = (made.row["beam_angle_deg"] - expected + 90) % 180 - 90
    assert abs(away) < 0.5
    assert 0 <= made.row["beam_angle_deg"] < 180
    assert (made.row["beam_major_arcsec"], made.row["beam_minor_arcsec"]) == (4.0, 2.5)


def test_the_turned_beam_is_that_of_the_stamp(make):
    """An elliptical blob on the sky, cut to the stamp with the galaxy, lies there as the columns say."""
    wcs = sky(30.0, 1.0)
    y, x = np.indices((44, 48), dtype=float)
    x, y = x - CENTRE[0], y - CENTRE[1]
    on_image = np.radians(90 + 30 - 70)  # position angle 70 deg, east right of north
    along, across = np.cos(on_image) * x + np.sin(on_image) * y, np.cos(on_image) * y - np.sin(on_image) * x
    blob = np.exp(-4 * np.log(2) * ((along / 16) ** 2 + (across / 8) ** 2))  # 8 and 4 arcsec
    none = np.zeros(blob.shape, dtype=np.int32)
    made = make(disc(wcs=wcs, beam=(8.0, 4.0, 70.0), intensity=blob, intensity_err=np.full(blob.shape, 1e-6), mask=none))
    light = np.nan_to_num(made.stamp.intensity.astype(float))
    y, x = np.indices(light.shape) - 31.5
    xx, yy, xy = ((light * q).sum() / light.sum() for q in (x * x, y * y, x * y))
    angle = np.degrees(np.arctan2(2 * xy, xx - yy)) / 2
    assert abs((angle - made.row["beam_angle_deg"] + 90) % 180 - 90) < 2.0


def test_a_round_or_unknown_beam_has_no_angle(make):
    assert np.isnan(make(disc()).row["beam_angle_deg"])


def test_a_disc_too_large_for_the_datas_field_gets_a_wider_one(make):
    data = make(disc(), r_e_arcsec=3.0)
    assert data.row["field_from"] == "data"
    half = 32 * data.row["stamp_scale_arcsec"]
    most = SETTINGS.maps.field_r_scale_max
    r_e = 1.3 * half * most * R_E_PER_SCALE_LENGTH  # a scale length 1.3 times the largest share of the data's field
    wide = make(disc(), r_e_arcsec=r_e)
    assert wide.row["field_from"] == "r_e"
    assert 32 * wide.row["stamp_scale_arcsec"] == pytest.approx(1.3 * half)
    assert wide.row["r_e_stamp"] / R_E_PER_SCALE_LENGTH / 32 == pytest.approx(most)
    low, high = SETTINGS.network.ranges.r_scale
    assert low < most < high
    huge = make(disc(), r_e_arcsec=10 * r_e)
    assert 32 * huge.row["stamp_scale_arcsec"] == pytest.approx(1.8 * half)
    off = parse_settings({"maps": {"min_pixels": 150, "field_r_scale_max": None}})
    same_stamp(make(disc(), off, r_e_arcsec=r_e).stamp, data.stamp)
    for unknown in (np.nan, 0.0, -5.0):
        same_stamp(make(disc(), r_e_arcsec=unknown).stamp, data.stamp)


WILD = {"velocity": 1e4, "velocity_err": 1e-6, "intensity": 1e4, "intensity_err": 1e-9, "dispersion_sq": 1e7, "dispersion_sq_err": 1e-6}


def with_pixel(maps, at, **values):
    changed = {}
    for name, value in values.items():
        changed[name] = np.array(getattr(maps, name))
        changed[name][at] = value
    return replace(maps, **changed)


@pytest.mark.parametrize("value", [1.0, -1e3, np.nan, np.inf])
def test_one_bad_pixel_changes_no_number_and_no_stamp_pixel(make, value):
    at = (24, 15)
    bad = with_pixel(disc(), at, mask=PIXEL.DO_NOT_USE)
    expected = make(bad)
    found = make(with_pixel(bad, at, **{name: wild * value for name, wild in WILD.items()}))
    for name in STAMP_HDUS[:-1]:
        np.testing.assert_array_equal(getattr(found.stamp, name.lower()), getattr(expected.stamp, name.lower()))
    np.testing.assert_array_equal((found.stamp.mask & BAD_VELOCITY) == 0, (expected.stamp.mask & BAD_VELOCITY) == 0)
    assert found.row.keys() == expected.row.keys()
    for name, number in expected.row.items():
        assert found.row[name] == number or (number != number and found.row[name] != found.row[name]), name  # noqa: PLR0124
    # the pixel does count where it is not masked, or this test could not fail
    counted = make(with_pixel(disc(), at, velocity=disc().velocity[at] + 50, intensity=2e3))
    assert not np.array_equal(counted.stamp.velocity, expected.stamp.velocity, equal_nan=True)
    assert counted.row["intensity_norm"] > 5 * expected.row["intensity_norm"]
    assert not (found.row["flags"] & GALAXY.excluding)


def test_the_hole_of_a_bad_pixel_is_as_large_as_its_reach_and_where_it_is(make):
    at = (24, 15)
    whole, holed = make(disc()), make(with_pixel(disc(), at, mask=PIXEL.DO_NOT_USE))
    gone = ((whole.stamp.mask & BAD_VELOCITY) == 0) & ((holed.stamp.mask & BAD_VELOCITY) != 0)
    assert (holed.stamp.mask[gone] & PIXEL.DO_NOT_USE).all()
    angle, scale = np.radians(IMAGE_ANGLE), holed.row["stamp_scale_arcsec"] / 0.5
    dx, dy = at[1] - CENTRE[0], at[0] - CENTRE[1]
    where = 31.5 + (np.cos(angle) * dx + np.sin(angle) * dy) / scale, 31.5 + (np.cos(angle) * dy - np.sin(angle) * dx) / scale
    rows, columns = np.nonzero(gone)
    assert np.hypot(columns.mean() - where[0], rows.mean() - where[1]) < 0.5
    assert len(rows) == pytest.approx(4 / scale**2, rel=0.3)  # bilinear: a pixel reaches to its four neighbours
