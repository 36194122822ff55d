"""What a relation hangs on: groups, choices, and the selection made again; and the fits as tables for a paper."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from tullyflow.flags import GALAXY
from tullyflow.relation.choice_list import list_choices
from tullyflow.relation.choices import vary_choices
from tullyflow.relation.fit_tables import latex_table, tabulate_fits
from tullyflow.relation.groups import CLASSES, _add_offsets, fit_groups, morphology_class
from tullyflow.relation.methods import fit_by_method
from tullyflow.relation.quality import merge_samples, select_sample
from tullyflow.relation.reselect import select_again, undecided
from tullyflow.relation.tully_fisher import fit_relation
from tullyflow.relation.weighted import fit_weighted
from tullyflow.tables import SAMPLE, VELOCITIES, conform, write_table

from .conftest import mock_sample, settings_with

_LINE = ("slope", "slope_err", "intercept", "intercept_err")
BASE = {"drift": "off", "log_mstar_err": 0.05, "methods": ["ols"], "velocities": ["v_max"]}


def rich_sample(n=200, seed=4):
    """A merged sample on a known line with everything the choices and groups look at."""
    rng = np.random.default_rng(seed)
    sample, _ = mock_sample(rng, n=n)
    for k, name in enumerate(VELOCITIES):
        for kind in ("", "_circ"):
            sample[f"{name}{kind}_kms"], sample[f"log_{name}{kind}_err"] = sample["v_max_kms"] * (1 - 0.03 * k), 0.03
    sample["survey"] = np.where(np.arange(n) < n // 2, "manga", "sami")
    sample["inclination_kind"] = "kinematic"
    sample["inclination_deg"] = sample["inclination_used_deg"]
    sample["v_max_sini_kms"] = sample["v_max_kms"] * np.sin(np.radians(sample["inclination_used_deg"]))
    sample["chi2_velocity"] = rng.chisquare(20, n) / 20
    sample["mse_over_v"] = 0.001 * rng.chisquare(20, n) / 20
    sample["reconstruction"], sample["reconstruction_threshold"] = sample["chi2_velocity"], 1e9
    sample["r_turn_arcsec"], sample["r_max_arcsec"] = 1.5, np.where(np.arange(n) % 7 == 0, 2.0, 12.0)
    sample["r_scale_used_arcsec"], sample["r_e_arcsec"] = 3.5, 6.0
    sample["sersic_n"], sample["delta_pa_deg"] = rng.uniform(0.5, 4, n), rng.uniform(0, 29, n)
    sample["log_ssfr"] = np.where(np.arange(n) % 4 == 0, -11.5, -10.0)
    sample["morphology"] = np.resize(["0", "1.5", "2", "3"], n)
    return sample


@pytest.fixture
def merged(tmp_path):
    """A sample as `merge_samples` leaves it, made with the settings ``BASE``."""
    settings = settings_with(**BASE)
    sample = rich_sample()
    sample = select_again(undecided(sample, settings), settings.relation)
    write_table(tmp_path / "sample.parquet", sample, SAMPLE)
    return conform(sample, SAMPLE), settings, tmp_path


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    """A sample whose choices were varied once, by least trimmed squares; the record, the sample and the folder."""
    folder, settings = tmp_path_factory.mktemp("varied"), settings_with(**BASE | {"methods": ["lts"]})
    sample = rich_sample().assign(volume_weight=1.0, v_max_extrapolated=np.arange(200) % 5 == 0)
    sample = conform(select_again(undecided(sample, settings), settings.relation), SAMPLE)
    write_table(folder / "sample.parquet", sample, SAMPLE)
    return vary_choices(folder / "sample.parquet", settings, folder / "choices.json"), sample, folder


def row_of(record, choice):
    return next(row for row in record["rows"] if row["choice"] == choice)


def test_same_settings_select_the_same_galaxies(shard, tmp_path):
    """Through the stage itself: cuts of all kinds, an earlier stage's flag, and a galaxy observed twice."""
    def spoil(targets, galaxies, kinematics):
        targets[["ra_deg", "dec_deg", "z"]] = np.column_stack([np.arange(30.0), np.zeros(30), np.full(30, 0.03)])
        targets.loc[["g1", "g2"], ["ra_deg", "dec_deg"]] = 50.0
        targets.loc["g3", "flags"] = GALAXY.QUALITY_BAD
        targets.loc["g4", "log_mstar"] = 7.0
        kinematics.loc["g5", "inclination_used_deg"] = 20.0
        kinematics.loc["g6", "chi2_velocity"] = 50.0
        kinematics.loc["g1", "log_v_max_err"] = 0.3

    names = [f"g{k}" for k in range(30)]
    settings = settings_with(drift="evans", reconstruction_from="mean", reconstruction_sigma=1)
    select_sample(*shard(names, spoil, drop_kinematics=["g7"]), settings, tmp_path / "part.parquet")
    sample = merge_samples([tmp_path / "part.parquet"], tmp_path / "sample.parquet")
    assert not sample["used"].all() and (sample["flags"] & GALAXY.DUPLICATE).any()
    again = select_again(undecided(sample, settings), settings.relation)
    pd.testing.assert_series_equal(again["used"], sample["used"])
    np.testing.assert_array_equal(again["flags"], sample["flags"])
    back = select_again(undecided(again, settings), settings.relation)
    np.testing.assert_array_equal(back["flags"], sample["flags"])


