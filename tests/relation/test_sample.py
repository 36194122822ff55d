"""The sample: nobody is dropped, every cut is a flag, thresholds are frozen, releases merged."""

import json

import numpy as np
import pandas as pd
import pytest
from astropy import units
from astropy.table import Table

from tullyflow.errors import CatalogueError
from tullyflow.flags import GALAXY
from tullyflow.relation.quality import cut_flow, freeze_threshold, merge_samples, select_sample
from tullyflow.tables import KINEMATICS, SAMPLE, conform, read_table, write_table

from .conftest import good_rows, settings_with


def select(paths, tmp_path, **relation):
    return select_sample(*paths, settings_with(**{"drift": "off"} | relation), tmp_path / "sample.parquet")


def test_good_galaxies_are_used_and_carry_no_flag(shard, tmp_path):
    sample = select(shard(["a", "b", "c"]), tmp_path)
    assert sample["used"].all() and (sample["flags"] == 0).all()
    pd.testing.assert_frame_equal(sample, read_table(tmp_path / "sample.parquet", SAMPLE))


def test_nobody_is_dropped_and_the_targets_order_is_kept(shard, tmp_path):
    def spoil(targets, galaxies, kinematics):
        galaxies.loc["z", ["flags", "messages"]] = [GALAXY.PA_FAILED, "The curve of chi-squared is flat."]
        kinematics.loc["z", ["flags", "messages"]] = [GALAXY.PA_FAILED | GALAXY.NOT_INFERRED, "The curve of chi-squared is flat. No stamp."]

    sample = select(shard(["m", "z", "a"], spoil, drop_kinematics=["a"]), tmp_path)
    assert list(sample["galaxy"]) == ["m", "z", "a"]
    assert list(sample["used"]) == [True, False, False]
    assert sample["flag_names"][1] == "PA_FAILED,NOT_INFERRED"
    assert sample["messages"][1] == "The curve of chi-squared is flat. No stamp."
    assert sample["flag_names"][2] == "NOT_INFERRED"
    assert sample["flag_sentences"][2] == "The network saw no usable stamp."
    assert np.isnan(sample["v_max_kms"][2]) and sample["pa_deg"][2] == 42.0


EDGES = {  # column, value on the edge (kept), value beyond (flagged); settings stay at their defaults
    "FACE_ON": ("kinematics", "inclination_used_deg", 30.0, 29.999),
    "MISSING_MASS": ("targets", "log_mstar", 9.0, np.nan),
    "LOW_MASS": ("targets", "log_mstar", 7.5, 7.499),
    "MISSING_MAGNITUDE": ("targets", "abs_mag_r", -18.0, np.nan),
    "POOR_RECONSTRUCTION": ("kinematics", "chi2_velocity", 2.0, 2.001),
    "AT_BOUND_INCLINATION": ("kinematics", "inclination_deg_at_bound", False, True),
    "AT_BOUND_R_SCALE": ("kinematics", "r_scale_arcsec_at_bound", False, True),
    "AT_BOUND_R_TURN": ("kinematics", "r_turn_arcsec_at_bound", False, True),
    "AT_BOUND_V_MAX": ("kinematics", "v_max_sini_kms_at_bound", False, True),
    "EXTRAPOLATED": ("kinematics", "r_turn_arcsec", 6.0, 6.001),
    "UNCERTAIN_VELOCITY": ("kinematics", "log_v_max_err", 0.2, 0.201),
    "QUALITY_BAD": ("targets", "drp3qual", (1 << 29) | 2, (1 << 30) | 2),
}


@pytest.mark.parametrize("flag", EDGES)
def test_each_cut_flags_beyond_its_edge_and_only_there(flag, shard, tmp_path):
    table, column, edge, beyond = EDGES[flag]

    def spoil(targets, galaxies, kinematics):
        frame = {"targets": targets, "kinematics": kinematics}[table]
        frame[column] = [edge, beyond, frame[column].iloc[2] if column in frame else edge]

    sample = select(shard(["edge", "beyond", "good"], spoil), tmp_path)
    assert list(sample["flag_names"]) == ["", flag, ""]
    excludes = bool(getattr(GALAXY, flag) & GALAXY.excluding)
    assert list(sample["used"]) == [True, not excludes, True]


