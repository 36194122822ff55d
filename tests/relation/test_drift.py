import numpy as np
import pytest

from tullyflow.relation.drift import correct_drift


def test_hand_worked_example_of_eq_4_4():
    # V = 150, sigma = 25, r_max = 12", r_scale = 4": factor 2 * 3 - 1 = 5, V^2 = 22500 + 625 * 5 = 25625
    drift = correct_drift([150.0], [3.0], [25.0], [2.0], [12.0], [4.0], "evans")
    assert drift.applied[0]
    assert drift.v_kms[0] == pytest.approx(np.sqrt(25625))
    # dV = sqrt((150 * 3)^2 + (25 * 5 * 2)^2) / V
    assert drift.v_err[0] == pytest.approx(np.hypot(450, 250) / np.sqrt(25625))
    isotropic = correct_drift([150.0], [3.0], [25.0], [2.0], [12.0], [4.0], "isotropic")
    assert isotropic.v_kms[0] == pytest.approx(np.sqrt(22500 + 625 * 3))


def test_typical_dispersion_of_25_gives_a_few_km_s_not_50():
    drift = correct_drift([180.0], [5.0], [25.0], [1.0], [3.0], [1.0], "evans")
    assert 5 < drift.v_kms[0] - 180 < 20


@pytest.mark.parametrize(
    "change",
    [{"r_max": 1.9}, {"sigma_kms": np.nan}, {"sigma_kms": -1.0}, {"r_max": np.nan}, {"r_scale": np.nan}, {"r_scale": 0.0}],
    ids=["negative factor", "no dispersion", "negative dispersion", "no r_max", "no r_scale", "zero r_scale"],
)
def test_where_it_cannot_be_applied_the_velocity_comes_back_as_it_was(change):
    arguments = dict(v_kms=150.0, v_err=3.0, sigma_kms=25.0, sigma_err=2.0, r_max=12.0, r_scale=4.0) | change
    drift = correct_drift(**{k: np.array([v]) for k, v in arguments.items()}, kind="evans")
    assert not drift.applied[0]
    assert (drift.v_kms[0], drift.v_err[0]) == (150.0, 3.0)


def test_nan_velocity_stays_nan_and_zero_dispersion_changes_nothing():
    drift = correct_drift([np.nan, 150.0], [3.0, 3.0], [25.0, 0.0], [2.0, 2.0], [12.0, 12.0], [4.0, 4.0], "evans")
    assert np.isnan(drift.v_kms[0]) and not drift.applied[0]
    assert drift.v_kms[1] == 150.0 and drift.applied[1]


def test_error_agrees_with_monte_carlo():
    rng = np.random.default_rng(4)
    n = 100_000
    v, sigma, scale = 120 + 4 * rng.standard_normal(n), 30 + 2 * rng.standard_normal(n), 4 + 0.15 * rng.standard_normal(n)
    draws = correct_drift(v, np.zeros(n), sigma, np.zeros(n), np.full(n, 13.0), scale, "evans").v_kms
    drift = correct_drift([120.0], [4.0], [30.0], [2.0], [13.0], [4.0], "evans", r_scale_err=0.15)
    assert drift.v_err[0] == pytest.approx(draws.std(), rel=0.02)
