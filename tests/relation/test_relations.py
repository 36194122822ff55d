"""From the sample to a relation's JSON, the literature beside it, and the closure of a mock run."""

import json

import numpy as np
import pytest

from tullyflow.errors import RelationError
from tullyflow.flags import GALAXY
from tullyflow.relation.closure import check_closure
from tullyflow.relation.literature import LITERATURE, offsets
from tullyflow.relation.tully_fisher import fit_relation, relation_points
from tullyflow.tables import SAMPLE, TRUTH, write_table

from .conftest import mock_sample, settings_with

KEYS = {
    "relation", "method", "x", "y", "velocity", "pivot", "slope", "slope_err", "intercept", "intercept_err", "scatter", "scatter_err",
    "rms", "n_used", "n_outliers", "surveys", "drift", "outliers",
}  # fmt: skip


@pytest.fixture
def mock(tmp_path):
    """A mock sample and its truth on disk; ``rewrite`` writes changed ones."""
    sample, truth = mock_sample(np.random.default_rng(21))

    def rewrite(sample=sample, truth=truth):
        write_table(tmp_path / "sample.parquet", sample, SAMPLE)
        write_table(tmp_path / "truth.parquet", truth, TRUTH)
        return tmp_path

    rewrite()
    return sample, truth, rewrite


def fit(folder, relation="reverse", velocity="v_max", method="lts", **settings):
    relation_settings = {"drift": "off", "log_mstar_err": 0.01} | settings
    out = folder / f"{relation}-{velocity}-{method}.json"
    fit_relation(folder / "sample.parquet", relation, velocity, method, settings_with(**relation_settings), out)
    return json.loads(out.read_text())


@pytest.mark.parametrize("method", ["lts", "mnr", "ols"])
@pytest.mark.parametrize(("relation", "slope"), [("reverse", 0.26), ("forward", 3.7), ("r_band", -8.0)])
def test_each_relation_has_the_keys_and_the_slope(relation, slope, method, mock, tmp_path):
    record = fit(tmp_path, relation, method=method)
    assert record.keys() >= KEYS
    assert record["slope"] == pytest.approx(slope, rel=0.12)
    assert record["n_used"] + record["n_outliers"] == 120
    assert (record["x"], record["y"]) == {
        "reverse": ("log_mstar", "log10(v_max_kms)"),
        "forward": ("log10(v_max_kms)", "log_mstar"),
        "r_band": ("log10(v_max_kms)", "abs_mag_r"),
    }[relation]
    assert record["surveys"] == ["manga"] and record["drift"] == "off"


def test_same_input_gives_the_same_bytes(mock, tmp_path):
    fit(tmp_path, method="mnr")
    first = (tmp_path / "reverse-v_max-mnr.json").read_bytes()
    fit(tmp_path, method="mnr")
    assert (tmp_path / "reverse-v_max-mnr.json").read_bytes() == first


def test_only_used_galaxies_are_fitted_and_outliers_are_named(mock, tmp_path):
    sample, _, rewrite = mock
    sample.loc[0, "v_max_kms"] *= 8  # an outlier
    sample.loc[1, ["v_max_kms", "used"]] = [1e4, False]
    sample.loc[2, "log_v_max_err"] = np.nan
    rewrite(sample)
    record = fit(tmp_path)
    assert record["n_used"] + record["n_outliers"] == 118 and record["n_missing"] == 1
    assert "mock-0" in record["outliers"] and "mock-1" not in record["outliers"]


def test_null_pivot_is_the_median_of_x(mock, tmp_path):
    sample = mock[0]
    assert fit(tmp_path, pivot_log_mstar=None)["pivot"] == pytest.approx(sample["log_mstar"].median())
    assert fit(tmp_path)["pivot"] == 10.09


def test_corrected_velocity_is_fitted_unless_the_drift_is_off(mock, tmp_path):
    sample, _, rewrite = mock
    rewrite(sample.assign(v_max_circ_kms=1.1 * sample["v_max_kms"]))
    off, on = fit(tmp_path), fit(tmp_path, drift="evans")
    assert on["intercept"] - off["intercept"] == pytest.approx(np.log10(1.1), abs=1e-6)
    assert (off["drift"], on["drift"], on["y"]) == ("off", "evans", "log10(v_max_circ_kms)")