def test_other_settings_take_back_what_cuts_did_and_nothing_else(merged):
    sample, settings, _ = merged
    sample.loc[0, ["inclination_used_deg", "flags"]] = [20.0, GALAXY.FACE_ON]
    sample.loc[1, "flags"] = GALAXY.PA_FAILED
    sample["used"] = (sample["flags"] & GALAXY.excluding) == 0
    loose = select_again(undecided(sample, settings), settings.relation.model_copy(update={"inclination_min": 0.0}))
    assert loose["used"][0] and not loose["used"][1]
    tight = select_again(undecided(sample, settings), settings.relation.model_copy(update={"sersic_n_max": 2.5}))
    np.testing.assert_array_equal((tight["flags"] & GALAXY.BULGE_DOMINATED) != 0, sample["sersic_n"] > 2.5)


def test_where_the_counting_observation_falls_out_the_other_one_takes_its_place(merged):
    sample, settings, _ = merged
    sample.loc[[0, 1], ["ra_deg", "dec_deg", "survey", "release"]] = [10.0, 5.0, "manga", "DR17"]
    sample.loc[0, ["inclination_used_deg", "log_v_max_err"]] = [40.0, 0.01]
    sample.loc[1, ["inclination_used_deg", "log_v_max_err"]] = [50.0, 0.02]
    before = undecided(select_again(undecided(sample, settings), settings.relation), settings)
    assert list(select_again(before, settings.relation)["used"][:2]) == [True, False]
    assert list(select_again(before, settings.relation.model_copy(update={"inclination_min": 45.0}))["used"][:2]) == [False, True]


def test_thresholds_of_another_statistic_are_those_of_each_survey(merged):
    sample, settings, _ = merged
    sample["mse_over_v"] *= np.where(sample["survey"] == "sami", 100.0, 1.0)
    changes = {"reconstruction": "mse_over_v", "reconstruction_from": "mean", "reconstruction_sigma": 1.0}
    again = select_again(undecided(sample, settings), settings.relation.model_copy(update=changes))
    for survey in ("manga", "sami"):
        values = sample.loc[sample["survey"] == survey, "mse_over_v"]
        found = again.loc[again["survey"] == survey, "reconstruction_threshold"].unique()
        assert found == pytest.approx([values.mean() + values.std(ddof=0)])
        kept = again.loc[again["survey"] == survey, "used"]
        np.testing.assert_array_equal(kept, values <= found[0])


