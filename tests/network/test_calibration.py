"""Calibrated errors cover the truth as often as one sigma should."""

import numpy as np
import pytest
import torch

from tullyflow.network.calibration import Calibration, _fit, _infer_synthetic, calibrate, identity
from tullyflow.network.checkpoint import load_checkpoint


def test_known_scale_and_floor_are_recovered():
    rng = np.random.default_rng(4)
    scatter = rng.lognormal(0, 1, 20_000)
    residual = rng.normal(0, np.hypot(2.5 * scatter, 1.5))
    assert _fit(residual, scatter) == pytest.approx((2.5, 1.5), rel=0.08)


def test_one_sigma_covers_68_percent_of_skewed_residuals():
    rng = np.random.default_rng(5)
    scatter = rng.lognormal(0, 1, 5000)
    residual = scatter * rng.standard_t(2, 5000)
    scale, floor = _fit(residual, scatter)
    assert np.mean(np.abs(residual) <= np.hypot(scale * scatter, floor)) == pytest.approx(0.6827, abs=0.005)


def test_trained_network_covers_new_discs(settings, trained_dir):
    """Four binomial errors of 1000 discs and of the 300 the fit was made on."""
    checkpoint = load_checkpoint(trained_dir, settings.network, torch.device("cpu"))
    truth, mean, scatter = _infer_synthetic(checkpoint.model.eval(), 1000, 30, torch.Generator().manual_seed(77))
    covered = np.mean(np.abs(truth - mean) <= checkpoint.calibration.errors(mean, scatter), axis=0)
    assert covered == pytest.approx([0.6827] * 4, abs=4 * np.hypot(0.0147, 0.027))
    assert (np.mean(np.abs(truth - mean) <= scatter, axis=0) < 0.6).all(), "dropout alone should be too narrow"


def test_calibration_survives_json_and_is_the_generators_alone(model):
    one, two = (calibrate(model, torch.Generator().manual_seed(9), discs=200, samples=10) for _ in range(2))
    assert one == two == Calibration.from_json(one.to_json())
    assert all(0.4 < c < 0.95 for c in one.coverage_after)


def test_identity_leaves_the_scatter_as_it_is():
    scatter = np.array([[1.0, 0.2, 0.3, 0.4], [np.nan] * 4])
    assert np.array_equal(identity().errors(scatter, scatter), scatter, equal_nan=True)