@pytest.mark.parametrize(("share", "drift"), [(0.1, "off"), (0.45, "off"), (0.5, "evans"), (0.9, "evans")])
def test_drift_is_named_only_where_half_of_the_velocities_were_corrected(share, drift, mock, tmp_path):
    sample, _, rewrite = mock
    sample.loc[[118, 119], "log_v_max_circ_err"] = np.nan
    n = round(share * 118)  # the last two lack an error and do not count
    moved = (np.arange(120) < n) | (np.arange(120) >= 118)
    rewrite(sample.assign(v_max_circ_kms=np.where(moved, 1.1, 1.0) * sample["v_max_kms"]))
    record = fit(tmp_path, drift="evans")
    assert (record["drift"], record["n_corrected"], record["n_missing"]) == (drift, n, 2)
    thesis = next(row for row in offsets(record) if row.name == "Dawson thesis")
    bloom = next(row for row in offsets(record) if row.name == "Bloom+2017")
    said = f"(ours: {n} of 118 corrected)"
    assert (f"drift evans {said}" in thesis.unlike, f"drift off {said}" in bloom.unlike) == (drift == "off", drift == "evans")
    assert fit(tmp_path)["n_corrected"] == 0


def test_mass_without_an_error_gets_that_of_the_settings_and_zero_is_allowed(mock, tmp_path):
    sample, _, rewrite = mock
    sample.loc[:5, "log_mstar_err"] = 0.05
    rewrite(sample)
    scatters = [fit(tmp_path, log_mstar_err=err)["scatter"] for err in (0.0, 0.1, 0.2)]
    assert scatters[0] > scatters[1] > scatters[2]


def test_too_few_galaxies_leave_a_sentence_for_the_report(mock, tmp_path):
    sample, _, rewrite = mock
    rewrite(sample.assign(used=np.arange(120) < 4))
    record = fit(tmp_path)
    assert record["n_used"] == 4 and "at least 10" in record["error"] and "slope" not in record
    assert offsets(record) == []
    rewrite(sample.assign(used=False))
    assert fit(tmp_path, pivot_log_mstar=None)["n_used"] == 0


def test_one_survey_can_be_fitted_alone(mock, tmp_path):
    sample, _, rewrite = mock
    rewrite(sample.assign(survey=np.where(np.arange(120) < 50, "sami", "manga")))
    arguments = (tmp_path / "sample.parquet", "reverse", "v_max", "ols", settings_with(drift="off"), tmp_path / "o.json")
    record = fit_relation(*arguments, survey="sami")
    assert (record["n_used"], record["surveys"]) == (50, ["sami"])


def with_gas(sample, share, known):
    """Gas masses of ``share`` times the stars' for the rows of ``known``."""
    return sample.assign(log_mgas=np.where(known, sample["log_mstar"] + np.log10(share), np.nan))


def test_baryonic_relation_takes_stars_and_gas_of_those_that_have_both(mock, tmp_path):
    sample, _, rewrite = mock
    rewrite(with_gas(sample, 0.5, np.arange(120) < 90))
    record = fit(tmp_path, "baryonic", log_mstar_err=0.1)
    assert record["n_used"] + record["n_outliers"] == 90 and record["n_missing"] == 30
    assert (record["x"], record["y"]) == ("log10(10^log_mstar + 10^log_mgas)", "log10(v_max_kms)")
    assert record["slope"] == pytest.approx(0.26, rel=0.12)
    mass = sample["log_mstar"][:90] + np.log10(1.5)
    assert record["pivot"] == pytest.approx(mass.median())
    points = relation_points(with_gas(sample, 0.5, True), "baryonic", "v_max", settings_with(drift="off", log_mstar_err=0.1))
    np.testing.assert_allclose(points.x, sample["log_mstar"] + np.log10(1.5))
    np.testing.assert_allclose(points.x_err, 0.1 * np.hypot(1, 0.5) / 1.5)


def test_error_of_the_baryonic_mass_is_that_of_a_monte_carlo():
    sample = mock_sample(np.random.default_rng(1), n=20)[0].assign(log_mgas=9.5, log_mstar_err=0.06)
    points = relation_points(sample, "baryonic", "v_max", settings_with(drift="off", log_mstar_err=0.04))
    rng = np.random.default_rng(0)
    stars = 10 ** (sample["log_mstar"].to_numpy()[:, None] + 0.06 * rng.standard_normal((20, 20000)))
    drawn = np.log10(stars + 10 ** (9.5 + 0.04 * rng.standard_normal((20, 20000))))
    np.testing.assert_allclose(points.x_err, drawn.std(axis=1), rtol=0.03)


def test_baryonic_relation_without_a_gas_mass_is_a_sentence(mock, tmp_path):
    record = fit(tmp_path, "baryonic")
    assert record["n_used"] == 0 and "120 that no cut takes lack a gas mass" in record["error"] and record["pivot"] is None


