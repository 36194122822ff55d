"""Figures: data behind each, limits centred on the systemic velocity, and what is said where a fit failed."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tullyflow.errors import ModelError
from tullyflow.relation.literature import LITERATURE
from tullyflow.relation.record import read_record
from tullyflow.report.figures.closure import plot_closure
from tullyflow.report.figures.drift import drift_corrections
from tullyflow.report.figures.galaxy import plot_galaxy
from tullyflow.report.figures.relation import plot_relation, relation_points
from tullyflow.report.figures.sky_marks import scale_bar_arcsec
from tullyflow.report.figures.style import RESIDUAL_LIMIT_KMS, house_style, round_limit, save_figure, survey_style
from tullyflow.report.figures.training import plot_training, read_history
from tullyflow.report.galaxy import azimuthal_velocities, read_views
from tullyflow.report.pictures import check_pictures
from tullyflow.settings import parse_settings
from tullyflow.tables import SAMPLE, read_table


@pytest.fixture(scope="module")
def sample(finished_run) -> pd.DataFrame:
    return read_table(finished_run.sample, SAMPLE)


@pytest.fixture(scope="module")
def view(finished_run, sample):
    row = sample[sample["used"] & sample["inclination_used_deg"].between(45, 70)].head(1)
    return read_views(row, finished_run.maps, finished_run.models)[0]


def _texts(figure) -> str:
    legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return " ".join([*legends, *(text.get_text() for axes in figure.axes for text in axes.texts)])


def test_points_of_used_galaxies_are_those_the_fit_was_made_from(finished_run, sample):
    fit = read_record(finished_run.relations[0])
    points = relation_points(sample, fit, finished_run.settings)
    assert points["used"].sum() == fit["n_used"] + fit["n_outliers"]
    kept = points[points["used"] & ~points["outlier"]]
    assert np.sqrt(np.mean(kept["residual"] ** 2)) == pytest.approx(fit["rms"], rel=0.1)
    assert np.polyfit(kept["x"], kept["y"], 1)[0] == pytest.approx(fit["slope"], abs=3 * fit["slope_err"])
    assert (~points["used"]).any(), "excluded galaxies are drawn faint, not left out"


def test_relation_figure_has_units_pivot_band_literature_and_residuals(finished_run, sample):
    fit = read_record(finished_run.relations[0])
    lines = [line for line in LITERATURE if line["relation"] == "reverse"]
    figure = plot_relation(sample, fit, finished_run.settings, lines)
    top, bottom = figure.axes
    assert "km" in top.get_ylabel() and "odot" in bottom.get_xlabel() and "dex" in bottom.get_ylabel()
    words = _texts(figure)
    for wanted in ("MaNGA", "SAMI", "excluded", "this work", "intrinsic scatter", "pivot", "Reyes+2011", "Bloom+2017"):
        assert wanted in words, wanted
    low, high = bottom.get_ylim()
    assert low == -high, "residuals are centred on the fit"
    assert top.get_legend() is None, "the legend stands above the axes, where there are no galaxies"


def test_magnitudes_grow_brighter_upwards(finished_run, sample):
    figure = plot_relation(sample, read_record(finished_run.relations[3]), finished_run.settings)
    low, high = figure.axes[0].get_ylim()
    assert low > high


def test_a_failed_fit_still_shows_galaxies_and_says_why(finished_run, sample):
    fit = read_record(finished_run.relations[-1])
    figure = plot_relation(sample, fit, finished_run.settings)
    assert "4 galaxies are left" in _texts(figure)
    assert relation_points(sample, fit, finished_run.settings)["residual"].isna().all()
    said = _texts(plot_relation(sample, {**fit, "error": "fit: 3 point(s) to fit."}, finished_run.settings))
    assert "No fit: 3 point(s) to fit." in said
    nobody = plot_relation(sample.assign(v_22_circ_kms=np.nan), fit, finished_run.settings)
    assert nobody.axes


def test_surveys_differ_in_colour_and_marker():
    styles = [survey_style(name) for name in ("manga", "sami", "things", "local", "a fifth")]
    assert len({s.colour for s in styles}) == len({s.marker for s in styles}) == 5


def test_a_figure_is_saved_three_times_and_is_the_same_file_when_nothing_changed(finished_run, sample, tmp_path):
    fit = read_record(finished_run.relations[0])
    data = relation_points(sample, fit, finished_run.settings)
    saved = [save_figure(plot_relation(sample, fit, finished_run.settings), tmp_path / name, data) for name in ("a", "b")]
    for kind in ("png", "pdf", "csv"):
        first, second = (getattr(s, kind).read_bytes() for s in saved)
        assert first == second and len(first) > 1000, kind
    assert saved[0].png.read_bytes()[16:20] == (1280).to_bytes(4, "big"), "6.4 inches at 200 dpi"
    assert list(pd.read_csv(saved[0].csv).columns) == list(data.columns)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.pdf", "a.png", "b.csv", "b.pdf", "b.png"]


def test_house_style_ignores_and_keeps_the_users_style():
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 31}):
        with house_style():
            assert mpl.rcParams["font.size"] == 9
        assert mpl.rcParams["font.size"] == 31


def test_velocity_maps_are_centred_on_zero_and_share_their_limits(view):
    axes = {a.get_title(loc="left"): a for a in plot_galaxy(view, {}).axes}
    limits = {name: axes[name].images[0].get_clim() for name in ("Velocity", "Model", "Residual")}
    assert limits["Velocity"] == limits["Model"]
    assert limits["Velocity"][0] == -limits["Velocity"][1]
    low, high = limits["Residual"]
    assert -low == high >= RESIDUAL_LIMIT_KMS
    assert limits["Velocity"][1] >= np.nanpercentile(np.abs(view.velocity), 98)


def test_the_receding_side_is_drawn_to_the_right_and_red(view):
    axes = {a.get_title(loc="left"): a for a in plot_galaxy(view, {}).axes}
    image = axes["Velocity"].images[0]
    shown = image.get_array()
    assert np.nanmean(np.ma.filled(shown[:, 40:], np.nan)) > 0 > np.nanmean(np.ma.filled(shown[:, :24], np.nan))
    assert image.origin == "lower"
    red, _, blue, _ = image.cmap(image.norm(image.get_clim()[1] * 0.8))
    assert red > blue


def test_masked_pixels_are_shown_in_no_map(view):
    masked = ~np.isfinite(view.velocity)
    axes = {a.get_title(loc="left"): a for a in plot_galaxy(view, {}).axes}
    for name in ("Velocity", "Model", "Residual"):
        shown = np.ma.filled(np.ma.masked_invalid(axes[name].images[0].get_array()), np.nan)
        assert np.isnan(shown[masked]).all(), name


@pytest.mark.parametrize(("half_width", "length"), [(15.0, 10.0), (16.0, 10.0), (3.2, 2.0), (320.0, 200.0)])
def test_scale_bar_is_a_round_length(half_width, length):
    assert scale_bar_arcsec(half_width) == pytest.approx(length)


def test_rotation_velocities_by_ring_recover_the_curve():
    x, y = np.meshgrid(np.arange(64) - 31.5, np.arange(64) - 31.5)
    radius = np.hypot(x, y / np.cos(np.radians(60)))
    velocity = 150 * np.tanh(radius / 8) * np.sin(np.radians(60)) * x / radius
    velocity[:, :20] = np.nan  # the approaching side ends earlier
    rings = azimuthal_velocities(velocity, 60.0, 0.5)
    np.testing.assert_allclose(rings["velocity_kms"], 150 * np.tanh(rings["radius_arcsec"] / 0.5 / 8), rtol=0.05)
    reach = rings.groupby("side")["radius_arcsec"].max()
    assert reach["approaching"] < 8 < reach["receding"]
    assert azimuthal_velocities(velocity, 89.5, 0.5).empty and azimuthal_velocities(velocity, np.nan, 0.5).empty


def test_a_colour_limit_is_round_and_survives_nothing():
    assert round_limit([np.nan, -143.0, 12.0], percentile=100) == 150.0
    assert round_limit([np.nan]) == 20.0


def test_training_curves_are_read_from_epochs_or_steps(finished_run, tmp_path):
    history = read_history(finished_run.networks[0] / "history.csv")
    drawn = {line.get_label() for line in plot_training(history, "MaNGA").axes[0].lines}
    assert drawn == {"training, both maps", "training, intensity", "training, velocity", "validation, both maps"}
    (tmp_path / "steps.csv").write_text("step,loss,learning_rate\n10,0.5,0.001\n20,0.2,0.0005\n")
    assert plot_training(read_history(tmp_path / "steps.csv"), "Synthetic discs").axes[-1].get_xlabel() == "step"
    (tmp_path / "steps.csv").write_text("step,loss,learning_rate\n10,0.5,0.001\n20,-0.2,0.0005\n")
    likelihood = plot_training(read_history(tmp_path / "steps.csv"), "Synthetic discs").axes[0]
    assert (likelihood.get_yscale(), likelihood.get_ylabel()) == ("linear", "- ln likelihood")
    assert likelihood.lines[0].get_ydata().tolist() == [0.5, -0.2]
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ModelError, match="no columns epoch"):
        read_history(tmp_path / "other.csv")


def test_drift_corrections_are_of_used_galaxies_only(sample):
    corrections = drift_corrections(sample, "v_max")
    assert len(corrections) == sample["used"].sum() and (corrections["correction_kms"] > 0).all()


def test_position_angles_close_across_north():
    table = pd.DataFrame(
        {"survey": ["manga"] * 3, "pa_deg_true": [359.0, 180.0, 2.0], "pa_deg_found": [1.0, 181.0, 358.0], "pa_deg_err": 1.0}
    )
    bottom = plot_closure(table).axes[1]
    drawn = np.sort(np.concatenate([line.get_ydata() for line in bottom.lines if len(line.get_ydata()) == 3]).astype(float))
    np.testing.assert_allclose(drawn, [-4.0, 1.0, 2.0])


def test_drift_corrections_are_said_with_what_simulations_found_and_only_where_there_are_any(sample, tmp_path):
    settings = parse_settings({"relation": {"velocities": ["v_max", "v_22"]}})
    sample = sample.assign(v_22_circ_kms=sample["v_22_kms"], v_max_circ_kms=sample["v_max_kms"])
    pictures, (note,) = check_pictures(sample, settings, tmp_path)
    assert note.startswith("No galaxy") and [p.name for p in pictures] == ["inclination"]
    three = sample.index[sample["used"]][:3]
    sample.loc[[*three, sample.index[~sample["used"]][0]], "v_22_circ_kms"] += 9.0
    pictures, (note,) = check_pictures(sample, settings, tmp_path)
    assert note.startswith(f"3 of {sample['used'].sum()} galaxies") and "(evans)" in note and [p.name for p in pictures] == ["inclination"]
    maps = json.loads((Path(__file__).parents[2] / "benchmarks/drift.json").read_text())["figures"]["maps"]
    said = [float(n) for n in re.search(r"(\d+), (\d+) and (\d+) % too fast", note).groups()]
    for percent, sigma in zip(said, (25, 40, 60), strict=True):
        medians = maps[f"sigma {sigma} km/s"]["V / V_circ at r_max: isotropic gas, V of the network"]
        assert 100 * (medians["evans"]["median"] - 1) == pytest.approx(percent, abs=0.51)
        assert medians["isotropic"]["median"] == pytest.approx(1, abs=0.01)
    slopes = maps["sigma 40 km/s"]["reverse relation: isotropic gas, V_max of the network corrected as the thesis does"]
    assert f"slope {slopes['evans']['slope']:.2f} for 0.26" in note and f"{slopes['off']['slope']:.2f} uncorrected" in note
