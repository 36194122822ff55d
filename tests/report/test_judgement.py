"""Promises of the tests on velocity fields: verdicts are the cuts', contradictions are found, the eye is read as it wrote."""

import json
import logging
import re
from html import unescape

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from tullyflow.flags import GALAXY
from tullyflow.relation.cuts import not_circular, not_usable, poor_reconstruction
from tullyflow.report.addresses import page_address
from tullyflow.report.figures.draw import make_figure
from tullyflow.report.figures.misalignment import binomial_interval, misalignment_table, share_misaligned
from tullyflow.report.judged_words import judged_sentences
from tullyflow.report.judgement import combinations, disagreement_words, eye_classes, judgement_table, known_tests, overlaps, strongest
from tullyflow.report.judges import is_judge, judge_sentences
from tullyflow.report.page import build_report
from tullyflow.report.story import story
from tullyflow.settings import parse_settings
from tullyflow.tables import SAMPLE, conform, write_table

DEFAULTS = parse_settings({})
CUT = parse_settings({"relation": {"usable_prob_min": 0.4, "kappa_min": 0.6}})


def sample_of(rows: list[dict]) -> pd.DataFrame:
    """Galaxies g0, g1 ... of MaNGA that every test keeps but for what ``rows`` say."""
    good = {"survey": "manga", "release": "DR17", "usable_prob": 0.9, "kappa": 0.8, "kappa_err": 0.1, "reconstruction": 1.0,
            "reconstruction_threshold": 4.0, "chi2_velocity": 1.0}  # fmt: skip
    return conform(pd.DataFrame([good | {"galaxy": f"g{k}"} | row for k, row in enumerate(rows)]), SAMPLE)


@pytest.fixture
def labels(tmp_path):
    """Classes by eye of g0 to g4: not to be used, messy, clean, no class of the gas, and none at all."""
    path = tmp_path / "classes.csv"
    path.write_text("galaxy,quality,quality_stellar\ng0,0,2\ng1,1,2\ng2,2,0\ng3,,2\ng4,,\n")
    return path


def test_verdicts_are_those_of_the_runs_own_cuts():
    rng, n = np.random.default_rng(1), 400
    sample = sample_of([{}] * n).assign(
        usable_prob=rng.uniform(size=n), kappa=rng.uniform(size=n), reconstruction=10 ** rng.normal(0.6, 0.5, n),
        flags=np.where(rng.uniform(size=n) < 0.1, GALAXY.UNLIKE_SIMULATED, 0),
    )  # fmt: skip
    sample.loc[:20, "usable_prob"], sample.loc[10:30, "kappa"], sample.loc[40:50, "reconstruction"] = np.nan, np.nan, np.nan
    sample.loc[60, ["usable_prob", "kappa"]] = 0.4, 0.6  # on the cuts
    table = judgement_table(sample, CUT)
    assert set(sample.index) - set(table.index) == set(range(10, 21)), "neither judged"
    rows = sample.loc[table.index]
    for test, cut, known in (
        ("usability", not_usable, rows["usable_prob"].notna()), ("reconstruction", poor_reconstruction, rows["reconstruction"].notna()),
        ("circularity", not_circular, rows["kappa"].notna() & (rows["flags"] == 0)),
    ):  # fmt: skip
        verdict = table[f"out_{test}"]
        np.testing.assert_array_equal(verdict.notna(), known)
        np.testing.assert_array_equal(verdict[known].astype(bool), cut(rows[known], CUT.relation), err_msg=test)
    half = judgement_table(sample, DEFAULTS)
    assert half["out_usability"].sum() == (half["usable_prob"] < 0.5).sum(), "a cut that is off is tried at a half"
    assert judgement_table(sample.assign(flags=GALAXY.DUPLICATE), CUT).empty, "a second observation is not counted again"