def test_few_galaxies_name_the_cuts_that_took_the_most(mock, tmp_path):
    sample, _, rewrite = mock
    flags = np.where(np.arange(120) < 80, GALAXY.FACE_ON, 0) | np.where(np.arange(120) >= 60, GALAXY.LOW_MASS, 0)
    rewrite(sample.assign(flags=flags, used=False, v_max_kms=np.where(np.arange(120) < 3, np.nan, sample["v_max_kms"])))
    error = fit(tmp_path)["error"]
    assert error.startswith("fit: 0 point(s) to fit, at least 10 are needed")
    assert error.endswith("Of 120 galaxies FACE_ON takes 80, LOW_MASS takes 60.")


@pytest.mark.parametrize("method", ["lts", "mnr", "ols", "bisector"])
@pytest.mark.parametrize(("column", "value"), [
    ("log_mstar", np.nan), ("log_mstar", np.inf), ("log_mstar", 10.0), ("v_max_kms", np.inf), ("log_v_max_err", 0.0),
    ("log_v_max_err", np.inf), ("v_max_kms", 100.0), ("v_max_kms", -5.0),
])  # fmt: skip
def test_spoiled_columns_end_as_a_sentence_or_a_line_never_a_crash(column, value, method, mock, tmp_path):
    sample, _, rewrite = mock
    rewrite(sample.assign(**{column: value}))
    for relation in ("reverse", "forward"):
        record = fit(tmp_path, relation, method=method)
        assert "error" in record or np.isfinite(record["slope"])


def test_infinite_mass_error_is_one_that_is_missing(mock, tmp_path):
    sample, _, rewrite = mock
    rewrite(sample.assign(log_mstar_err=np.inf))
    infinite = fit(tmp_path, log_mstar_err=0.1)
    rewrite(sample)
    assert infinite["slope"] == fit(tmp_path, log_mstar_err=0.1)["slope"]


@pytest.mark.parametrize("wrong", [{"relation": "sideways"}, {"velocity": "v_min"}, {"method": "guess"}])
def test_unknown_names_are_refused_with_the_known_ones(wrong, mock, tmp_path):
    with pytest.raises(RelationError, match="known:"):
        fit(tmp_path, **wrong)


def test_literature_inverts_to_its_own_forward_rows():
    reverse = {row["name"]: row for row in LITERATURE if row["relation"] == "reverse"}
    inverted = [row for row in LITERATURE if row["name"].endswith(", inverted")]
    assert len(inverted) == 4
    for row in inverted:
        origin = reverse[row["name"].removesuffix(", inverted")]
        assert row["slope"] == pytest.approx(1 / origin["slope"], abs=0.002)
        assert row["intercept"] == pytest.approx(origin["pivot"] + (row["pivot"] - origin["intercept"]) / origin["slope"], abs=0.003)
        assert row["slope_err"] == pytest.approx(origin["slope_err"] / origin["slope"] ** 2, rel=0.05)


def test_offsets_compare_at_the_published_pivot_and_say_what_is_alike():
    line = {"relation": "reverse", "slope": 0.258, "slope_err": 0.004, "pivot": 9.0, "velocity": "v_max", "drift": "evans"}
    rows = offsets(line | {"intercept": 2.265 - 1.09 * 0.258 + 0.01, "intercept_err": 0.003})
    assert [row.name for row in rows if row.like_with_like] == ["Dawson thesis"]
    thesis = rows[0]
    assert thesis.slope_sigmas == 0
    assert thesis.intercept_difference == pytest.approx(0.01)
    assert thesis.intercept_sigmas == pytest.approx(0.01 / np.sqrt(0.003**2 + (1.09 * 0.004) ** 2 + 0.002**2))


@pytest.mark.parametrize(("fit", "name", "unlike"), [
    ({"velocity": "v_22", "drift": "off", "imf": "chabrier"}, "Bloom+2017", ()),
    ({"velocity": "v_22", "drift": "evans", "imf": "chabrier"}, "Bloom+2017", ("drift off",)),
    ({"velocity": "v_80", "drift": "off", "imf": "chabrier"}, "Reyes+2011", ("IMF Kroupa",)),
    ({"velocity": "v_max", "drift": "evans", "imf": "chabrier"}, "Dawson thesis", ("IMF mixed",)),
    ({"velocity": "v_max", "drift": "evans", "imf": "own"}, "Dawson thesis", ()),
    ({"velocity": "v_max", "drift": "off", "imf": "chabrier"}, "Bekeraité+2016", ("velocity v_opt", "drift pressure support")),
])  # fmt: skip
def test_offsets_name_what_was_done_differently(fit, name, unlike):
    line = {"relation": "reverse", "slope": 0.26, "slope_err": 0.01, "intercept": 2.2, "intercept_err": 0.01, "pivot": 10.09, "h": 0.7}
    row = next(row for row in offsets(line | fit) if row.name == name)
    assert (row.unlike, row.like_with_like) == (unlike, not unlike)


