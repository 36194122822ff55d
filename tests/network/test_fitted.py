"""What is said of a fit: coordinates, what was known beforehand, and samples with its covariance and its tails."""

import numpy as np
import pytest

from tullyflow.network.fitted import Fitted, calibrated_coordinates, v_22_matrix

PARAMETERS = np.array([[55.0, 0.3, 0.1, 150.0], [40.0, 0.15, 0.6, 90.0]])
PLACING = np.array([2.0, 0.5, -0.7, 3.0])


def fitted(sigma=(4.0, 0.05, 0.3, 0.03, 1.0, 0.3, 0.4, 2.0), together=0.6, tail=1.0, inclination=None, held=False, used=True, n=1):
    """Discs like the first of `PARAMETERS`, whose errors are correlated by ``together``, one pair with the other sign."""
    parameters = np.repeat(PARAMETERS[:1], n, axis=0)
    parameters[:, 0] = parameters[:, 0] if inclination is None else inclination
    correlation = np.full((8, 8), together) + (1 - together) * np.eye(8)
    correlation[0, 3] = correlation[3, 0] = 0.1
    covariance = np.repeat((correlation * np.outer(sigma, sigma))[None], n, axis=0)
    by_held = np.zeros((n, 8, 2))
    if held:
        covariance[:, :2], covariance[:, :, :2] = 0, 0
        by_held[:, 2, 0], by_held[:, 3, 1] = 0.02, -0.5
    values = np.concatenate([calibrated_coordinates(parameters), np.repeat(PLACING[None], n, axis=0)], axis=1)
    flags = (np.full(n, held), by_held, np.full(n, used))
    return Fitted(values, covariance, np.full((n, 8), tail), *flags)


def drawn(samples=40_000, n=1, seed=3):
    """The network's samples (sample, galaxy, 4): far from the fit."""
    rng = np.random.default_rng(seed)
    spread = np.exp(0.05 * rng.standard_normal((samples, n, 4)))
    return np.array([65.0, 0.2, 0.3, 200.0]) * spread


def rng():
    return np.random.default_rng(5)


def test_matrix_of_the_velocity_at_2_2_scale_lengths_is_its_derivative():
    step, logs = 1e-6, np.log(PARAMETERS)
    found = v_22_matrix(PARAMETERS)
    assert np.array_equal(found[:, 4:, 4:], np.tile(np.eye(4), (2, 1, 1))) and not found[:, :4, 4:].any()
    for k in range(4):
        moved = [PARAMETERS.copy(), PARAMETERS.copy()]
        for sign, each in zip((1, -1), moved, strict=True):
            each[:, k] = PARAMETERS[:, k] + sign * step if k == 0 else np.exp(logs[:, k] + sign * step)
        slope = (calibrated_coordinates(moved[0]) - calibrated_coordinates(moved[1])) / (2 * step)
        assert slope == pytest.approx(found[:, :4, k], abs=1e-7), k


def test_parameters_come_back_from_the_coordinates():
    there = fitted()
    assert there.parameters == pytest.approx(PARAMETERS[:1])
    assert there.sigma[0] == pytest.approx([4.0, 0.05, 0.3, 0.03, 1.0, 0.3, 0.4, 2.0])


def test_samples_have_the_covariance_of_the_fit():
    fit = fitted()
    off = calibrated_coordinates(fit.samples(drawn(), rng())[:, 0]) - fit.values[0, :4]
    scale = np.outer(fit.sigma[0, :4], fit.sigma[0, :4])
    assert np.cov(off.T) / scale == pytest.approx(fit.covariance[0, :4, :4] / scale, abs=0.03)
    assert np.median(off, axis=0) / fit.sigma[0, :4] == pytest.approx(0, abs=0.03)


