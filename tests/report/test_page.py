"""The page: everything is on it, nothing hostile runs, and it is written whatever is missing."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tullyflow.errors import RelationError
from tullyflow.flags import GALAXY
from tullyflow.relation.record import read_record
from tullyflow.report.linewidths import width_sentence
from tullyflow.report.page import build_report
from tullyflow.report.sections import flow_listing
from tullyflow.report.summary import at_bounds, cautions, count_galaxies, headline, recommended, stage_costs
from tullyflow.report.words import duration, number, plus_minus, typeset
from tullyflow.settings import parse_settings
from tullyflow.tables import SAMPLE, read_table, write_table

VOID = {"meta", "img", "link", "br", "input"}


class Outline(HTMLParser):
    """Ids, links, images and tags of a page; fails where tags are not closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.links, self.images, self.tags, self.words, self.sources = [], [], [], [], [], []
        self._open = []
        self.feed(text)
        assert not self._open, f"tags left open: {self._open}"

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if "href" in attrs else []
        if tag == "script" and "src" in attrs:
            self.sources.append(attrs["src"])
        if tag == "img":
            self.images.append(attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-3:]}"
        self._open.pop()

    def handle_data(self, data):
        if not self._open or self._open[-1] not in ("style", "script"):
            self.words.append(data)


def _arguments(run) -> dict:
    return {
        "relation_paths": run.relations, "models_paths": run.models, "maps_paths": run.maps, "network_dirs": run.networks,
        "benchmarks_dir": run.benchmarks, "closure_path": run.closure, "settings": run.settings,
    }  # fmt: skip


@pytest.fixture(scope="module")
def report(finished_run, tmp_path_factory):
    return build_report(finished_run.sample, out_dir=tmp_path_factory.mktemp("report"), **_arguments(finished_run))


@pytest.fixture(scope="module")
def text(report) -> str:
    return report.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outline(text) -> Outline:
    return Outline(text)


@pytest.fixture(scope="module")
def sample(finished_run):
    return read_table(finished_run.sample, SAMPLE)


def test_the_page_has_every_section_and_a_link_to_each(outline):
    wanted = ["relation", "fits", "literature", "groups", "choices", "trends", "closure", "flags", "judgement", "gallery", "figures", "new"]
    wanted += ["bounds", "training", "checks", "cost", "provenance", "cite"]
    assert [i for i in outline.ids if i in wanted] == wanted
    assert {f"#{name}" for name in wanted} <= set(outline.links)
    assert len(set(outline.ids)) == len(outline.ids)


def test_the_page_needs_nothing_from_elsewhere(outline, report):
    assert "link" not in outline.tags and "iframe" not in outline.tags and outline.sources == []
    assert all(image["src"].startswith("data:image/webp;base64,") and image["alt"] for image in outline.images)
    for address in outline.links:
        assert address.startswith("#") or (report.parent / address).is_file(), address


def test_the_page_says_mock_and_what_was_found(outline, finished_run, sample):
    words = " ".join(outline.words)
    fit = read_record(finished_run.relations[0])
    assert "MOCK." in words
    assert f"{sample['used'].sum()} are in the relation" in words
    assert f"{fit['slope']:.3f} ± {fit['slope_err']:.3f}" in words
    assert "Reyes+2011" in words and "12 min 34 s" in words and "2412 MB" in words
    assert "4 galaxies are left, a fit needs 10." in words
    assert "Not closed" in words and "two merging discs" in words and "✗ no" in words
    assert "Velocity bias, galaxy by galaxy" in words and "limit of |mean|" in words and "outer dispersion" in words
    assert GALAXY.sentences(GALAXY.FACE_ON) in words


def test_a_hostile_galaxy_name_is_text(text, report):
    assert "<script>alert" not in text and "\\u003cscript\\u003ealert(" in text
    (page,) = [p for p in (report.parent / "galaxies").glob("*/*.html") if "alert" in p.name]
    assert re.fullmatch(r"script-script-alert-NGC-1-script-[0-9a-f]{12}\.html", page.name)
    own = page.read_text(encoding="utf-8")
    assert "<script" not in own and "&lt;script&gt;alert(" in own


def test_every_figure_has_its_files_and_the_page_is_small(report, finished_run):
    names = {p.name for p in (report.parent / "figures").iterdir()}
    stems = {"closure", "drift", "inclination", "training-manga-DR17", "training-sami-DR3", "coverage-manga-DR17"}
    assert names == {f"{stem}.{kind}" for stem in stems for kind in ("png", "pdf", "csv")}
    assert report.stat().st_size < 0.5e6