def test_edge_on_galaxies_go_only_where_a_limit_is_set(shard, tmp_path):
    def spoil(targets, galaxies, kinematics):
        kinematics["inclination_used_deg"] = [80.0, 80.001, 90.0]

    paths = shard(["edge", "beyond", "far"], spoil)
    assert list(select(paths, tmp_path)["flag_names"]) == ["", "", ""]
    assert list(select(paths, tmp_path, inclination_max=80)["flag_names"]) == ["", "EDGE_ON", "EDGE_ON"]


@pytest.mark.parametrize(("column", "flag"), [("inclination_deg", "AT_BOUND_INCLINATION"), ("r_scale_arcsec", "AT_BOUND_R_SCALE")])
def test_bound_of_the_networks_value_does_not_matter_where_the_velocities_use_the_photometric_one(column, flag, shard, tmp_path):
    def spoil(targets, galaxies, kinematics):
        kinematics[f"{column}_at_bound"] = True
        kinematics["inclination_kind"] = ["photometric", "kinematic"]

    assert list(select(shard(["photometric", "kinematic"], spoil), tmp_path)["flag_names"]) == ["", flag]


@pytest.mark.parametrize("column", ["v_max_kms", "log_v_max_err"])
def test_inferred_galaxy_without_a_velocity_or_error_is_out_and_says_why(column, shard, tmp_path):
    def spoil(targets, galaxies, kinematics):
        kinematics.loc["b", column] = np.nan

    sample = select(shard(["a", "b"], spoil), tmp_path)
    assert list(sample["used"]) == [True, False]
    assert sample["flag_names"][1] == "UNCERTAIN_VELOCITY"
    assert "error of V_max" in sample["flag_sentences"][1]


def test_missing_quality_bits_are_no_bits(shard, tmp_path):
    def spoil(targets, galaxies, kinematics):
        targets["drp3qual"] = -9999

    assert select(shard(["a"], spoil), tmp_path)["used"].all()


@pytest.mark.parametrize("threshold", ['{"statistic": "chi2", "threshold": null}', '{"statistic": "off", "threshold": null}'])
def test_cut_that_was_not_tested_excludes_nobody(threshold, shard, tmp_path):
    def spoil(targets, galaxies, kinematics):
        kinematics["chi2_velocity"] = 1e6

    assert select(shard(["a", "b"], spoil, threshold=threshold), tmp_path)["used"].all()


def test_frozen_threshold_decides_which_statistic_is_cut_on(shard, tmp_path):
    def spoil(targets, galaxies, kinematics):
        kinematics["mse_over_v"] = [0.1, 0.3]

    sample = select(shard(["a", "b"], spoil, threshold='{"statistic": "mse_over_v", "threshold": 0.2}'), tmp_path)
    assert list(sample["reconstruction"]) == [0.1, 0.3]
    assert list(sample["flag_names"]) == ["", "POOR_RECONSTRUCTION"]


def test_name_given_twice_is_refused(shard, tmp_path):
    with pytest.raises(CatalogueError, match="twice"):
        select(shard(["a", "a"]), tmp_path)


def test_drift_takes_the_radius_each_velocity_belongs_to(shard, tmp_path):
    sample = select(shard(["a"]), tmp_path, drift="evans").iloc[0]
    for velocity, ratio in {"v_max": 12 / 3.5, "v_rmax": 12 / 3.5, "v_22": 2.2, "v_re": 6 / 3.5}.items():
        v = sample[f"{velocity}_kms"]
        assert sample[f"{velocity}_circ_kms"] == pytest.approx(np.sqrt(v**2 + 400 * (2 * ratio - 1)))
        assert 0 < sample[f"log_{velocity}_circ_err"] < sample[f"log_{velocity}_err"]  # the correction is well known here
    assert sample["flags"] == 0


def test_drift_divides_by_the_scale_length_the_velocities_use(shard, tmp_path):
    def spoil(targets, galaxies, kinematics):
        kinematics["inclination_kind"] = "photometric"
        kinematics[["r_scale_used_arcsec", "r_scale_arcsec_err"]] = 6.0 / 1.678, 1.5  # the network's own stays 3.5

    sample = select(shard(["a"], spoil), tmp_path, drift="evans").iloc[0]
    for velocity, ratio in {"v_max": 12 / 6 * 1.678, "v_rmax": 12 / 6 * 1.678, "v_22": 2.2, "v_re": 1.678}.items():
        v = sample[f"{velocity}_kms"]
        assert sample[f"{velocity}_circ_kms"] == pytest.approx(np.sqrt(v**2 + 400 * (2 * ratio - 1)))
        assert sample[f"log_{velocity}_circ_err"] < sample[f"log_{velocity}_err"]  # the network's poor length has no say


