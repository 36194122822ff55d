"""Asymmetric drift: against the equation it approximates, where it applies, and what it does to a relation."""

import numpy as np
import pandas as pd
import pytest

from tullyflow.flags import GALAXY
from tullyflow.relation.drift import correct_drift, correct_velocities, corrected_velocities, drift_factor
from tullyflow.settings import parse_settings
from tullyflow.tables import VELOCITIES


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


def jeans_circular(r, rotation, r_scale, sigma_phi, ratio):
    """Circular velocity of an exponential disc in equilibrium (Binney & Tremaine eq. 4.227), derivatives by central differences.

    ``rotation(r)`` and ``ratio(r)`` = sigma_phi^2 / sigma_R^2 are functions of the radius; sigma_phi is constant.
    """
    step = 1e-5 * r
    pressure = [np.log(np.exp(-x / r_scale) * sigma_phi**2 / ratio(x)) for x in (r - step, r + step)]
    slope = r * (pressure[1] - pressure[0]) / (2 * step)
    return np.sqrt(rotation(r) ** 2 - sigma_phi**2 / ratio(r) * (slope + 1 - ratio(r)))


@pytest.mark.parametrize("sigma", [10.0, 25.0, 60.0])
@pytest.mark.parametrize("radius", [3.0, 8.8, 14.0])
@pytest.mark.parametrize(
    ("kind", "rotation", "ratio"),
    [
        ("evans", lambda r: 150.0, lambda r: 0.5),  # a flat curve: epicycles make the radial dispersion sqrt 2 larger
        ("isotropic", lambda r: 2 / np.pi * 150 * np.arctan(r / 5), lambda r: 1.0),  # whatever the curve
    ],
)
def test_correction_gives_the_circular_velocity_of_a_disc_in_equilibrium(kind, rotation, ratio, radius, sigma):
    truth = jeans_circular(radius, rotation, 4.0, sigma, ratio)
    drift = correct_drift([rotation(radius)], [3.0], [sigma], [0.0], [radius], [4.0], kind)
    assert truth > rotation(radius)
    assert drift.v_kms[0] == pytest.approx(truth, rel=1e-6)


def test_evans_corrects_more_than_a_rising_curve_asks_for():
    """Its factor is a flat curve's: where V still rises the epicycles leave the radial dispersion nearer the azimuthal one."""

    def rotation(r):
        return 2 / np.pi * 150 * np.arctan(r / 4)

    def ratio(r):
        return (1 + (r / 4) / ((1 + (r / 4) ** 2) * np.arctan(r / 4))) / 2

    truth = jeans_circular(10.0, rotation, 4.0, 40.0, ratio)
    evans, isotropic = (correct_drift([rotation(10)], [0.0], [40.0], [0.0], [10.0], [4.0], k).v_kms[0] for k in ("evans", "isotropic"))
    assert isotropic < truth < evans < 1.06 * truth


def test_corrections_of_50_km_s_take_dispersions_of_50_and_more():
    """At 3.5 scale lengths: what the thesis calls typical is not the drift of gas of 25 km/s."""
    factor = drift_factor(3.5, 1.0, "evans")
    assert factor == 6
    for v in (150.0, 200.0):
        needed = np.sqrt(((v + 50) ** 2 - v**2) / factor)
        assert needed > 50
        assert correct_drift([v], [0.0], [needed], [0.0], [3.5], [1.0], "evans").v_kms[0] == pytest.approx(v + 50)
        assert correct_drift([v], [0.0], [25.0], [0.0], [3.5], [1.0], "evans").v_kms[0] < v + 13


def sample_of(**columns):
    """One galaxy with everything the correction needs."""
    row = {
        "r_scale_used_arcsec": 4.0, "r_scale_arcsec_err": 0.4, "r_e_arcsec": 8.0, "r_max_arcsec": 14.0, "inclination_kind": "kinematic",
        "outer_dispersion_kms": 30.0, "outer_dispersion_err_kms": 2.0, "flags": 0,
    } | {f"{v}_kms": 150.0 for v in VELOCITIES} | {f"log_{v}_err": 0.02 for v in VELOCITIES}  # fmt: skip
    return pd.DataFrame([row | columns])


