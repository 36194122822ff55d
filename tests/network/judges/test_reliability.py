"""Whether probabilities mean what they say is measured right."""

import numpy as np
import pytest

from tullyflow.network.judges.reliability import accuracy_kept, calibration_error, fit_platt, reliability


def test_probabilities_that_are_frequencies_have_no_calibration_error():
    rng = np.random.default_rng(0)
    probability = rng.random(200_000)
    assert calibration_error(probability, rng.random(200_000) < probability) < 0.005


def test_the_error_is_how_far_probability_is_from_frequency():
    true = np.arange(1000) % 10 < 6
    assert calibration_error(np.full(1000, 0.9), true) == pytest.approx(0.3)
    half = np.where(np.arange(1000) < 500, 0.95, 0.65)  # one half right as said, the other wrong by 0.05
    true = np.where(np.arange(1000) < 500, np.arange(1000) % 20 < 19, np.arange(1000) % 10 < 7)
    assert calibration_error(half, true) == pytest.approx(0.025)


def test_bins_hold_their_fields_and_unknown_ones_are_left_out():
    found = reliability([0.05, 0.04, 1.0, np.nan, 0.99, 0.5], [0, 1, 1, 1, np.nan, 1])
    np.testing.assert_array_equal(found.number, [2, 1, 1])
    np.testing.assert_allclose(found.probability, [0.045, 0.5, 1.0])
    np.testing.assert_allclose(found.share, [0.5, 1.0, 1.0])
    assert np.isnan(calibration_error([np.nan], [1]))


def test_the_surest_fields_are_kept_first():
    found = accuracy_kept([0.99, 0.01, 0.6, 0.45], [1, 0, 0, 0], (0.5, 0.75, 1.0))
    np.testing.assert_allclose(found.share, [0.5, 0.75, 1.0])
    np.testing.assert_allclose(found.accuracy, [1.0, 2 / 3, 3 / 4])


def test_platt_finds_the_logistic_that_drew_the_classes():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 4, 100_000)
    true = rng.random(logits.size) < 1 / (1 + np.exp(-(0.6 * logits - 0.8)))
    slope, offset = fit_platt(logits, true)
    assert slope == pytest.approx(0.6, abs=0.02) and offset == pytest.approx(-0.8, abs=0.04)


def test_platt_stays_finite_where_there_is_little_to_learn_from():
    assert fit_platt([1.0, 2.0], [1, 1]) == (1.0, 0.0)
    slope, offset = fit_platt([-3.0, -2.0, 2.0, 3.0], [0, 0, 1, 1])
    assert 0.3 < slope < 5 and abs(offset) < 0.5
    assert fit_platt([3.0, 2.0, -2.0, -3.0], [0, 0, 1, 1])[0] > 0  # never turns the order round