def test_choices_are_each_different_from_the_baseline_and_named_once(merged):
    _, settings, _ = merged
    keys = [choice.key for choice in list_choices(settings.relation, "v_max", "lts")]
    assert len(keys) == len(set(keys)) and keys[0] == "baseline"
    assert "drift=off" not in keys and "log_mstar_err=0.05" not in keys and "inclination_min=30" not in keys
    assert {"velocity=v_22", "drift=evans", "method=mnr", "reconstruction=off", "inclination_min=45", "sersic_n_max=2.5"} <= set(keys)


def test_cuts_on_the_velocity_field_are_tried_apart_and_together(merged):
    sample, settings, _ = merged
    sample = sample.assign(usable_prob=np.resize([0.9, 0.2, np.nan, 0.8], 200), kappa=np.resize([0.7, 0.8, 0.9, 0.1], 200))
    off = settings.relation.model_copy(update={"usable_prob_min": None})
    before, kept = undecided(sample, settings), {}
    for choice in list_choices(off, "v_max", "lts"):
        if "usable_prob_min" in choice.key or "kappa_min" in choice.key:
            kept[choice.key] = int(select_again(before, off.model_copy(update=dict(choice.changes)))["used"].sum())
    assert kept == {"usable_prob_min=0.5": 150, "kappa_min=0.5": 150, "usable_prob_min=0.5, kappa_min=0.5": 100}
    on = settings.relation.model_copy(update={"usable_prob_min": 0.5, "kappa_min": 0.5})
    keys = [choice.key for choice in list_choices(on, "v_max", "lts")]
    assert {"usable_prob_min=off", "kappa_min=off"} <= set(keys) and not any("min=0.5" in key for key in keys)


def test_photometric_axis_is_moved_to_where_it_takes_galaxies(merged):
    sample, settings, _ = merged
    sample = sample.assign(inclination_kind="photometric", pa_phot_deg=sample["pa_deg"] + np.resize([3.0, 12.0, -20.0, 50.0], 200))
    before, kept = undecided(sample, settings), {}
    for choice in list_choices(settings.relation, "v_max", "lts"):
        if choice.key.startswith("delta_pa_phot_max="):
            changed = settings.relation.model_copy(update=dict(choice.changes))
            kept[choice.key.split("=")[1]] = int(select_again(before, changed)["used"].sum())
    assert kept == {"off": 200, "15": 100, "10": 50}


def test_each_choice_does_what_it_says(varied):
    record, sample, folder = varied
    assert record["baseline"]["velocity"] == "v_max" and record["baseline"]["pivot"] == 10.09
    base = row_of(record, "baseline")
    assert base["slope"] == pytest.approx(0.26, abs=0.03) and base["slope_shift"] == 0
    moved = row_of(record, "velocity=v_22")  # 3 % slower throughout
    assert moved["intercept_shift"] == pytest.approx(np.log10(0.97), abs=1e-6) and moved["slope_shift"] == pytest.approx(0, abs=1e-6)
    assert moved["intercept_shift_sigmas"] == pytest.approx(moved["intercept_shift"] / base["intercept_err"])
    steeper = [row_of(record, f"log_mstar_err={err}")["slope"] for err in ("0", "0.1", "0.2")]
    assert steeper[0] < steeper[1] < steeper[2]
    assert row_of(record, "inclination_min=45")["n_sample"] == int((sample["inclination_used_deg"] >= 45).sum())
    assert row_of(record, "sersic_n_max=2.5")["n_sample"] == int((sample["sersic_n"] <= 2.5).sum())
    assert row_of(record, "without v_max_extrapolated")["n_sample"] == int((np.arange(200) % 5 != 0).sum())
    assert row_of(record, "without EXTRAPOLATED")["n_sample"] == int((np.arange(200) % 7 != 0).sum())
    assert row_of(record, "delta_pa_max=off")["note"] == "The same galaxies."
    assert row_of(record, "drift=evans")["note"] == "Corrected: 200 of 200 galaxies; 200 have a dispersion."
    turned = row_of(record, "forward, inverted")
    assert turned["slope"] > base["slope"] and turned["intercept"] == pytest.approx(base["intercept"], abs=0.03)
    assert turned["intercept_err"] == pytest.approx(base["intercept_err"], rel=0.5) and turned["rms"] == pytest.approx(base["rms"], rel=0.3)
    weighted, plain = row_of(record, "volume_weight"), row_of(record, "method=ols")
    assert weighted["reference"] == "method=ols" and weighted["slope"] == pytest.approx(plain["slope"])
    written = json.loads((folder / "choices.json").read_text())
    assert [row["choice"] for row in written["rows"]] == [row["choice"] for row in record["rows"]]
    table = Table.read(folder / "choices.ecsv")
    assert len(table) == len(record["rows"]) and table["slope_shift_sigmas"].description