def test_a_tail_widens_two_sigma_and_not_one():
    fit = fitted(tail=1.7, sigma=(2.0, 0.05, 0.2, 0.03, 1, 1, 1, 1))
    pull = np.abs(calibrated_coordinates(fit.samples(drawn(), rng())[:, 0]) - fit.values[0, :4]) / fit.sigma[0, :4]
    assert np.mean(pull < 1, axis=0) == pytest.approx(0.6827, abs=0.01)
    assert np.quantile(pull, 0.9545, axis=0) == pytest.approx(2 * 1.7, rel=0.03)


def test_inclinations_beyond_ninety_are_the_same_disc_from_below():
    samples = fitted(inclination=88.0, sigma=(5.0, *[0.05] * 7)).samples(drawn(), rng())[:, 0, 0]
    assert samples.max() <= 90 and np.mean(samples > 88) == pytest.approx(0.288, abs=0.02)  # P(88 < i < 92)
    assert fitted(inclination=2.0, sigma=(5.0, *[0.05] * 7)).samples(drawn(), rng())[..., 0].min() >= 1


def test_an_unresolved_turnover_cannot_run_away():
    samples = fitted(sigma=(4.0, 0.05, 30.0, 0.03, 1, 1, 1, 1)).samples(drawn(), rng())[:, 0]
    assert np.abs(np.log(samples[:, 2] / 0.1)).max() <= 2 + 1e-9
    assert np.isfinite(samples).all()


def test_held_galaxies_take_the_inclination_drawn_and_the_curve_follows():
    fit, given = fitted(held=True, together=0.0), drawn()
    samples = fit.samples(given, rng())[:, 0]
    assert np.allclose(samples[:, :2], given[:, 0, :2])
    off = calibrated_coordinates(samples) - fit.values[0, :4]
    by_inclination = np.polyfit(given[:, 0, 0], off[:, 2], 1)[0]
    by_scale = np.polyfit(np.log(given[:, 0, 1]), off[:, 3], 1)[0]
    assert (by_inclination, by_scale) == (pytest.approx(0.02, rel=0.05), pytest.approx(-0.5, rel=0.05))


def test_galaxies_without_a_fit_keep_the_networks_samples():
    none, given = fitted(used=False, n=2), drawn(100, 2)
    mixed = Fitted(
        np.where([[True], [False]], none.values, np.nan), np.where([[[True]], [[False]]], none.covariance, np.nan), none.tail,
        none.held, none.by_held, np.array([True, False]),
    )  # fmt: skip
    samples = mixed.samples(given, rng())
    assert np.array_equal(samples[:, 1], given[:, 1])
    assert np.isfinite(samples).all() and not np.isclose(samples[:, 0], given[:, 0]).any(axis=0).all()


def test_known_inclinations_multiply_two_normal_distributions():
    fit = fitted()
    told = fit.knowing(np.array([50.0]), np.array([3.0]))
    precision = np.linalg.inv(fit.covariance[0])
    more = precision.copy()
    more[0, 0] += 3.0**-2
    assert told.covariance[0] == pytest.approx(np.linalg.inv(more), rel=1e-9)
    pull = precision @ fit.values[0]
    pull[0] += 50 / 3.0**2
    assert told.values[0] == pytest.approx(np.linalg.solve(more, pull), rel=1e-9)
    assert told.sigma[0, 0] < min(3.0, fit.sigma[0, 0]) and 50 < told.values[0, 0] < 55


@pytest.mark.parametrize(("inclination", "err"), [(np.nan, 3.0), (50.0, np.nan), (50.0, 0.0)])
def test_unknown_inclinations_tell_nothing(inclination, err):
    fit = fitted()
    told = fit.knowing(np.array([inclination]), np.array([err]))
    assert np.array_equal(told.values, fit.values) and np.array_equal(told.covariance, fit.covariance)


def test_what_is_held_or_has_no_fit_is_told_nothing():
    for fit in (fitted(held=True), fitted(used=False)):
        told = fit.knowing(np.array([50.0]), np.array([3.0]))
        assert np.array_equal(told.values, fit.values) and np.array_equal(told.covariance, fit.covariance)
