"""Rank correlations: recovered, honest under the null, freed of what drives both; and the trends of a sample, absent ones said."""

import json

import numpy as np
import pytest
from astropy.table import Table
from scipy.stats import kstest, spearmanr

from tullyflow.relation.rank_correlation import MIN_PAIRS, correlate_ranks
from tullyflow.relation.trends import PUBLISHED, QUANTITIES, list_trends, measure_trends, quantities
from tullyflow.relation.tully_fisher import fit_relation
from tullyflow.tables import SAMPLE, write_table

from .conftest import mock_sample, settings_with


def pairs(rng, n, rho):
    """Normal pairs whose rank correlation is ``rho`` (Pearson's is 2 sin(pi rho / 6))."""
    r = 2 * np.sin(np.pi * rho / 6)
    x = rng.standard_normal(n)
    return x, r * x + np.sqrt(1 - r**2) * rng.standard_normal(n)


@pytest.mark.parametrize("rho", [0.7, -0.37, 0.0])
def test_known_rank_correlation_is_recovered_within_its_error(rho):
    rng = np.random.default_rng(3)
    found = [correlate_ranks(*pairs(rng, 150, rho), rng) for _ in range(60)]
    values, errors = np.array([f.rho for f in found]), np.array([f.rho_err for f in found])
    assert values.mean() == pytest.approx(rho, abs=4 * values.std() / np.sqrt(60) + 0.005)
    assert np.median(errors) == pytest.approx(values.std(), rel=0.3)


def test_coefficient_is_spearmans_and_does_not_see_the_scale():
    rng = np.random.default_rng(1)
    x, y = pairs(rng, 80, 0.5)
    x[:20], y[10:30] = np.round(x[:20]), 1.0  # ties
    expected = spearmanr(x, y).statistic
    assert correlate_ranks(x, y, rng).rho == pytest.approx(expected)
    assert correlate_ranks(np.exp(3 * x), -(y**3), rng).rho == pytest.approx(-expected)


def test_p_is_uniform_where_there_is_nothing():
    rng = np.random.default_rng(5)
    plain = [correlate_ranks(*pairs(rng, 40, 0.0), rng).p for _ in range(200)]
    driver = rng.standard_normal((200, 40))
    noise = rng.standard_normal((2, 200, 40))
    partial = [correlate_ranks(2 * z + a, z + b, rng, z).p for z, a, b in zip(driver, *noise, strict=True)]
    assert kstest(plain, "uniform").pvalue > 1e-3
    assert kstest(partial, "uniform").pvalue > 1e-3


def test_partial_correlation_removes_what_mass_drives_and_keeps_the_rest():
    rng = np.random.default_rng(9)
    mass, extra = rng.standard_normal((2, 600))
    age, v = mass + 0.5 * rng.standard_normal(600), mass + 0.5 * rng.standard_normal(600)
    assert correlate_ranks(age, v, rng).rho > 0.7
    freed = correlate_ranks(age, v, rng, mass)
    assert abs(freed.rho) < 3 * freed.rho_err and abs(freed.rho) < 0.15
    kept = correlate_ranks(age + extra, v + extra, rng, mass)
    assert kept.rho > 0.5 and kept.p < 0.01


def test_pairs_that_are_not_finite_or_do_not_vary_have_no_correlation():
    rng = np.random.default_rng(0)
    x, y = pairs(rng, 30, 0.9)
    x[:15], y[5:16] = np.nan, np.inf
    assert correlate_ranks(x, y, rng).n == 14
    few = correlate_ranks(x[:20], y[:20], rng)
    assert few.n < MIN_PAIRS and np.isnan([few.rho, few.rho_err, few.p]).all()
    assert np.isnan(correlate_ranks(np.ones(30), pairs(rng, 30, 0.0)[1], rng).rho)
    assert np.isnan(correlate_ranks(*pairs(rng, 30, 0.5), rng, np.full(30, np.nan)).rho)


def test_same_seed_gives_the_same_numbers():
    x, y = pairs(np.random.default_rng(2), 50, 0.3)
    assert correlate_ranks(x, y, np.random.default_rng(7)) == correlate_ranks(x, y, np.random.default_rng(7))