def test_combinations_and_overlaps_count_every_galaxy_once(labels):
    out = {"usability": {"usable_prob": 0.1}, "circularity": {"kappa": 0.1}, "reconstruction": {"reconstruction": 9.0}}
    chosen = [("usability",), ("usability", "circularity"), (), ("reconstruction",), ("reconstruction",), ("usability", "reconstruction")]
    rows = [{key: value for test in tests for key, value in out[test].items()} for tests in chosen]
    settings = parse_settings({"network": {"usability": {"labels": str(labels)}}})
    table = judgement_table(sample_of([*rows, {"reconstruction": np.nan}]), settings)
    counts = combinations(table).set_index("tests")
    assert counts["n"].to_dict() == {
        "": 1, "usability": 1, "circularity": 0, "reconstruction": 2, "usability,circularity": 1, "usability,reconstruction": 1,
        "circularity,reconstruction": 0, "usability,circularity,reconstruction": 0,
    }  # fmt: skip
    assert counts.loc["usability", ["eye_out", "eye_kept", "eye_unknown"]].tolist() == [1, 0, 0], "g0 is not to be used"
    assert counts.loc["reconstruction", ["eye_out", "eye_kept", "eye_unknown"]].tolist() == [0, 0, 2]
    pairs = overlaps(table).set_index(["test", "other"])
    assert pairs.loc[("usability", "usability"), ["both", "out"]].tolist() == [7, 3]
    assert pairs.loc[("usability", "reconstruction"), ["both", "out", "out_too"]].tolist() == [6, 3, 1]
    assert pairs.loc[("reconstruction", "usability"), ["out", "out_too"]].tolist() == [3, 1]
    assert pairs.loc[("usability", "reconstruction"), "agree"] == pytest.approx(2 / 6)
    assert known_tests(table) == ["usability", "circularity", "reconstruction", "eye"]
    assert combinations(judgement_table(sample_of([{"kappa": np.nan, "reconstruction": np.nan}]), DEFAULTS)).empty


def test_the_strongest_contradictions_come_first_and_an_uncertain_kappa_contradicts_less():
    split = {"usable_prob": 0.99, "kappa": 0.2, "kappa_err": 0.05}
    all_out = {"usable_prob": 0.01, "kappa": 0.1, "reconstruction": 99.0}
    sample = sample_of([{}, split | {"kappa_err": 0.4}, split, all_out, split | {"reconstruction": 40.0}])
    table = judgement_table(sample, DEFAULTS)
    assert table["disagreement"].iloc[[0, 3]].tolist() == [0, 0], "all agree"
    assert strongest(table)["galaxy"].tolist() == ["g4", "g2", "g1"] and len(strongest(table, 2)) == 2
    assert disagreement_words(table.loc[4]) == ("usability 0.99", "κ 0.20 ± 0.05, misfit 40 (limit 4)")
    unlike = judgement_table(sample.assign(flags=GALAXY.UNLIKE_SIMULATED), DEFAULTS)
    assert unlike["disagreement"].iloc[2] == 0, "a kappa that may mean nothing contradicts nobody"


def test_the_eye_is_read_as_it_wrote_and_a_table_that_cannot_be_read_costs_only_its_classes(labels, tmp_path, caplog):
    sample = sample_of([{}] * 6)
    settings = parse_settings({"manga": {"network": {"usability": {"labels": str(labels)}}}})
    np.testing.assert_array_equal(eye_classes(sample, settings), [0, 1, 2, np.nan, np.nan, np.nan])
    assert eye_classes(sample.assign(survey="sami"), settings).isna().all(), "labels of another survey"
    out = judgement_table(sample, settings)["out_eye"]
    assert out[:3].tolist() == [True, False, False] and out[3:].isna().all(), "only class 0 is taken out"
    for content in ("galaxy;quality\ng0;1\n", "\x00"):
        (tmp_path / "bad.csv").write_text(content)
        with caplog.at_level(logging.WARNING, logger="tullyflow"):
            bad = eye_classes(sample, parse_settings({"network": {"usability": {"labels": str(tmp_path / "bad.csv")}}}))
        assert bad.isna().all() and "bad.csv: " in caplog.text and "No classes by eye of manga" in caplog.text
        caplog.clear()


@pytest.mark.parametrize(("changes", "said", "unsaid"), [
    ({}, "use this velocity field with probability 0.93, that of its stars with 0.88", "may mean nothing"),
    ({}, "kappa = 0.82 ± 0.07 of the kinetic energy is in ordered rotation", "a half"),
    ({"usable_stellar_prob": np.nan}, "with probability 0.93.", "stars"),
    ({"usable_prob": 0.9999}, "with probability above 0.99,", "1.00"),
    ({"usable_prob": 0.001}, "with probability below 0.01,", "0.00"),
    ({"usable_prob": np.nan}, "too little of one; the stars' an eye would use with probability 0.88", "0.93"),
    ({"usable_prob": np.nan, "usable_stellar_prob": np.nan}, "Usability: there is no velocity field to judge", "nan"),
    ({"kappa": np.nan}, "Circularity: there is no velocity field to judge", "kinetic energy"),
    ({"kappa": 0.52}, "on neither side of a half", "nan"),
    ({"kappa_err": np.nan}, "How uncertain that is, is not known.", "±"),
    ({"flags": GALAXY.UNLIKE_SIMULATED}, "kappa of 0.82 ± 0.07 found may mean nothing, and no cut is made", "kinetic energy"),
])  # fmt: skip
def test_what_was_judged_is_said_and_what_was_not(changes, said, unsaid):
    row = {"flags": 0, "usable_prob": 0.93, "usable_stellar_prob": 0.88, "kappa": 0.82, "kappa_err": 0.07} | changes
    words = " ".join(judged_sentences(row))
    assert said in words and unsaid not in words


