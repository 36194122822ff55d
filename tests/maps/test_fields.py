import numpy as np
import pytest

from tullyflow.conventions import STAMP
from tullyflow.flags import PIXEL
from tullyflow.maps.fields import make_field, valid_in_field


@pytest.fixture
def ragged():
    """An asymmetric velocity map of 50x37 pixels with holes, and its valid pixels."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:50, :37]
    velocity = 100 + 4.0 * x - 2.0 * y + rng.normal(0, 3, x.shape)
    valid = (np.hypot(x - 17, y - 26) < 16) & (rng.random(x.shape) > 0.1)
    return velocity, valid


@pytest.mark.parametrize("turn", [np.rot90, np.flipud, np.fliplr, np.transpose], ids=lambda f: f.__name__)
def test_a_turned_map_has_a_turned_field(ragged, turn):
    velocity, valid = ragged
    np.testing.assert_allclose(make_field(turn(velocity), turn(valid)), turn(make_field(velocity, valid)), atol=1e-3)


def test_the_field_is_the_map_about_its_median_and_fills_the_image(ragged):
    velocity, valid = ragged
    field = make_field(np.where(valid, velocity, np.nan), np.ones_like(valid))
    seen = np.isfinite(field)
    assert abs(np.median(field[seen])) < 3
    assert seen.any(axis=0).sum() > 0.9 * STAMP and seen.any(axis=1).sum() > 0.9 * STAMP
    assert np.nanpercentile(field, 98) == pytest.approx(np.percentile(velocity[valid], 98) - np.median(velocity[valid]), abs=4)


@pytest.mark.parametrize(("shape", "ratio"), [((20, 24), "finer"), ((200, 240), "coarser")])
def test_a_plane_stays_a_plane_at_any_resolution(shape, ratio):
    y, x = np.mgrid[: shape[0], : shape[1]]
    velocity = 3.0 * x - 2.0 * y
    field = make_field(velocity, np.ones(shape, bool))
    half_width = (0.98 * (shape[1] - 1) / 2 + 1) / (STAMP / 2)
    offset = (np.arange(STAMP) - (STAMP - 1) / 2) * half_width
    inside = slice(24, 40)
    expected = 3.0 * offset - 2.0 * offset[:, None]
    tolerance = 3.0 * (1.0 if ratio == "finer" else 0.2)  # areas of whole pixels: steps where they are large
    np.testing.assert_allclose(field[inside, inside], expected[inside, inside], atol=tolerance)


def test_pixels_far_from_the_rest_do_not_shrink_the_galaxy(ragged):
    velocity, valid = ragged
    wide = np.pad(velocity, 200, constant_values=7.0)
    there = np.pad(valid, 200)
    expected = make_field(wide, there)
    there[0, 0] = True
    np.testing.assert_allclose(make_field(wide, there), expected, atol=2)


def test_scattered_pixels_show_a_field_too():
    x = np.mgrid[:200, :200][1]
    scattered = np.random.default_rng(2).random(x.shape) < 0.04
    field = make_field(2.0 * x, scattered)
    shown = np.isfinite(field)
    assert 0.2 < shown.mean() < 0.8
    assert np.corrcoef(field[shown], np.mgrid[:64, :64][1][shown])[0, 1] > 0.99


def test_outliers_and_islands_stay_and_what_the_survey_masks_goes():
    mask = np.array([[0, PIXEL.ISLAND, PIXEL.VELOCITY_OUTLIER, PIXEL.LOW_SNR, PIXEL.NO_COVERAGE, PIXEL.NEGATIVE_DISPERSION]])
    assert valid_in_field(mask).tolist() == [[True, True, True, False, False, True]]


def test_a_map_with_no_velocity_or_too_few_has_an_empty_field():
    assert np.isnan(make_field(np.full((9, 9), np.nan), np.ones((9, 9), bool))).all()
    assert np.isnan(make_field(np.ones((9, 9)), np.zeros((9, 9), bool))).all()
    few = np.arange(9.0).reshape(3, 3)
    assert np.isnan(make_field(few, np.ones((3, 3), bool))).all()
    assert np.isfinite(make_field(np.arange(16.0).reshape(4, 4), np.ones((4, 4), bool))).any()
