"""The figures of a run: each is drawn whatever is missing, shows what its table holds, and says what it cannot show."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from PIL import Image

from tullyflow.errors import SettingsError
from tullyflow.relation.cuts import cut_flow
from tullyflow.relation.rank_correlation import correlate_ranks
from tullyflow.relation.record import read_record
from tullyflow.report.figures.draw import draw_figure, make_figure
from tullyflow.report.figures.listing import FIGURES, figure_names, figure_relations, find_figure
from tullyflow.report.figures.panels import MANY_POINTS, robust_limits, running_median
from tullyflow.report.figures.style import save_picture
from tullyflow.settings import parse_settings
from tullyflow.tables import SAMPLE, read_table

NAMES = [entry.name for entry in FIGURES]
SETTINGS = parse_settings({"relation": {"velocities": ["v_max"], "methods": ["lts", "ols"]}})
CHOICES = {
    "rows": [{"section": "baseline", "slope": 0.26, "slope_err": 0.01}],
    "thresholds": [
        {"statistic": statistic, "sigma": sigma, "n_used": 30, "slope": 0.26 + k / 100, "slope_err": 0.01, "rms": 0.06, "error": None}
        for k, statistic in enumerate(("chi2", "mse_over_v")) for sigma in (1.0, 3.0, None)
    ],
}  # fmt: skip
WORDS = {  # what a reader must find in each figure of a complete sample
    "properties": ("MaNGA", "SAMI", "all targets", "age", "arcsec", "redshift", "inclination", "sSFR"),
    "reverse": ("rms", "Reyes+2011", "Bloom+2017", "this work", "residual (dex)", "line − this work", "least trimmed squares"),
    "forward": ("inverted", "this work", "rms"),
    "r_band": ("Dawson thesis", "(mag)", "rms"),
    "age": ("age", "V_{\\max}", "$r_s$ = 0.", "running median"),
    "mass_to_light": ("M_{\\!*}/L_r", "MaNGA", "SAMI", "p ≤ 0.001"),
    "turnover": ("r_\\mathrm{turn}", "against velocity", "open: ", "running median"),
    "magnitude_residual": ("fainter than the relation", "brighter", "R_\\mathrm{e}"),
    "mass_residual": ("M_{\\!*}(V_{\\max})", "R_\\mathrm{e}"),
    "extent": ("r_\\mathrm{max}", "$r_\\mathrm{max} = r_\\mathrm{turn}$"),
    "colours": ("Mean stellar age", "Star formation rate", "lowest third", "with the residual"),
    "threshold": ("reduced χ²", "over V", "as in this run", "galaxies"),
    "literature": ("Reyes+2011", "like with like", "asymptotic velocity", "slope", "intercept"),
    "cut_flow": ("MaNGA: ", "in this order", "by this cut alone"),
    "judgement": ("circularity κ", "All galaxies", "misfit below half its limit", "Taken out by exactly", "circularity alone", "alike"),
    "misalignment": ("By star formation", "star-forming", "% beyond 30", "usable or not", "share of the galaxies"),
}


@pytest.fixture(scope="module")
def full(finished_run) -> pd.DataFrame:
    """The made-up run's galaxies four times over, with every property and a trend in each."""
    sample = read_table(finished_run.sample, SAMPLE)
    sample = pd.concat([sample] * 4, ignore_index=True)
    rng, n = np.random.default_rng(7), len(sample)
    mass = sample["log_mstar"]
    sample["galaxy"] = [f"g{k}" for k in range(n)]
    sample["log_mstar"] = mass + rng.normal(0, 0.03, n)
    sample["z"], sample["psf_fwhm_arcsec"], sample["r_e_arcsec"] = rng.uniform(0.01, 0.1, n), 2.5, rng.uniform(4, 8, n)
    sample["log_age_yr"] = 9.4 + 0.3 * (mass - 10) + rng.normal(0, 0.1, n)
    sample["log_ml"] = 0.2 + 0.1 * (mass - 10) + rng.normal(0, 0.05, n)
    sample["log_sfr"] = 0.7 * (mass - 10) + rng.normal(0, 0.3, n)
    sample["log_ssfr"] = sample["log_sfr"] - mass
    sample["usable_prob"], sample["usable_stellar_prob"], sample["delta_pa_deg"] = (rng.uniform(low, 1, n) for low in (0, 0.4, 0))
    sample["delta_pa_deg"] *= 90
    sample["kappa"], sample["kappa_err"] = (0.6 * sample["usable_prob"] + rng.uniform(0, 0.4, n)), 0.1
    sample["reconstruction"], sample["reconstruction_threshold"] = 10 ** rng.normal(0.3, 0.4, n), 4.0
    sample["r_turn_arcsec"] = sample["r_e_arcsec"] * 10 ** (-0.4 - 0.3 * (mass - 10) + rng.normal(0, 0.1, n))
    return sample