def test_a_table_of_before_was_not_judged_and_the_story_has_the_chapter():
    assert judged_sentences({"flags": 0}) == ["Usability and circularity were not judged in this run."]
    row = sample_of([{"shard": "x", "flags": GALAXY.NOT_USABLE | GALAXY.UNLIKE_SIMULATED, "usable_prob": 0.31237}]).iloc[0].to_dict()
    told = {section.title: section for section in story(row, CUT.model_dump(mode="json"))}
    assert "probability 0.31" in told["Is it a disc?"].sentences[0]
    cuts = {cells[0]: cells[1:4] for cells in told["Every cut"].rows}
    assert cuts["NOT_USABLE"] == ("failed", "probability that an eye would use the field 0.3124", "at least 0.4")
    assert cuts["NOT_CIRCULAR"][0] == "not tested" and "unlike all it was learned on" in cuts["NOT_CIRCULAR"][1]
    needed = told["What would have to change"].sentences
    assert "NOT_USABLE: relation.usable_prob_min would have to be at most 0.3123 (it is 0.4)." in needed


def test_shares_of_misaligned_galaxies_are_of_the_usable_and_their_intervals_cover():
    angles = [5.0, 30.0, 31.0, 170.0, 60.0, np.nan, 90.0]
    sample = sample_of([{"delta_pa_deg": a, "usable_stellar_prob": 0.5} for a in angles])
    sample.loc[4, "usable_stellar_prob"], sample.loc[6, "flags"] = 0.49, GALAXY.DUPLICATE
    table = misalignment_table(sample.assign(log_ssfr=[-10, -10, -12, np.nan, -10, -10, -10]), DEFAULTS)
    assert table["galaxy"].tolist() == ["g0", "g1", "g2", "g3", "g4"] and table["usable"].tolist() == [True, True, True, True, False]
    assert table["ssfr"].tolist() == ["star-forming", "star-forming", "quiescent", "", "star-forming"]
    share, low, high = share_misaligned(table.loc[table["usable"], "delta_pa_deg"])
    assert share == 0.5 and low < 0.5 < high, "30 deg is aligned"
    assert binomial_interval(0, 10)[0] == 0 and binomial_interval(10, 10)[1] == 1 and np.isnan(binomial_interval(0, 0)).all()
    n, truth = 60, 0.12
    k = np.arange(n + 1)
    inside = np.array([low <= truth <= high for low, high in (binomial_interval(int(j), n) for j in k)])
    assert binom.pmf(k, n, truth)[inside].sum() == pytest.approx(0.68, abs=0.07)


def test_the_histogram_of_misalignments_is_of_shares_and_says_where_nothing_was_judged():
    rng, n = np.random.default_rng(2), 300
    sample = sample_of([{"usable_stellar_prob": 0.9}] * n).assign(
        delta_pa_deg=np.abs(rng.normal(0, 12, n)), log_ssfr=rng.normal(-11, 1, n), usable_prob=np.where(np.arange(n) < 100, 0.2, 0.9)
    )
    figure, table = make_figure("misalignment", sample, [], DEFAULTS)
    (axes,) = figure.axes
    steps = {patch.get_linewidth(): patch.get_data() for patch in axes.patches}
    assert all(np.nansum(step.values) == pytest.approx(1) for step in steps.values()) and len(axes.patches) == 3
    words = " ".join(text.get_text() for text in axes.get_legend().get_texts())
    assert "all, usable or not (300)" in words and f"quiescent ({(table['usable'] & (table['ssfr'] == 'quiescent')).sum()})" in words
    blank = sample.assign(usable_prob=np.nan, usable_stellar_prob=np.nan, log_ssfr=np.nan)
    (axes,) = make_figure("misalignment", blank, [], DEFAULTS)[0].axes
    assert "usability not judged (300)" in " ".join(text.get_text() for text in axes.get_legend().get_texts())


