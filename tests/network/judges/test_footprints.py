"""Fields as other surveys would show them."""

import numpy as np
import pytest

from tullyflow.network.judges.footprints import FOOTPRINTS, cut_field, draw_footprint, fill_gaps, smooth_field, vary_field


@pytest.fixture
def field():
    """A rotating field in a hexagon-like footprint, without symmetry."""
    y, x = np.mgrid[:64, :64] - 31.5
    inside = (np.abs(y) < 27) & (np.abs(x) + 0.5 * np.abs(y) < 31)
    return np.where(inside, 80 * np.tanh((x + 0.4 * y) / 9) + 0.2 * y, np.nan).astype(np.float32)


@pytest.mark.parametrize("kind", FOOTPRINTS)
def test_each_kind_of_footprint_leaves_part_of_a_field_and_is_drawn_anew(kind):
    drawn = [draw_footprint(kind, np.random.default_rng(k)) for k in range(20)]
    shares = np.array([one.mean() for one in drawn])
    assert ((shares > 0.1) & (shares < 0.999)).all() and len(np.unique(shares)) > 10


def test_a_circle_is_round_and_a_square_is_not():
    def rim(kind):
        y, x = np.nonzero(draw_footprint(kind, np.random.default_rng(4)))
        area = x.size
        return np.hypot(x - x.mean(), y - y.mean()).max() / np.sqrt(area / np.pi)

    assert rim("circle") == pytest.approx(1, abs=0.05) and rim("square") == pytest.approx(np.sqrt(np.pi / 2), abs=0.07)


def test_a_cut_field_is_centred_and_scaled_anew(field):
    corner = np.zeros((64, 64), dtype=bool)
    corner[8:40, 30:60] = True
    cut = cut_field(field, corner)
    rows, columns = np.nonzero(np.isfinite(cut))
    assert abs((rows.min() + rows.max()) / 2 - 31.5) < 2 and np.ptp(rows) > 52 and np.ptp(columns) > 50
    assert np.nanmedian(cut) == pytest.approx(0, abs=3)


def test_a_field_of_which_hardly_anything_would_be_left_is_kept_whole(field):
    few = np.zeros((64, 64), dtype=bool)
    few[30:34, 30:34] = True
    np.testing.assert_array_equal(cut_field(field, few), field)


def test_gaps_are_filled_by_the_extreme_velocity_of_their_side(field):
    holed = field.copy()
    holed[30:34, 48:51] = np.nan  # the receding side
    holed[28:31, 10:13] = np.nan
    filled = fill_gaps(holed)
    assert np.isfinite(filled[30:34, 48:51]).all() and (filled[30:34, 48:51] > 70).all() and (filled[28:31, 10:13] < -70).all()
    np.testing.assert_array_equal(np.isfinite(filled), np.isfinite(field))
    there = np.isfinite(holed)
    np.testing.assert_array_equal(filled[there], holed[there])


def test_smoothing_keeps_the_footprint_and_takes_noise_away(field):
    noisy = field + np.random.default_rng(2).normal(0, 20, field.shape).astype(np.float32)
    smooth = smooth_field(noisy, 2.0)
    np.testing.assert_array_equal(np.isfinite(smooth), np.isfinite(field))
    assert np.nanstd((smooth - field)[:, 20:44]) < 8


def test_a_variation_depends_on_its_generator_alone(field):
    def varied(seed):
        return vary_field(field, np.random.default_rng(seed))

    np.testing.assert_array_equal(varied(3), varied(3))
    assert sum(not np.array_equal(varied(k), field, equal_nan=True) for k in range(10)) >= 6
    blank = np.full((64, 64), np.nan, np.float32)
    np.testing.assert_array_equal(vary_field(blank, np.random.default_rng(0)), blank)