def test_drift_raises_velocities_by_the_dispersion_at_the_radius(varied):
    record, sample, _ = varied
    evans, isotropic = row_of(record, "drift=evans"), row_of(record, "drift=isotropic")
    assert evans["intercept_shift"] > isotropic["intercept_shift"] > 0 > evans["slope_shift"]
    r = sample["r_max_arcsec"] / 3.5
    v = np.sqrt(sample["v_max_kms"] ** 2 + 24.0**2 * (2 * r - 1))
    expected = np.median(np.log10(v / sample["v_max_kms"]))
    assert evans["intercept_shift"] == pytest.approx(expected, abs=0.02)


def test_slope_against_threshold_is_given_for_both_statistics(varied):
    rows = varied[0]["thresholds"]
    for statistic in ("chi2", "mse_over_v"):
        mine = [row for row in rows if row["statistic"] == statistic]
        counts = [row["n_sample"] for row in mine]
        assert counts == sorted(counts) and mine[-1]["sigma"] is None and counts[-1] == 200 and counts[0] < 200
        assert -1 <= mine[0]["spearman_with_v"] <= 1


@pytest.mark.parametrize("spoil", [{"log_mstar": np.nan}, {"log_mstar": 10.0, "log_ssfr": np.inf}])
def test_a_sample_without_a_line_is_a_table_of_sentences(spoil, merged):
    sample, settings, folder = merged
    write_table(folder / "sample.parquet", sample.assign(**spoil), SAMPLE)
    choices = vary_choices(folder / "sample.parquet", settings, folder / "choices.json")
    groups = fit_groups(folder / "sample.parquet", settings, folder / "groups.json")
    base = row_of(choices, "baseline")
    assert base["slope"] is None and base["error"] and base["slope_shift"] is None
    assert groups["rows"][0]["error"]


def test_a_sample_without_a_galaxy_is_a_table_of_sentences(tmp_path):
    write_table(tmp_path / "sample.parquet", rich_sample().iloc[:0], SAMPLE)
    settings = settings_with(**BASE)
    assert row_of(vary_choices(tmp_path / "sample.parquet", settings, tmp_path / "c.json"), "baseline")["error"]
    assert fit_groups(tmp_path / "sample.parquet", settings, tmp_path / "g.json")["rows"][0]["error"].endswith("no galaxy at all.")


def test_weights_move_the_line_to_the_galaxies_they_stand_for():
    rng = np.random.default_rng(8)
    x = rng.uniform(-1, 1, 400)
    y = np.where(x > 0, 0.2 * x, 0.4 * x) + 0.02 * rng.standard_normal(400)
    low, high = (fit_weighted(x, y, np.where(side, 1.0, 1e-6), 0.0, 1) for side in (x < 0, x > 0))
    assert low["slope"] == pytest.approx(0.4, abs=0.02) and high["slope"] == pytest.approx(0.2, abs=0.02)
    assert fit_weighted(x, y, np.full(400, np.nan), 0.0, 1)["n_used"] == 0