@pytest.fixture
def run(tmp_path):
    """A sample whose V and age go with mass, whose reverse residual goes with r_turn / R_e, and its fits; returns a function."""
    rng = np.random.default_rng(12)
    sample, _ = mock_sample(rng, n=260, v_err=0.02)
    residual = np.log10(sample["v_max_kms"]) - 0.26 * (sample["log_mstar"] - 10.09) - 2.26
    sample["log_age_yr"] = 9.5 + 0.3 * (sample["log_mstar"] - 10) + 0.1 * rng.standard_normal(260)
    sample["r_e_arcsec"] = 5.0
    sample["r_turn_arcsec"] = 5.0 * 10 ** (4 * residual + 0.1 * rng.standard_normal(260))
    sample["survey"] = np.where(np.arange(260) < 130, "manga", "sami")
    settings = settings_with(drift="off", log_mstar_err=0.01, methods=["ols"], velocities=["v_max"])

    def measure(sample=sample):
        write_table(tmp_path / "sample.parquet", sample, SAMPLE)
        paths = [tmp_path / f"{name}.json" for name in ("reverse", "r_band")]
        for path in paths:
            fit_relation(tmp_path / "sample.parquet", path.stem, "v_max", "ols", settings, path)
        return measure_trends(tmp_path / "sample.parquet", paths, settings, tmp_path / "trends.json")

    return sample, settings, measure, tmp_path


def find(record, x, y, at_fixed=None, survey="all"):
    wanted = (x, y, at_fixed, survey)
    return next(row for row in record["rows"] if (row["x"], row["y"], row["at_fixed"], row["survey"]) == wanted)


def test_trends_are_found_where_they_are_and_not_where_they_are_not(run):
    record = run[2]()
    assert find(record, "log_age_yr", "log_v")["rho"] > 0.6 and find(record, "log_age_yr", "log_v", "log_mstar")["p"] > 0.01
    assert find(record, "r_turn_over_re", "residual_reverse")["rho"] > 0.6
    assert find(record, "r_turn_over_re", "residual_reverse", survey="sami")["n"] == 130
    control = find(record, "inclination_used_deg", "residual_reverse")
    assert control["kind"] == "control" and control["p"] > 0.01


def test_published_values_stand_beside_the_survey_they_are_of(run):
    record = run[2]()
    assert find(record, "log_age_yr", "log_v", survey="manga")["published"] == 0.605
    assert [find(record, "log_age_yr", "log_v", survey=survey)["published"] for survey in ("all", "sami")] == [None, None]
    assert find(record, "r_turn_over_re", "residual_r_band", "log_mstar", "sami")["published"] is None
    known = {(trend.x, trend.y) for trend in list_trends(["reverse", "forward", "r_band"]) if trend.at_fixed is None}
    assert {(x, y) for x, y, _ in PUBLISHED} <= known and {name for pair in known for name in pair} <= set(QUANTITIES)


@pytest.fixture
def two_velocities(run):
    """The sample of ``run`` where V_22 has none of V_max's residual, fitted and measured with both velocities; V_22 comes first."""
    sample, _, _, folder = run
    rng = np.random.default_rng(8)
    sample["v_22_kms"] = 10 ** (0.26 * (sample["log_mstar"] - 10.09) + 2.2 + 0.05 * rng.standard_normal(260))
    sample["log_v_22_err"] = 0.02
    settings = settings_with(drift="off", log_mstar_err=0.01, methods=["ols"], velocities=["v_22", "v_max"])
    paths = [folder / f"{relation}-{velocity}.json" for relation in ("reverse", "r_band") for velocity in ("v_max", "v_22")]

    def measure(sample=sample):
        write_table(folder / "sample.parquet", sample, SAMPLE)
        for path in paths:
            fit_relation(folder / "sample.parquet", *path.stem.split("-"), "ols", settings, path)
        return measure_trends(folder / "sample.parquet", paths, settings, folder / "trends.json")

    return sample, measure


def of(record, x, y, velocity, at_fixed=None, survey="all"):
    return find({"rows": [row for row in record["rows"] if row["velocity"] == velocity]}, x, y, at_fixed, survey)