def test_a_forward_fit_is_unlike_reverse_fits_turned_round():
    line = {"relation": "forward", "slope": 3.0, "slope_err": 0.1, "intercept": 10.0, "intercept_err": 0.01, "pivot": 2.256, "imf": "own"}
    rows = {row.name: row for row in offsets(line | {"velocity": "v_max", "drift": "evans"})}
    assert rows["Dawson thesis"].like_with_like and not rows["Dawson thesis, inverted"].like_with_like
    assert rows["Dawson thesis, inverted"].unlike == ("an inverted reverse fit",)
    rows = {row.name: row for row in offsets(line | {"velocity": "v_22", "drift": "off", "imf": "chabrier"})}
    assert not any(row.like_with_like for row in rows.values())
    assert rows["Bloom+2017, inverted"].unlike == ("an inverted reverse fit",)


def close(folder, paths, **settings):
    relation_settings = {"drift": "off", "log_mstar_err": 0.01} | settings
    check_closure(folder / "sample.parquet", folder / "truth.parquet", paths, settings_with(**relation_settings), folder / "closure.json")
    return json.loads((folder / "closure.json").read_text())


def test_a_faithful_run_closes_and_its_shuffled_control_fails(mock, tmp_path):
    cases = [("reverse", "lts"), ("reverse", "mnr"), ("forward", "mnr"), ("r_band", "ols")]
    for relation, method in cases:
        fit(tmp_path, relation, method=method)
    record = close(tmp_path, [tmp_path / f"{relation}-v_max-{method}.json" for relation, method in cases])
    assert record["passed"] == {"relations": True, "velocity_bias": True, "control_fails": True, "hard_cases": True}
    assert record["verdict"].startswith("Closed: 12 of 12")
    assert len(record["rows"]) == len(record["control"]) == 3 * 6  # the reverse fits are compared with the population as well
    assert max(abs(r["pull"]) for r in record["control"] if r["parameter"] == "slope") > 5
    population = [r for r in record["rows"] if r["put_in_from"] == "population" and r["parameter"] == "slope"]
    assert [r["put_in"] for r in population] == [0.26, 0.26]
    assert len(record["galaxies"]) == 120


def test_velocities_that_are_off_do_not_close(mock, tmp_path):
    sample, _, rewrite = mock
    rewrite(sample.assign(v_max_kms=sample["v_max_kms"] * 1.15))
    fit(tmp_path)
    record = close(tmp_path, [tmp_path / "reverse-v_max-lts.json"])
    assert not record["passed"]["relations"] and record["verdict"].startswith("Not closed")
    assert record["passed"]["control_fails"]


def test_bias_that_all_galaxies_share_does_not_hide_behind_wide_errors(mock, tmp_path):
    sample, truth, rewrite = mock
    off = sample["v_max_kms"] * 10**0.03
    rewrite(sample.assign(v_max_kms=off, log_v_max_err=0.15, v_max_kms_err=0.35 * off))
    fit(tmp_path)
    record = close(tmp_path, [tmp_path / "reverse-v_max-lts.json"])
    row = record["velocity_bias"][0]
    paired = np.log10(off / truth["v_max_kms"])
    assert (row["velocity"], row["column"], row["n"]) == ("v_max", "v_max_kms", 120)
    assert row["mean"] == pytest.approx(paired.mean()) and row["err"] == pytest.approx(paired.std() / np.sqrt(120))
    assert row["limit"] == pytest.approx(3 * row["err"] + 0.01)
    assert record["passed"] == {"relations": True, "velocity_bias": False, "control_fails": True, "hard_cases": True}
    assert record["verdict"].startswith("Not closed: 4 of 4") and f"biased, the limit is {row['limit']:.3f}" in record["verdict"]
    errors = {row["parameter"]: row["errors_honest"] for row in record["parameters"]}
    assert errors["v_max_kms"] is False and errors["inclination_deg"] is True and errors["pa_deg"] is True
    assert errors["v_max_sini_kms"] is None and errors["r_scale_arcsec"] is None  # nobody has one; not judged
    assert "2 of 3 errors are honest" in record["verdict"] and "not those of v_max (0." in record["verdict"]