def test_the_figure_parts_galaxies_by_what_the_eye_said(labels):
    sample = sample_of([{"usable_prob": p, "kappa": k} for p, k in ((0.2, 0.3), (0.9, 0.7), (0.95, 0.9), (0.6, 0.4), (0.7, 0.8))])
    settings = parse_settings({"network": {"usability": {"labels": str(labels)}}, "relation": {"usable_prob_min": None, "kappa_min": 0.6}})
    figure, table = make_figure("judgement", sample, [], settings)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:3] == ["The eye would use it (2)", "The eye would not use it (1)", "No eye looked (2)"]
    np.testing.assert_allclose(np.sort(figure.axes[1].collections[0].get_offsets()[:, 0]), [0.2])
    (vertical, horizontal) = figure.axes[0].lines
    assert vertical.get_xdata()[0] == 0.5 and vertical.get_linestyle() == "--", "no cut: dashed at a half"
    assert horizontal.get_ydata()[0] == 0.6 and horizontal.get_linestyle() == "-"
    alone, _ = make_figure("judgement", sample, [], DEFAULTS)
    assert alone.axes[0].get_title(loc="left") == "All galaxies (5)"
    assert len(table) == 5 and {"out_eye", "disagreement"} <= set(table)


def test_the_report_lists_whom_the_tests_contradict_with_pages_thumbnails_and_harmless_names(finished_run, judged_sample, tmp_path):
    write_table(tmp_path / "sample.parquet", judged_sample, SAMPLE)
    page = build_report(
        tmp_path / "sample.parquet", relation_paths=[], models_paths=finished_run.models, maps_paths=finished_run.maps, network_dirs=[],
        benchmarks_dir=None, closure_path=None, settings=finished_run.settings, out_dir=tmp_path / "report",
    )  # fmt: skip
    text = page.read_text(encoding="utf-8")
    section = text[text.index('<section id="judgement"') : text.index('<section id="gallery"')]
    table = judgement_table(judged_sample, finished_run.settings)
    contested = strongest(table)
    assert len(contested) == 7 and section.count("<li>") == 7 and section.count('class="thumb"') == 7
    for row in contested.itertuples():
        address = page_address(row.survey, row.release, row.galaxy)
        assert f'href="{address}"' in section and (page.parent / address).is_file(), "contested galaxies have pages, used or not"
    assert "<script" not in section and "<img" not in section and "&lt;img src=x" in section
    sheets = [re.search(r"gallery/([\w.+-]+)", style)[1] for style in re.findall(r'style="([^"]*)"', section)]
    assert all((page.parent / "gallery" / sheet).is_file() for sheet in sheets) and len(sheets) == 7
    words = " ".join(unescape(re.sub("<[^>]*>", " ", section)).split())
    assert f"{len(table)} velocity fields were judged. The run cuts at usability 0.5; where it does not" in words
    assert "keep it: usability 0.99, misfit 0.1 (limit 4) take it out: κ 0.02 ± 0.05" in words
    assert "circularity at least 0.5 (no cut in this run) 48 2 2" in words
    data = json.loads(re.search(r'id="galaxy-data">(.*?)</script>', text)[1])
    assert [column["key"] for column in data["columns"][3:6]] == ["usable_prob", "kappa", "reconstruction"]
    assert "Usability, the network that ships with tullyflow." in text


def test_networks_that_judged_are_named_as_their_cards_say(tmp_path):
    disc, own = tmp_path / "manga-DR17", tmp_path / "circularity-0a1b" / "direct"
    for folder, name, summary in ((disc / "usability", "usability", "Trained on <b>12</b> fields."), (own, "circularity", "")):
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(json.dumps({"format": f"tullyflow {name} 1", "summary": summary}))
    (disc / "model.json").write_text(json.dumps({"calibration": {}}))
    assert is_judge(own) and not is_judge(disc) and not is_judge(tmp_path / "absent")
    settings = parse_settings({"network": {"usability": {"labels": "x.csv"}, "circularity": {"galaxies": 20}}})
    assert judge_sentences([disc, own], settings) == [
        "Usability, this run's own (manga-DR17/usability). Trained on <b>12</b> fields.",
        "Circularity, this run's own (circularity-0a1b/direct). Its card does not say what it was trained on.",
    ]
    mixed = parse_settings({"surveys": ["manga", "sami"], "manga": {"network": {"usability": {"labels": "x.csv"}}}})
    shipped = judge_sentences([disc], mixed)
    assert [said.partition(".")[0] for said in shipped] == [
        "Usability, this run's own (manga-DR17/usability)", "Usability, the network that ships with tullyflow",
        "Circularity, the network that ships with tullyflow",
    ]  # fmt: skip