def test_residuals_of_every_velocity_are_measured_and_those_of_the_first_come_first(two_velocities):
    record = two_velocities[1]()
    assert record["velocity"] == "v_22"
    velocities = [row["velocity"] for row in record["rows"] if row["velocity"]]
    assert velocities == sorted(velocities) and set(velocities) == {"v_22", "v_max"}  # 22 before max
    assert of(record, "r_turn_over_re", "residual_reverse", "v_max")["rho"] > 0.6
    assert abs(of(record, "r_turn_over_re", "residual_reverse", "v_22")["rho"]) < 0.3
    assert {row["y"] for row in record["rows"] if row["velocity"] == "v_max"} == {"residual_reverse", "residual_r_band"}
    assert find(record, "log_mstar", "r_turn_over_re")["velocity"] is None
    source = [of(record, "r_turn_over_re", "residual_r_band", v, survey="sami")["published_source"] for v in ("v_22", "v_max")]
    assert source == ["Dawson thesis, of V_max", "Dawson thesis"]


def test_rows_whose_quantities_have_a_third_in_both_say_so(two_velocities):
    sample, measure = two_velocities
    sample["log_ssfr"], own = -10.0 + 0.01 * np.arange(260), np.linspace(0, 1, 260)
    made = sample["log_mstar"] + 0.4 * (sample["abs_mag_r"] - 4.65)
    record = measure(sample.assign(log_ml=np.where(sample["survey"] == "sami", own, made)))
    assert "r_turn and V_max" in of(record, "r_turn_over_re", "residual_reverse", "v_max")["shared"]
    assert "mass-to-light" in of(record, "log_ml", "residual_reverse", "v_max")["shared"]
    assert "mass-to-light" in of(record, "log_ml", "residual_r_band", "v_22", "log_mstar", "manga")["shared"]
    assert "star formation" in of(record, "log_ssfr", "residual_reverse", "v_22")["shared"]
    for free in (("r_turn_over_re", "residual_reverse", "v_22"), ("log_ml", "residual_reverse", "v_max", None, "sami"),
                 ("log_ml", "residual_reverse", "v_max", "log_mstar"), ("log_ssfr", "residual_r_band", "v_max"),
                 ("log_sfr", "residual_reverse", "v_max")):  # fmt: skip
        assert of(record, *free)["shared"] is None, free


def test_what_nobody_has_is_said_row_by_row(run):
    sample, _, measure, folder = run
    sample.loc[sample["survey"] == "sami", "log_age_yr"] = np.nan
    record = measure(sample.assign(delta_pa_deg=7.0))
    assert find(record, "log_ssfr", "log_v")["error"] == "not available: no galaxy has a specific star formation rate."
    assert "stellar age" in find(record, "log_age_yr", "log_v", survey="sami")["error"]
    assert find(record, "log_age_yr", "log_v")["n"] == 130
    assert find(record, "delta_pa_deg", "log_v", "log_mstar")["error"] == "All values are the same."
    written = json.loads((folder / "trends.json").read_text())["rows"]
    assert written == record["rows"] or len(written) == len(record["rows"])
    assert len(Table.read(folder / "trends.ecsv")) == len(written)


def test_a_relation_without_a_line_has_no_residuals_and_an_empty_sample_no_trends(run):
    sample, _, measure, _ = run
    record = measure(sample.assign(abs_mag_r=np.nan))
    assert "residual of the r-band relation" in find(record, "log_age_yr", "residual_r_band")["error"]
    assert all(row["error"] for row in measure(sample.assign(used=False))["rows"])


def test_residuals_are_y_less_the_line_of_all_used_galaxies(run):
    sample, settings, _, _ = run
    sample.loc[3, "used"] = False
    fit = {"relation": "reverse", "velocity": "v_max", "slope": 0.25, "intercept": 2.2, "pivot": 10.0, "method": "ols"}
    other = fit | {"velocity": "v_22", "slope": 9.0}
    table = quantities(sample, [other, fit], "v_max", settings)
    assert len(table) == 259 and 3 not in table.index
    expected = np.log10(sample["v_max_kms"]) - 0.25 * (sample["log_mstar"] - 10) - 2.2
    np.testing.assert_allclose(table["residual_reverse"], expected.drop(index=3))
    np.testing.assert_allclose(table["log_ml"], (sample["log_mstar"] + 0.4 * (sample["abs_mag_r"] - 4.65)).drop(index=3))