def test_error_of_the_networks_scale_length_enters_the_corrected_velocity(shard, tmp_path):
    def spoil(targets, galaxies, kinematics):
        kinematics["r_scale_used_arcsec"] *= 1 + 1e-7  # as the mean of another set of samples may differ
        kinematics["r_scale_arcsec_err"] = [0.1, 3.0]

    sample = select(shard(["well known", "poorly known"], spoil), tmp_path, drift="evans")
    assert sample["log_v_max_circ_err"][1] > 1.5 * sample["log_v_max_circ_err"][0]
    assert sample["log_v_22_circ_err"][1] == pytest.approx(sample["log_v_22_circ_err"][0], rel=0.02)  # 2.2 lengths, whatever the length


def test_drift_at_r_max_corrects_that_velocity_alone_and_off_corrects_none(shard, tmp_path):
    paths = shard(["a"])
    sample = select(paths, tmp_path, drift="isotropic", drift_at="r_max").iloc[0]
    assert sample["v_rmax_circ_kms"] > sample["v_rmax_kms"]
    for velocity in ("v_max", "v_22", "v_re"):
        assert sample[f"{velocity}_circ_kms"] == sample[f"{velocity}_kms"]
    sample = select(paths, tmp_path, drift="off").iloc[0]
    assert sample["v_rmax_circ_kms"] == sample["v_rmax_kms"]
    assert sample["flags"] == 0


def test_galaxy_whose_drift_cannot_be_corrected_is_warned_of_and_stays(shard, tmp_path):
    def spoil(targets, galaxies, kinematics):
        galaxies["outer_dispersion_kms"] = [20.0, np.nan, 20.0]
        galaxies["r_max_arcsec"] = [12.0, 12.0, 1.7]  # below half a scale length

    sample = select(shard(["a", "no dispersion", "small"], spoil), tmp_path, drift="evans")
    assert list(sample["flags"] & GALAXY.NO_DRIFT_CORRECTION != 0) == [False, True, True]
    assert sample["used"].all()
    assert list(sample["v_max_circ_kms"][1:]) == list(sample["v_max_kms"][1:])


def write_kinematics(path, values, **columns):
    frame = good_rows([f"g{k}" for k in range(len(values))])[2]
    write_table(path, conform(frame.assign(chi2_velocity=values, **columns), KINEMATICS), KINEMATICS)
    return path


def test_threshold_is_the_mean_plus_sigma_of_those_nothing_else_excludes(tmp_path):
    one = write_kinematics(tmp_path / "one.parquet", [1.0, 2.0, np.nan, np.inf])
    two = write_kinematics(tmp_path / "two.parquet", [3.0, 50.0, 60.0], inclination_used_deg=[60, 20, 60], flags=[0, 0, GALAXY.QUALITY_BAD])
    record = freeze_threshold([one, two], settings_with(reconstruction_from="mean", reconstruction_sigma=1.5), tmp_path / "threshold.json")
    assert json.loads((tmp_path / "threshold.json").read_text()) == record | {"spearman_with_v": None}  # three galaxies say nothing
    assert record["n"] == 3 and record["mean"] == 2.0
    assert record["threshold"] == pytest.approx(2 + 1.5 * np.std([1, 2, 3]))
    from_zero = freeze_threshold([one, two], settings_with(reconstruction_from="zero", reconstruction_sigma=1), tmp_path / "zero.json")
    assert from_zero["threshold"] == pytest.approx(np.std([1, 2, 3]))


def test_threshold_says_how_its_statistic_goes_with_velocity(tmp_path, caplog):
    v = [100.0, 90.0, 130.0, 170.0, 150.0, 210.0, 60.0, 250.0, 300.0, 75.0, 5.0, 400.0]
    worse_when_faster = [*np.square(v[:10]), 1e6, np.nan]  # the last two: face-on, and without a value
    inclination = [60.0] * 10 + [20.0, 60.0]
    path = write_kinematics(tmp_path / "k.parquet", worse_when_faster, v_max_sini_kms=v, inclination_used_deg=inclination)
    with caplog.at_level("INFO", logger="tullyflow"):
        assert freeze_threshold([path], settings_with(), tmp_path / "t.json")["spearman_with_v"] == pytest.approx(1)
    assert "Spearman 1.00 with V_max sin i" in caplog.text
    few = write_kinematics(tmp_path / "few.parquet", worse_when_faster[:9], v_max_sini_kms=v[:9])
    assert np.isnan(freeze_threshold([few], settings_with(), tmp_path / "few.json")["spearman_with_v"])