def test_bootstrap_errors_of_the_weighted_line_are_the_scatter_of_its_repeats():
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x, weight = rng.uniform(-1, 1, 150), 10 ** rng.uniform(-1, 1, 150)
        found.append(fit_weighted(x, 0.3 * x + 2 + 0.1 * rng.standard_normal(150), weight, 0.0, seed))
    for name, truth in (("slope", 0.3), ("intercept", 2.0)):
        values, errors = (np.array([fit[key] for fit in found]) for key in (name, f"{name}_err"))
        assert values.mean() == pytest.approx(truth, abs=4 * values.std() / np.sqrt(60))
        assert np.median(errors) == pytest.approx(values.std(), rel=0.25)


@pytest.mark.parametrize(("text", "survey", "expected"), [
    ("0", "sami", 0), ("1", "sami", 0), ("2", "sami", 1), ("3", "sami", 2), ("1.5", "sami", None), ("2.5", "sami", None),
    ("-5", "local", 0), ("0", "local", 0), ("1", "local", 1), ("3", "local", 1), ("4.2", "local", 2), ("10", "local", 2),
    ("99", "local", None), ("", "sami", None), ("", "manga", None), ("S?", "local", None), ("merger", "local", None),
    ("E3", "things", 0), ("S0", "things", 0), ("SB0", "local", 0), ("SAB(s)0", "local", 0), ("Sa", "things", 1), ("SBb", "local", 1),
    ("SAB(rs)bc", "things", 2), ("SA(s)c", "things", 2), ("Sd", "local", 2), ("S0/a", "local", 1), ("IB(s)m", "things", 2),
    ("Irr", "local", 2), ("dIrr", "local", 2), ("SB(r)ab", "local", 1),
])  # fmt: skip
def test_morphology_is_read_as_the_survey_writes_it_or_not_at_all(text, survey, expected):
    assert morphology_class(text, survey) == ("" if expected is None else CLASSES[expected])


def test_groups_are_fitted_apart_at_one_pivot(merged):
    sample, settings, folder = merged
    slow = sample["log_ssfr"] < -11
    sample.loc[slow, "v_max_kms"] *= 1.2
    write_table(folder / "sample.parquet", sample.drop(index=range(150, 192)), SAMPLE)
    settings = settings_with(**BASE | {"pivot_log_mstar": None, "relations": ["reverse", "baryonic"]})
    record = fit_groups(folder / "sample.parquet", settings, folder / "groups.json")
    rows = {row["group"]: row for row in record["rows"] if row["relation"] == "reverse"}
    assert list(rows) == ["all", "manga", "sami", "star-forming", "quiescent", *CLASSES]
    assert {row["pivot"] for row in rows.values()} == {rows["all"]["pivot"]}
    assert rows["quiescent"]["intercept"] - rows["star-forming"]["intercept"] == pytest.approx(np.log10(1.2), abs=0.025)
    assert rows["quiescent"]["intercept_offset_sigmas"] > 3
    assert rows["all"]["n_used"] + rows["all"]["n_outliers"] == 158
    assert rows["early spirals"]["slope"] is not None
    assert record["not_classified"] == {"ssfr": 0, "morphology": sum(k % 4 == 1 for k in [*range(100, 150), *range(192, 200)])}
    assert all("lack a gas mass" in row["error"] for row in record["rows"] if row["relation"] == "baryonic")
    assert len(Table.read(folder / "groups.ecsv")) == len(record["rows"])