def test_provenance_holds_versions_seed_settings_and_digests(report, finished_run):
    provenance = json.loads((report.parent / "provenance.json").read_text())
    assert provenance["seed"] == finished_run.settings.seed and "numpy" in provenance["versions"]
    assert parse_settings(provenance["settings"]) == finished_run.settings
    assert len(provenance["inputs"]) == 2 + len(finished_run.relations)
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in provenance["inputs"].values())


def test_fits_come_in_the_order_of_the_settings_whatever_the_order_of_the_files(finished_run, text, tmp_path):
    least_squares_first = {"relation_paths": finished_run.relations[1::-1], "maps_paths": [], "closure_path": None, "network_dirs": []}
    shuffled = _arguments(finished_run) | least_squares_first
    page = build_report(finished_run.sample, out_dir=tmp_path / "report", **shuffled).read_text(encoding="utf-8")
    lead = re.compile('<p class="lead">(.*?)</p>', re.DOTALL)
    assert lead.search(page)[1] == lead.search(text)[1]


def test_fits_that_failed_for_one_reason_are_one_sentence_per_relation(finished_run, tmp_path):
    reason, paths = "3 point(s) to fit, at least 5 are needed.", []
    for relation, velocity in (("reverse", "v_max"), ("reverse", "v_22"), ("forward", "v_max")):
        paths.append(tmp_path / f"{relation}-{velocity}-lts.json")
        paths[-1].write_text(json.dumps({"relation": relation, "velocity": velocity, "method": "lts", "error": f"fit: {reason}"}))
    few = _arguments(finished_run) | {"relation_paths": paths, "maps_paths": [], "models_paths": [], "network_dirs": []}
    page = build_report(finished_run.sample, out_dir=tmp_path / "report", **few).read_text(encoding="utf-8")
    words = " ".join(Outline(page).words)
    assert words.count(reason) == 2
    assert f"2 fit(s): {reason}" in words and "fit: 3" not in words


def test_missing_pieces_are_said_in_a_sentence(finished_run, tmp_path):
    page = build_report(
        finished_run.sample, relation_paths=[], models_paths=[], maps_paths=[], network_dirs=[tmp_path / "absent"],
        benchmarks_dir=None, closure_path=None, settings=parse_settings({"relation": {"drift": "off"}}), out_dir=tmp_path / "report",
    )  # fmt: skip
    outline = Outline(page.read_text(encoding="utf-8"))
    words = " ".join(outline.words)
    for sentence in (
        "No relation was fitted", "no reverse relation could be fitted", "There is no fit to list", "nothing to compare",
        "No training history", "No benchmarks were given", "switched off", "No figures were given", "No trends were measured",
        "No velocity field of this run was judged",
    ):  # fmt: skip
        assert sentence in words, sentence
    assert "MOCK." not in words and "closure" not in outline.ids
    assert (page.parent / "figures").is_dir(), "the workflow declares this folder"


def test_hi_widths_are_compared_with_the_velocities_where_five_galaxies_have_both(sample, finished_run, tmp_path):
    sample = sample.copy()
    rows = sample.index[sample["used"]][:6]
    sin_i = np.sin(np.radians(sample.loc[rows, "inclination_used_deg"]))
    sample.loc[rows, "hi_width_kms"] = 2 * sample.loc[rows, "v_max_kms"] * sin_i * 10 ** np.array([0.02, 0.02, 0.02, 0.02, 0.02, 0.3])
    out = sample.index[~sample["used"]][0]
    sample.loc[out, "hi_width_kms"] = 4000.0  # not of the relation
    assert "log W / (2 v_max sin i) has a median of +0.020 dex" in width_sentence(sample, "v_max")
    assert "in 6 galaxies" in width_sentence(sample, "v_max")
    assert "median of +0.086 dex" in width_sentence(sample, "v_22")  # V_22 is 0.86 V_max: 0.0655 dex more
    write_table(tmp_path / "sample.parquet", sample, SAMPLE)
    few = _arguments(finished_run) | {"relation_paths": [], "models_paths": [], "maps_paths": [], "network_dirs": []}
    page = build_report(tmp_path / "sample.parquet", out_dir=tmp_path, **few).read_text()
    assert "HI line widths" in page
    sample.loc[rows[:2], "hi_width_kms"] = np.nan
    assert width_sentence(sample, "v_max") == ""


def test_an_empty_sample_still_makes_a_page(finished_run, sample, tmp_path):
    write_table(tmp_path / "sample.parquet", sample.head(0), SAMPLE)
    arguments = _arguments(finished_run) | {"closure_path": None, "relation_paths": [finished_run.relations[-1]]}
    page = build_report(tmp_path / "sample.parquet", out_dir=tmp_path / "report", **arguments)
    words = " ".join(Outline(page.read_text(encoding="utf-8")).words)
    assert "Of 0 targets" in words and "not compared with the truth" in words and "No galaxy has an inclination" in words