def corrected(drift="evans", drift_at="v_max", **columns):
    sample = sample_of(**columns)
    correct_velocities(sample, parse_settings({"relation": {"drift": drift, "drift_at": drift_at}}).relation)
    return sample.iloc[0]


def test_each_velocity_takes_its_own_radius_and_v_max_that_of_the_outermost_data():
    row = corrected()
    for velocity, radius in {"v_max": 14, "v_rmax": 14, "v_22": 8.8, "v_re": 8, "v_80": 2.994 * 4}.items():
        assert row[f"{velocity}_circ_kms"] == pytest.approx(np.sqrt(150**2 + 900 * (2 * radius / 4 - 1))), velocity
        assert row[f"log_{velocity}_circ_err"] > 0


@pytest.mark.parametrize(
    ("drift", "drift_at", "changed"),
    [("evans", "r_max", {"v_rmax"}), ("isotropic", "v_max", set(VELOCITIES)), ("off", "v_max", set())],
)
def test_setting_says_which_velocities_are_corrected(drift, drift_at, changed):
    row = corrected(drift, drift_at)
    assert {v for v in VELOCITIES if row[f"{v}_circ_kms"] != row[f"{v}_kms"]} == changed == set(corrected_velocities(drift, drift_at))
    assert row["flags"] == 0
    for velocity in set(VELOCITIES) - changed:
        assert row[f"log_{velocity}_circ_err"] == row[f"log_{velocity}_err"]


def test_no_correction_asked_for_is_no_correction_missing():
    assert corrected("off", outer_dispersion_kms=np.nan)["flags"] == 0
    assert corrected("evans", outer_dispersion_kms=np.nan)["flags"] == GALAXY.NO_DRIFT_CORRECTION
    assert corrected("evans", "r_max", r_max_arcsec=np.nan, v_rmax_kms=np.nan)["flags"] == 0  # there is no velocity to correct


def test_scale_lengths_error_counts_where_the_radius_is_not_so_many_of_them():
    sure, unsure = (corrected(r_scale_arcsec_err=err) for err in (0.0, 1.2))
    for velocity in VELOCITIES:
        grows = unsure[f"log_{velocity}_circ_err"] > 1.01 * sure[f"log_{velocity}_circ_err"]
        assert grows == (velocity in ("v_max", "v_rmax", "v_re")), velocity
    without = [corrected(r_scale_arcsec_err=err, r_e_arcsec=np.nan)["log_v_re_circ_err"] for err in (0.0, 1.2)]
    assert without[0] == without[1]  # R_e is then so many scale lengths too


@pytest.mark.parametrize(("kind", "r_e", "counts"), [
    ("photometric", 8.0, False), ("photometric", np.nan, True), ("photometric", 0.0, True), ("kinematic", 8.0, True),
])  # fmt: skip
def test_scale_length_has_the_networks_error_wherever_it_is_the_networks(kind, r_e, counts):
    sure, unsure = (corrected(inclination_kind=kind, r_e_arcsec=r_e, r_scale_arcsec_err=err) for err in (0.0, 1.2))
    assert (unsure["log_v_max_circ_err"] > 1.01 * sure["log_v_max_circ_err"]) == counts
    assert unsure["v_max_circ_kms"] == sure["v_max_circ_kms"]


def test_drift_makes_the_reverse_relation_flatter_and_higher_as_the_thesis_says():
    """Masses on a relation in circular velocity; rotation velocities are lower by the drift, most so at low mass."""
    mass = np.linspace(9.3, 11.2, 60)
    circular = 10 ** (0.26 * (mass - 10.09) + 2.26)
    radius, sigma = 12 + 2 * np.sin(7 * mass), 35 + 5 * np.cos(5 * mass)
    rotation = np.sqrt(circular**2 - sigma**2 * drift_factor(radius, 4.0, "evans"))
    back = correct_drift(rotation, 0.0, sigma, 0.0, radius, 4.0, "evans").v_kms
    assert np.allclose(back, circular)
    half = correct_drift(rotation, 0.0, sigma, 0.0, radius, 4.0, "isotropic").v_kms
    (off, low), (some, middle), (on, high) = (np.polyfit(mass - 10.09, np.log10(v), 1) for v in (rotation, half, back))
    assert off > some > on == pytest.approx(0.26)
    assert low < middle < high == pytest.approx(2.26)