def test_sigmas_of_a_groups_offset_are_honest_where_all_scatter_alike_and_said_to_be_approximate(merged):
    rng, pulls = np.random.default_rng(5), []
    for _ in range(200):
        x = rng.uniform(-1, 1, 90)
        y = 0.26 * x + 0.05 * rng.standard_normal(90)
        everybody, group = (
            {name: getattr(fit_by_method("ols", u, v, 0.01 + 0 * u, 0.01 + 0 * u, 0.0, clip=3, rng=rng), name) for name in _LINE}
            for u, v in ((x, y), (x[:30], y[:30]))
        )
        _add_offsets(group, everybody)
        pulls += [group["slope_offset_sigmas"], group["intercept_offset_sigmas"]]
    assert np.std([p for p in pulls if p is not None]) == pytest.approx(1, abs=0.12)
    fit_groups(merged[2] / "sample.parquet", merged[1], merged[2] / "groups.json")
    table = Table.read(merged[2] / "groups.ecsv")
    assert all("approximate" in table[f"{name}_offset_sigmas"].description for name in ("slope", "intercept"))


def test_group_of_few_galaxies_says_which_cut_took_them(merged):
    sample, settings, folder = merged
    sami = sample["survey"] == "sami"
    sample.loc[sami & (sample.index < 195), ["flags", "used"]] = [GALAXY.FACE_ON, False]
    write_table(folder / "sample.parquet", sample, SAMPLE)
    rows = fit_groups(folder / "sample.parquet", settings, folder / "groups.json")["rows"]
    row = next(row for row in rows if row["relation"] == "reverse" and row["group"] == "sami")
    assert row["n_used"] == 5 and row["slope"] is None and row["error"].endswith("Of 100 galaxies FACE_ON takes 95.")


def test_what_nobody_has_makes_no_group(merged):
    sample, settings, folder = merged
    write_table(folder / "sample.parquet", sample.assign(log_ssfr=np.nan, morphology=""), SAMPLE)
    record = fit_groups(folder / "sample.parquet", settings, folder / "groups.json")
    notes = {group["group"]: group["note"] for group in record["groups"]}
    assert "log_ssfr" in notes["quiescent"] and "morphological type" in notes["late spirals"] and notes["manga"] is None
    assert record["not_classified"] == {"ssfr": 200, "morphology": 200}


def test_fits_as_tables_hold_every_fit_and_units(merged):
    _, settings, folder = merged
    paths = [folder / f"{relation}.json" for relation in ("reverse", "r_band", "baryonic")]
    for path in paths:
        fit_relation(folder / "sample.parquet", path.stem, "v_max", "lts", settings, path)
    tabulate_fits(paths, folder / "fits.ecsv", folder / "fits.tex")
    table = Table.read(folder / "fits.ecsv")
    assert list(table["relation"]) == ["reverse", "r_band", "baryonic"]
    assert list(table["x_unit"]) == ["dex(Msun)", "dex(km/s)", "dex(Msun)"] and list(table["y_unit"]) == ["dex(km/s)", "mag", "dex(km/s)"]
    assert table["slope"][0] == json.loads(paths[0].read_text())["slope"] and np.isnan(table["slope"][2]) and table["error"][2]
    text = (folder / "fits.tex").read_text()
    assert text.count("\\\\") == 4 and "no line: 0 galaxies" in text and "r\\_band & v\\_max & lts" in text


def test_latex_escapes_names_and_rounds_by_the_error():
    fit = {
        "relation": "a_b%", "velocity": "v^2", "method": "{x}\\y", "slope": 0.25849, "slope_err": 0.0031, "intercept": -19.7081,
        "intercept_err": 0.22, "pivot": 10.09, "scatter": 0.0, "scatter_err": None, "rms": 0.0886, "n_used": 12, "n_outliers": 1,
    }  # fmt: skip
    row = latex_table([fit]).splitlines()[-3]
    assert row.startswith(r"a\_b\% & v\textasciicircum{}2 & \{x\}\textbackslash{}y & $0.2585 \pm 0.0031$ & $-19.71 \pm 0.22$ & $10.090$ & ")
    assert row.endswith(r"$0.000$ & $0.089$ & 12 & 1 \\")
    text = latex_table([fit, fit])
    assert len(re.findall(r"(?<!\\)&", text)) == 9 * 3 and text.count("\\begin{tabular}") == text.count("\\end{tabular}") == 1