def test_one_absurd_galaxy_does_not_move_the_robust_threshold(tmp_path):
    calm = write_kinematics(tmp_path / "calm.parquet", [1.0, 2.0, 3.0, 4.0, 5.0])
    absurd = write_kinematics(tmp_path / "absurd.parquet", [1.0, 2.0, 3.0, 4.0, 5e6])
    by = settings_with(reconstruction_from="median", reconstruction_sigma=2)
    expected = 3 + 2 * 1.4826
    assert freeze_threshold([calm], by, tmp_path / "calm.json")["threshold"] == pytest.approx(expected)
    assert freeze_threshold([absurd], by, tmp_path / "absurd.json")["threshold"] == pytest.approx(expected)


@pytest.mark.parametrize("relation", [{"reconstruction": "off"}, {}])
def test_threshold_of_nothing_is_null(relation, tmp_path):
    path = write_kinematics(tmp_path / "k.parquet", [1.0, 2.0] if relation else [np.nan, np.nan])
    freeze_threshold([path], settings_with(**relation), tmp_path / "threshold.json")
    assert json.loads((tmp_path / "threshold.json").read_text())["threshold"] is None


def write_release(tmp_path, release, names, survey="manga", flags=0):
    columns = {"galaxy": names, "survey": survey, "release": release, "v_max_kms": 100.0, "flags": flags, "log_mstar": 10.0}
    path = tmp_path / f"{survey}-{release}.parquet"
    write_table(path, conform(pd.DataFrame(columns), SAMPLE), SAMPLE)
    return path


def test_of_a_galaxy_in_two_releases_the_newest_is_used(tmp_path):
    paths = [
        write_release(tmp_path, "DR17", ["8485-1901", "new"]),
        write_release(tmp_path, "DR9", ["8485-1901", "old"]),  # 9 < 17, though not as text
        write_release(tmp_path, "DR15", ["8485-1901"]),
        write_release(tmp_path, "DR3", ["8485-1901"], survey="sami"),
    ]
    sample = merge_samples(paths, tmp_path / "sample.parquet")
    assert len(sample) == 6
    assert list(sample["flag_names"]) == ["", "", "DUPLICATE", "", "DUPLICATE", ""]
    assert list(sample["used"]) == [True, True, False, True, False, True]
    again = merge_samples([tmp_path / "sample.parquet"], tmp_path / "again.parquet")
    pd.testing.assert_frame_equal(again, sample)


def test_merged_sample_opens_in_astropy_with_units_and_descriptions(shard, tmp_path):
    select(shard(["a", "b"], drop_kinematics=["b"]), tmp_path)
    merged = merge_samples([tmp_path / "sample.parquet"], tmp_path / "whole.parquet")
    table = Table.read(tmp_path / "whole.ecsv")
    assert table.colnames == [c.name for c in SAMPLE]
    assert table["v_max_kms"].unit == units.km / units.s
    assert table["log_mstar"].unit == units.dex(units.Msun)
    assert table["r_turn_arcsec"].description.startswith("least squares on the stamp, or the mean over dropout samples (Dawson+2021 eq. 6)")
    assert table["v_max_kms"][0] == merged["v_max_kms"][0] and np.isnan(table["v_max_kms"][1])
    assert list(table["used"]) == [True, False]


def test_cut_flow_counts_everybody_once_in_order(tmp_path):
    bits = [0, GALAXY.FACE_ON, GALAXY.FACE_ON | GALAXY.QUALITY_BAD, GALAXY.MISSING_MAGNITUDE]
    path = write_release(tmp_path, "DR17", list("abcd"), flags=bits)
    flow = cut_flow(merge_samples([path], tmp_path / "sample.parquet"))
    assert flow.to_dict("list") == {
        "survey": ["manga"] * 3,
        "flag": ["", "QUALITY_BAD", "FACE_ON"],
        "alone": [0, 1, 2],
        "in_order": [0, 1, 1],
        "left": [4, 3, 2],
    }