def test_control_fails_by_its_slope_and_the_verdict_says_by_how_much(mock, tmp_path):
    sample, _, rewrite = mock
    fit(tmp_path)
    record = close(tmp_path, [tmp_path / "reverse-v_max-lts.json"])
    largest = max(abs(row["pull"]) for row in record["control"] if row["parameter"] == "slope")
    assert record["fits"][0]["control_pull"] == pytest.approx(largest)
    assert f"fails, as it must: in every fit its slope or intercept is off by {largest:.1f} sigma or more" in record["verdict"]
    rewrite(sample.assign(log_v_max_err=3.0))  # errors so wide that any line would do
    fit(tmp_path)
    record = close(tmp_path, [tmp_path / "reverse-v_max-lts.json"])
    assert not record["passed"]["control_fails"] and "does not fail in reverse v_max lts" in record["verdict"]


def test_bias_is_that_of_the_velocity_the_fits_used(mock, tmp_path):
    sample, _, rewrite = mock
    rewrite(sample.assign(v_max_circ_kms=1.2 * sample["v_max_kms"]))
    fit(tmp_path, drift="evans")
    row = close(tmp_path, [tmp_path / "reverse-v_max-lts.json"], drift="evans")["velocity_bias"][0]
    assert row["column"] == "v_max_circ_kms" and row["mean"] == pytest.approx(np.log10(1.2), abs=0.01) and not row["agrees"]


def test_population_intercept_follows_the_pivot(mock, tmp_path):
    fit(tmp_path, pivot_log_mstar=9.5)
    record = close(tmp_path, [tmp_path / "reverse-v_max-lts.json"], pivot_log_mstar=9.5)
    row = next(r for r in record["rows"] if r["put_in_from"] == "population" and r["parameter"] == "intercept")
    assert row["put_in"] == pytest.approx(2.26 - 0.59 * 0.26)
    assert abs(row["pull"]) < 4


def test_parameters_give_bias_scatter_and_share_and_angles_wrap(mock, tmp_path):
    sample, truth, rewrite = mock
    rewrite(sample.assign(inclination_used_deg=sample["inclination_used_deg"] + 1.5))
    fit(tmp_path, method="ols")
    record = close(tmp_path, [tmp_path / "reverse-v_max-ols.json"])
    rows = {row["parameter"]: row for row in record["parameters"]}
    assert rows["inclination_deg"]["median"] == pytest.approx(1.5, abs=0.7)
    assert rows["pa_deg"]["robust_std"] == pytest.approx(3, rel=0.3)  # though some lie across North
    assert ((sample["pa_deg"] - truth["pa_deg"]).abs() > 300).any()
    assert 0.5 < rows["v_sys_kms"]["within_1_sigma"] < 0.85
    assert rows["v_max_kms"]["pull_rms"] == pytest.approx(1, abs=0.25)
    assert rows["outer_dispersion_kms"]["median"] == pytest.approx(4) and rows["outer_dispersion_kms"]["pull_rms"] == pytest.approx(2)
    assert rows["v_max_sini_kms"]["n"] == 0 and rows["v_max_sini_kms"]["median"] is None


def test_hard_cases_are_judged_by_any_expected_flag_and_absence_is_a_failure(mock, tmp_path):
    sample, truth, rewrite = mock
    truth.loc[:3, "hard_case"] = ["face_on", "wrong_flag", "survives", "lost"]
    truth.loc[:3, "expected_flags"] = ["FACE_ON,NO_ROTATION", "MISSING_FILE", "", ""]
    sample.loc[0, ["flag_names", "used"]] = ["MISSING_MAGNITUDE,FACE_ON", False]
    sample.loc[1, ["flag_names", "used"]] = ["MISSING_HDU", False]
    rewrite(sample.drop(index=3), truth)
    fit(tmp_path, method="ols")
    record = close(tmp_path, [tmp_path / "reverse-v_max-ols.json"])
    assert [row["ok"] for row in record["hard_cases"]] == [True, False, True, False]
    assert record["hard_cases"][3]["found"] == "absent"
    assert not record["passed"]["hard_cases"]


def test_relation_that_could_not_be_fitted_is_not_closed(mock, tmp_path):
    failed = {"relation": "reverse", "velocity": "v_22", "method": "lts", "error": "fit: 3 points.", "n_used": 3}
    (tmp_path / "failed.json").write_text(json.dumps(failed))
    record = close(tmp_path, [tmp_path / "failed.json"])
    assert not any(record["passed"][key] for key in ("relations", "velocity_bias", "control_fails"))
    assert record["fits"][0]["note"] == "fit: 3 points."