@pytest.fixture(scope="module")
def fits(finished_run) -> list[dict]:
    return [read_record(path) for path in finished_run.relations[:4]]


@pytest.fixture(scope="module")
def drawn(full, fits):
    """Every fixed figure of the complete sample, with its table."""
    return {name: make_figure(name, full, fits, SETTINGS, choices=CHOICES) for name in NAMES}


def _texts(figure) -> str:
    legends = [legend for part in (figure, *figure.subfigs) for legend in part.legends]
    words = [text.get_text() for legend in legends for text in legend.get_texts()]
    words += [figure.get_suptitle(), *(legend.get_title().get_text() for legend in figure.legends)]
    for axes in figure.axes:
        words += [axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left"), *(text.get_text() for text in axes.texts)]
        words += [label.get_text() for label in axes.get_yticklabels()]
        if axes.get_legend():
            words += [axes.get_legend().get_title().get_text(), *(text.get_text() for text in axes.get_legend().get_texts())]
    return " ".join(" ".join(words).split())


def _picture(figure, arranged: bool = True) -> np.ndarray:
    """Grey values of the figure; not ``arranged`` leaves its panels where they fall, which is faster."""
    out = io.BytesIO()
    if not arranged:
        figure.set_layout_engine("none")
    figure.savefig(out, format="png", dpi=40)
    return np.asarray(Image.open(out).convert("L"), dtype=float)


def _dots(figure, axes: int = 0) -> np.ndarray:
    sets = [c.get_offsets() for c in figure.axes[axes].collections if isinstance(c, PathCollection)]
    return np.concatenate([np.asarray(points, dtype=float).reshape(-1, 2) for points in sets])


def test_every_figure_says_what_it_shows(drawn):
    assert set(WORDS) == set(NAMES)
    for name, (figure, table) in drawn.items():
        words = _texts(figure)
        for wanted in WORDS[name]:
            assert wanted in words, f"{name}: {wanted!r} not in {words}"
        assert len(table), name
        picture = _picture(figure)
        assert picture.std() > 10 and picture.mean() > 150, f"{name}: blank or black"


def test_figures_are_drawn_of_hardly_anything(full, fits):
    """Without ages and star formation; with five galaxies; with none; each with the fits, and with none."""
    partial = full.assign(log_age_yr=np.nan, log_sfr=np.nan, log_ssfr=np.nan, log_ml=np.nan)
    few = full[full["used"]].head(5).reset_index(drop=True)
    failed = [{"relation": fit["relation"], "velocity": "v_max", "method": "lts", "error": "fit: 5 galaxies."} for fit in fits[:1]]
    nobody, nothing = full.assign(used=False), full.iloc[:0]
    said = {
        "age": ("has a stellar age", None, "No galaxy is in the relation", "No galaxy is in the relation"),
        "colours": ("has a star formation rate", None, "No galaxy is in the relation", "No galaxy is in the relation"),
        "reverse": (None, "No fit: 5 galaxies.", "No galaxy is in the relation", "No galaxy is in the relation"),
        "mass_residual": (None, "the settings fit no forward relation", "No galaxy is in the relation", None),
        "threshold": ("not refitted", "not refitted", "not refitted", None), "literature": (None, "No fit of this run", None, None),
        "cut_flow": (None, None, None, "The sample has no galaxy"),
        "properties": ("has a star formation rate", None, "No galaxy", "No galaxy"),
        "judgement": (None, None, None, "No velocity field of this run was judged"),
        "misalignment": ("Gas and stars", None, None, "kinematic axis of both"),
    }  # fmt: skip
    for k, (sample, given) in enumerate(((partial, fits), (few, failed), (nobody, fits), (nothing, []))):
        for name in NAMES:
            figure, table = make_figure(name, sample, given, SETTINGS)
            assert _picture(figure, arranged=False).std() > 2, f"{name} {k}: blank"
            sentence = said.get(name, (None,) * 4)[k]
            assert sentence is None or sentence in _texts(figure), f"{name} {k}: {_texts(figure)}"
            assert isinstance(table, pd.DataFrame)


def test_few_galaxies_are_still_drawn(full, fits):
    few = full[full["used"]].head(4).reset_index(drop=True)
    figure, table = make_figure("age", few, fits, SETTINGS)
    assert len(_dots(figure)) == len(table) == 4
    assert "running median" not in _texts(figure) and "$r_s$" not in _texts(figure), "four galaxies have neither"


@pytest.mark.parametrize("name", ["age", "mass_to_light", "magnitude_residual", "mass_residual", "extent"])
def test_the_table_behind_a_trend_is_what_is_drawn(drawn, full, name):
    figure, table = drawn[name]
    shown = _dots(figure)
    x, y = (column for column in table if column not in ("galaxy", "survey", "r_turn_unresolved"))
    np.testing.assert_allclose(np.sort(shown, axis=0), np.sort(table[[x, y]].to_numpy(), axis=0))
    assert set(table["galaxy"]) <= set(full.loc[full["used"], "galaxy"])


def test_residuals_are_y_less_the_fit(drawn, full, fits):
    _, table = drawn["magnitude_residual"]
    fit = next(fit for fit in fits if fit["relation"] == "r_band")
    rows = table.merge(full, on="galaxy")
    log_v = np.log10(rows["v_max_circ_kms"])
    expected = rows["abs_mag_r"] - (fit["slope"] * (log_v - fit["pivot"]) + fit["intercept"])
    np.testing.assert_allclose(rows["residual_r_band"], expected, atol=1e-9)


def test_coefficients_are_the_records_or_measured_here(full, fits):
    rows = [{"x": "log_age_yr", "y": "log_v", "at_fixed": fixed, "survey": "manga", "rho": rho, "rho_err": 0.04, "p": 0.2}
            for fixed, rho in (("log_mstar", -0.11), (None, 0.77))]  # fmt: skip
    figure, table = make_figure("age", full, fits, SETTINGS, rows)
    assert "$r_s$ = 0.77 ± 0.04, p = 0.20" in _texts(figure) and "0.11" not in _texts(figure)
    sami = table[table["survey"] == "sami"]
    found = correlate_ranks(sami["log_v"], sami["log_age_yr"], np.random.default_rng(SETTINGS.seed))
    assert f"$r_s$ = {found.rho:.2f} ± {found.rho_err:.2f}, p ≤ 0.001" in _texts(figure)


def test_histograms_hold_every_galaxy_of_the_relation(drawn, full):
    figure, table = drawn["properties"]
    assert len(table) == len(full)
    used = full[full["used"]]
    axes = figure.axes[0]
    filled = sorted({round(float(patch.get_xy()[:, 1].max()), 6) for patch in axes.patches})
    low, high = axes.get_xlim()
    tallest = max(np.histogram(used.loc[used["survey"] == s, "log_mstar"], bins=_edges(axes))[0].max() for s in ("manga", "sami"))
    assert tallest in filled and low < used["log_mstar"].median() < high


def _edges(axes) -> np.ndarray:
    return np.unique(np.round(axes.patches[0].get_xy()[:, 0], 9))


def test_unresolved_turnovers_are_open_and_counted(drawn, full):
    figure, table = drawn["extent"]
    used = full[full["used"]].set_index("galaxy").loc[table["galaxy"]]
    unresolved = (used["r_turn_arcsec"] < 1.25).to_numpy()
    assert 0 < unresolved.sum() < len(table)
    np.testing.assert_array_equal(table["r_turn_unresolved"], unresolved)
    assert f"within half the beam ({unresolved.sum()})" in _texts(figure)
    hollow = [c for c in figure.axes[0].collections if isinstance(c, PathCollection) and not len(c.get_facecolors())]
    assert sum(len(c.get_offsets()) for c in hollow) == unresolved.sum()


def test_trends_of_the_first_velocity_are_those_that_are_said(full, fits):
    row = {"x": "r_turn_over_re", "y": "residual_r_band", "at_fixed": None, "survey": "manga", "rho_err": 0.01, "p": 0.5}
    rows = [row | {"velocity": "v_max", "rho": 0.11}, row | {"velocity": "v_22", "rho": 0.99}]
    words = _texts(make_figure("magnitude_residual", full, fits, SETTINGS, rows)[0])
    assert "0.11 ± 0.01" in words and "0.99" not in words
    for name in ("magnitude_residual", "mass_residual"):
        assert "partly algebra" in find_figure(name, SETTINGS).caption


def test_the_literature_is_filled_where_it_is_like_with_like(drawn):
    figure, table = drawn["literature"]
    dots = [line for line in figure.axes[0].lines if line.get_marker() != "None"]
    filled = [line for line in dots if line.get_markerfacecolor() not in ("white", "None")]
    reverse = table[table["relation"] == "reverse"]
    drawn_like = [float(line.get_xdata()[0]) for line in filled if len(line.get_xdata()) == 1]
    np.testing.assert_allclose(sorted(drawn_like), sorted(reverse.loc[reverse["like_with_like"], "slope_difference"]))
    assert ((table["unlike"] == "") == table["like_with_like"]).all()
    assert table.loc[table["published"].str.endswith(", inverted"), "unlike"].str.contains("an inverted reverse fit").all()
    assert "direction of the regression" in find_figure("literature", SETTINGS).caption
    assert "regression or masses" in _texts(figure)


def test_bars_of_the_cut_flow_are_its_numbers(drawn, full):
    figure, table = drawn["cut_flow"]
    pd.testing.assert_frame_equal(table, cut_flow(full))
    widths = sorted(patch.get_width() for patch in figure.axes[0].patches)
    rows = table[(table["survey"] == table["survey"].iloc[0]) & (table["flag"] != "")]
    assert widths == sorted([*rows["alone"], *rows["in_order"]])


def test_thresholds_end_with_off(drawn):
    figure, table = drawn["threshold"]
    assert len(table) == 6 and table["sigma"].isna().sum() == 2
    labels = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    assert labels == ["1", "3", "off"]


def test_thousands_of_points_are_an_image_in_the_pdf(full, fits, tmp_path):
    many = pd.concat([full] * (MANY_POINTS // int(full["used"].sum()) + 1), ignore_index=True)
    figure, table = make_figure("turnover", many, fits, SETTINGS, [{"x": x, "y": "r_turn_over_re", "survey": s, "rho": 0.1}
                                for x in ("log_v", "log_mstar") for s in ("manga", "sami")])  # fmt: skip
    assert len(table) > MANY_POINTS
    assert all(c.get_rasterized() for axes in figure.axes for c in axes.collections if isinstance(c, PathCollection))
    save_picture(figure, tmp_path / "many.pdf")
    assert (tmp_path / "many.pdf").stat().st_size < 600_000


def test_a_figure_is_three_files_made_from_a_runs_files(finished_run, tmp_path):
    saved = draw_figure("mass_residual", finished_run.sample, finished_run.relations[2:3], SETTINGS, tmp_path / "mass_residual")
    with Image.open(saved.png) as image:
        assert image.width > 1000
    table = pd.read_csv(saved.csv)
    assert {"galaxy", "survey", "r_turn_over_re", "residual_forward"} <= set(table) and len(table) > 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mass_residual.csv", "mass_residual.pdf", "mass_residual.png"]


def test_names_follow_the_settings_and_a_wrong_one_lists_them():
    assert [entry.number for entry in FIGURES[:10]] == [f"4.{k}" for k in range(1, 11)]
    names = figure_names(SETTINGS)
    assert names == [*NAMES, "reverse-v_max-ols", "forward-v_max-ols", "r_band-v_max-ols"], "the first fit is the thesis' figure"
    assert "reverse-v_max-lts" in figure_names(SETTINGS, every=True)
    assert figure_relations(find_figure("colours", SETTINGS), SETTINGS) == ["reverse-v_max-lts"]
    assert len(figure_relations(find_figure("literature", SETTINGS), SETTINGS)) == 6
    only = parse_settings({"relation": {"relations": ["reverse"]}})
    assert figure_relations(find_figure("mass_residual", only), only) == []
    with pytest.raises(SettingsError, match="no figure 'ages'; there are: properties"):
        find_figure("ages", SETTINGS)


def test_running_medians_ignore_outliers_and_know_their_error():
    rng = np.random.default_rng(4)
    x = rng.uniform(0, 1, 900)
    y = 2 * x + rng.normal(0, 0.3, 900)
    y[::20] += 50
    medians = running_median(x, y)
    assert list(medians["n"]) == [100] * 9 and (np.diff(medians["x"]) > 0).all()
    pulls = (medians["y"] - 2 * medians["x"]) / medians["err"]
    assert np.abs(pulls).max() < 4 and 0.02 < medians["err"].mean() < 0.06
    assert running_median(x[:29], y[:29]).empty and len(running_median(x[:30], y[:30])) == 3


def test_limits_leave_outliers_out_but_no_few_points():
    values = np.r_[np.linspace(1, 2, 400), 1e6, np.nan, -np.inf]
    low, high = robust_limits(values)
    assert 0.8 < low < 1 and 2 < high < 2.2
    assert robust_limits([1.0, 2.0, 9.0])[1] > 9 and robust_limits([np.nan]) == (0.0, 1.0)
    assert robust_limits([-1.0, 0.1, 10.0], log=True)[0] == pytest.approx(0.1 * 10 ** (-0.06 * 2))