def test_a_broken_fit_file_is_named(finished_run, tmp_path):
    (tmp_path / "fit.json").write_text("{")
    with pytest.raises(RelationError, match=r"fit\.json"):
        build_report(
            finished_run.sample, out_dir=tmp_path / "report", **(_arguments(finished_run) | {"relation_paths": [tmp_path / "fit.json"]})
        )
    assert not (tmp_path / "report" / "index.html").exists()


def test_counts_and_cut_flow_add_up(sample):
    *parts, total = count_galaxies(sample)
    for name in ("targets", "mapped", "inferred", "used"):
        assert sum(getattr(part, name) for part in parts) == getattr(total, name), name
    assert total.targets == len(sample) and total.mapped == len(sample) - 2
    flow = flow_listing(sample)
    assert total.targets - sum(row[-1] for row in flow.rows) == total.used
    assert at_bounds(sample)[0]["v_max_sini_kms"] == sample.query("survey == 'manga'")["v_max_sini_kms_at_bound"].sum()


def test_the_headline_turns_the_line_into_words(sample):
    counts = count_galaxies(sample)[-1]
    fit = {"slope": 0.25, "slope_err": 0.01, "intercept": 2.3, "intercept_err": 0.01, "pivot": 10.09, "scatter": 0.05, "scatter_err": 0.01}
    sentence = headline(counts, fit)
    assert "200 ± 5 km/s" in sentence and "1.78 ± 0.04 times as fast" in sentence and "0.050 ± 0.010 dex" in sentence
    assert "errors account for all the scatter" in headline(counts, fit | {"scatter": 0.0, "scatter_err": None})
    assert "nan" not in headline(counts, fit | {"slope_err": None, "scatter": None, "scatter_err": None})


def test_costs_are_summed_per_rule_and_gaps_left_out(finished_run, tmp_path):
    train, maps = stage_costs(finished_run.benchmarks)
    assert (train.rule, train.jobs, train.share) == ("train_network", 1, 1.0)
    assert (maps.rule, maps.jobs, maps.seconds, maps.longest_s, maps.memory_mb) == ("build_maps", 2, 92.0, 61.5, 812.5)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "0.tsv").write_text("other\n1\n")
    assert stage_costs(tmp_path) == [] and stage_costs(tmp_path / "absent") == []


def test_numbers_have_true_minus_signs_and_dashes():
    assert number(-1.25, 2) == "−1.25" and number(0.5, 1, sign=True) == "+0.5"
    assert number(None) == number(np.nan) == "–"
    assert plus_minus(1.0, None, 1) == "1.0" and plus_minus(-1.0, 0.25, 2) == "−1.00 ± 0.25"


def test_durations_are_said_as_people_say_them():
    assert [duration(s) for s in (3.26, 119.7, 754.0, 7500.0, float("nan"))] == ["3.3 s", "2 min 00 s", "12 min 34 s", "2 h 05 min", "–"]


def test_typesetting_escapes_before_it_adds_marks():
    assert typeset("10^10.09 M☉ & V_22") == "10<sup>10.09</sup> M<sub>☉</sub> &amp; V<sub>2.2</sub>"
    assert typeset("<b>v_max</b>") == "&lt;b&gt;V<sub>max</sub>&lt;/b&gt;"


def test_the_recommended_fit_is_that_of_the_best_method_for_the_first_velocity():
    def fit(relation, velocity, method, **others):
        return {"relation": relation, "velocity": velocity, "method": method, "slope": 0.3, "intercept": 2.2, "pivot": 10.0} | others

    fits = [fit("reverse", "v_22", "lts"), fit("reverse", "v_22", "mnr"), fit("reverse", "v_max", "mnr"), fit("forward", "v_22", "ols")]
    assert recommended(fits) == {"reverse": fits[1], "forward": fits[3]}
    fits[1] = {"relation": "reverse", "velocity": "v_22", "method": "mnr", "error": "fit: 3 points."}
    assert recommended(fits)["reverse"] is fits[0]


def test_a_fit_whose_residuals_go_with_the_inclination_is_cautioned_against():
    best = {"reverse": {"relation": "reverse", "velocity": "v_22"}}
    row = {"kind": "control", "survey": "all", "y": "residual_reverse", "velocity": "v_22", "rho": 0.4, "p": 0.001}
    (sentence,) = cautions(best, {"rows": [row]})
    assert "reverse relation go with the inclination (ρ = 0.40)" in sentence
    for harmless in ({"rho": 0.05}, {"p": 0.2}, {"velocity": "v_max"}, {"survey": "manga"}, {"kind": "residual"}, {"rho": None}):
        assert cautions(best, {"rows": [row | harmless]}) == []
    assert cautions(best, None) == []
