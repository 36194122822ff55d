"""The story of one galaxy: every stage and every cut of it said, from whatever a run has left."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from tullyflow.cli import main
from tullyflow.errors import CatalogueError, SettingsError
from tullyflow.flags import GALAXY
from tullyflow.relation.cuts import CUTS
from tullyflow.relation.drift import correct_velocities
from tullyflow.relation.limits import LIMITS
from tullyflow.report.checks import check_galaxy, remedies, setting_of
from tullyflow.report.story import story
from tullyflow.settings import parse_settings
from tullyflow.tables import SAMPLE, VELOCITIES, conform, write_table
from tullyflow.tools.explain import explain, find_sample, words

SETTINGS = parse_settings({"relation": {"sersic_n_max": 2.5, "surveys": ["manga", "sami"]}, "sami": {"maps": {"min_pixels": 200}}})
NOT_ITS = {"ALIGNMENT_UNKNOWN", "NOT_USABLE", "NOT_CIRCULAR", "PHOTOMETRY_OFF_AXIS"}  # off, or inclination kinematic
DUMPED = SETTINGS.model_dump(mode="json")


def row_of(**changes):
    """A galaxy of MaNGA that passes every cut, with a drift correction."""
    row = {
        "galaxy": "8485-1901", "survey": "manga", "release": "DR17", "shard": "manga-DR17-000", "ra_deg": 232.5, "dec_deg": -48.25,
        "z": 0.03, "log_mstar": 10.2, "log_mstar_err": 0.11, "imf": "chabrier", "r_e_arcsec": 6.0, "axis_ratio": 0.6, "abs_mag_r": -20.75,
        "sersic_n": 1.2, "drp3qual": 0, "psf_fwhm_arcsec": 2.5, "n_spaxels": 812, "fill_factor": 0.61, "pixel_scale_arcsec": 0.5,
        "stamp_scale_arcsec": 0.4, "field_from": "data", "x_centre": 17.0, "y_centre": 16.5, "pa_deg": 166.2, "pa_err_deg": 1.1,
        "v_sys_kms": 25.6, "v_sys_err_kms": 0.9, "delta_pa_deg": 4.0, "delta_pa_err_deg": 2.0, "pa_stellar_deg": 162.2,
        "v_abs_max_kms": 141.0, "intensity_kind": "data", "r_max_arcsec": 12.0, "outer_dispersion_kms": 24.0,
        "outer_dispersion_err_kms": 1.5, "mode": "blind", "inclination_kind": "kinematic",
        "inclination_used_deg": 52.0, "inclination_used_err_deg": 2.0, "inclination_deg": 52.0, "inclination_deg_err": 2.0,
        "r_scale_arcsec": 3.5, "r_scale_arcsec_err": 0.1, "r_scale_used_arcsec": 3.5, "r_turn_arcsec": 1.5,
        "v_max_sini_kms": 140.0, "reconstruction": 1.2, "reconstruction_threshold": 2.0, "reconstruction_velocity_kms": 6.4,
        "v_80_extrapolated": True, "used": True,
    }  # fmt: skip
    for k, velocity in enumerate(VELOCITIES):
        row |= {f"{velocity}_kms": 178.0 - 10 * k, f"{velocity}_kms_err": 4.0, f"log_{velocity}_err": 0.01}
    sample = conform(pd.DataFrame([row | changes]), SAMPLE)
    correct_velocities(sample, SETTINGS.relation)
    return sample


def values_of(**changes):
    return row_of(**changes).iloc[0].to_dict()


@pytest.fixture
def run(tmp_path):
    """A run's folder with two galaxies, one of them in two releases, a manifest, fits and provenance."""
    folder = tmp_path / "results" / "mine"
    good = row_of()
    twin = row_of(release="DR15", shard="manga-DR15-000", used=False, flags=GALAXY.DUPLICATE, same_as="manga-DR17/8485-1901")
    out = row_of(galaxy="NGC_2403", survey="things", release="NA", shard="../../../etc", used=False, flags=GALAXY.FACE_ON,
                 inclination_used_deg=21.237)  # fmt: skip
    write_table(folder / "sample.parquet", pd.concat([good, twin, out], ignore_index=True), SAMPLE)
    (folder / "fetch").mkdir()
    (folder / "fetch" / "manga-DR17-000.csv").write_text(
        "galaxy,product,url,path,status,http_status,bytes,message\n"
        "8485-1901,maps,https://data.example/maps.fits,x,ok,200,2500000,\n"
        "8485-1901,modelcube,https://data.example/cube.fits,,failed,503,0,no answer in 4 tries\n"
        "9999-1901,maps,https://data.example/other.fits,,missing,404,0,not there\n"
    )
    (folder / "relation").mkdir()
    fit = {"slope": 0.25, "intercept": 2.2, "pivot": 10.0, "scatter": 0.04, "surveys": ["manga"], "outliers": ["8485-1901"]}
    for method in ("lts", "mnr"):
        record = {"relation": "reverse", "velocity": "v_22", "method": method} | (fit if method == "lts" else {"error": "5 are too few."})
        (folder / "relation" / f"reverse-v_22-{method}.json").write_text(json.dumps(record))
    (folder / "report").mkdir()
    (folder / "report" / "provenance.json").write_text(json.dumps({"settings": DUMPED}))
    return folder


def test_every_cut_on_the_sample_has_a_line_and_none_twice():
    lines = [limit.flag for limit in LIMITS]
    assert len(set(lines)) == len(lines)
    assert {flag for flag, _ in CUTS} <= set(lines)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: GALAXY.names(limit.flag))
def test_lines_name_settings_and_columns_that_exist(limit):
    known = {c.name for c in SAMPLE}
    assert {limit.column, limit.against} - {""} <= known
    if limit.setting:
        setting_of(DUMPED, limit.setting)


def test_good_galaxy_passes_everything_and_says_with_what():
    checks = {check.flag: check for check in check_galaxy(values_of(), DUMPED)}
    assert {name for name, check in checks.items() if check.verdict != "passed"} <= NOT_ITS
    assert checks["FACE_ON"].found == "inclination 52 deg" and checks["FACE_ON"].limit == "at least 30 deg"
    assert checks["BULGE_DOMINATED"].limit == "at most 2.5"
    assert checks["EXTRAPOLATED"].limit == "at most 6 arcsec, 0.5 times the radius of the outermost data"
    assert checks["POOR_RECONSTRUCTION"].found == "reconstruction 1.2" and "at most 2" in checks["POOR_RECONSTRUCTION"].limit


# a cut's column, a value beyond its limit, and one that cannot be tested
BEYOND = {
    "FACE_ON": ("inclination_used_deg", 29.0), "EDGE_ON": ("inclination_used_deg", 91.0), "LOW_MASS": ("log_mstar", 7.0),
    "BULGE_DOMINATED": ("sersic_n", 4.0), "MISALIGNED": ("delta_pa_deg", 120.0), "EXTRAPOLATED": ("r_turn_arcsec", 7.0),
    "POOR_RECONSTRUCTION": ("reconstruction", 3.0), "UNCERTAIN_VELOCITY": ("log_v_max_err", 0.4),
}  # fmt: skip


@pytest.mark.parametrize("flag", BEYOND)
def test_verdicts_agree_with_the_cuts_themselves(flag):
    """The same number passes or fails in the words as in the cut, and one that is missing is not tested."""
    cut = dict(CUTS)[getattr(GALAXY, flag)]
    column, beyond = BEYOND[flag]
    good, missing = row_of(), row_of(**{column: np.nan})
    bad = row_of(**{column: beyond})
    assert not cut(good, SETTINGS.relation)[0] and cut(bad, SETTINGS.relation)[0]
    limit = next(limit for limit in LIMITS if limit.flag == getattr(GALAXY, flag))
    value = good[column][0]
    bound = limit.factor * (good[limit.against][0] if limit.against else setting_of(DUMPED, limit.setting))
    assert (beyond < bound <= value) if limit.side == "below" else (beyond > bound >= value)
    verdict = {check.flag: check.verdict for check in check_galaxy(missing.iloc[0].to_dict(), DUMPED)}[flag]
    assert verdict == "not tested"
    flagged = bad.iloc[0].to_dict() | {"flags": getattr(GALAXY, flag)}
    verdict = {check.flag: check.verdict for check in check_galaxy(flagged, DUMPED)}[flag]
    assert verdict == ("failed" if getattr(GALAXY, flag) & GALAXY.excluding else "warned")


def test_switched_off_cut_is_off_and_a_surveys_own_limit_is_its_own():
    off = parse_settings({"relation": {"delta_pa_max": None}, "sami": {"maps": {"min_pixels": 321}}}).model_dump(mode="json")
    checks = {check.flag: check for check in check_galaxy(values_of(survey="sami"), off)}
    assert checks["MISALIGNED"].verdict == checks["BULGE_DOMINATED"].verdict == "off"
    assert checks["TOO_FEW_PIXELS"].limit == "at least 321"
    assert {c.flag: c.limit for c in check_galaxy(values_of(), off)}["TOO_FEW_PIXELS"] == "at least 100"


def test_photometric_axis_is_compared_where_the_inclination_is_photometric():
    """Axes modulo 180 deg: 350 and 165 deg are 5 apart."""
    row = values_of(inclination_kind="photometric", pa_deg=350.0, pa_phot_deg=165.0)
    known = {"settings": DUMPED | {"relation": DUMPED["relation"] | {"delta_pa_phot_max": 30.0}}}["settings"]
    check = {check.flag: check for check in check_galaxy(row, known)}["PHOTOMETRY_OFF_AXIS"]
    assert check.verdict == "passed" and "5 deg apart" in check.found and check.limit == "at most 30 deg"


def test_without_settings_what_failed_is_known_and_the_limits_are_said_to_be_unknown():
    row = values_of(flags=GALAXY.FACE_ON, used=False, inclination_used_deg=20.0)
    checks = {check.flag: check for check in check_galaxy(row, None)}
    assert checks["FACE_ON"].verdict == "failed" and "not known" in checks["FACE_ON"].limit
    assert checks["POOR_RECONSTRUCTION"].verdict == "passed"  # its threshold is in the row
    cuts = next(s for s in story(row, None) if s.title == "Every cut")
    assert "settings of this run are not here" in cuts.sentences[1]


def test_galaxy_without_maps_was_not_tested_on_them():
    bits = GALAXY.MISSING_FILE | GALAXY.NOT_INFERRED
    empty = {c.name: np.nan for c in SAMPLE if c.kind == "f"} | {"n_spaxels": 0, "inclination_kind": ""}
    row = values_of(**empty | {"flags": bits, "used": False, "messages": "The archive has no file."})
    checks = {check.flag: check.verdict for check in check_galaxy(row, DUMPED)}
    for flag in ("TOO_FEW_PIXELS", "LOW_FILL_FACTOR", "FACE_ON", "AT_BOUND_V_MAX", "POOR_RECONSTRUCTION", "EXTRAPOLATED"):
        assert checks[flag] == "not tested", flag
    told = {section.title: section for section in story(row, DUMPED, [], [])}
    assert told["Its maps"].sentences == ("The archive has no file.",)
    assert told["Its disc"].sentences[0].startswith("None")
    assert told["What would have to change"].sentences[0].startswith("MISSING_FILE: the archive would have to")
    assert "may follow" in told["What would have to change"].sentences[-1]


def test_remedy_lets_the_galaxy_pass():
    """The number named as enough, put into the settings, takes the flag away; what it is rounded to lies on the right side."""
    row = row_of(inclination_used_deg=21.237777, sersic_n=3.14159, used=False, flags=GALAXY.FACE_ON | GALAXY.BULGE_DOMINATED)
    said = remedies(row.iloc[0].to_dict(), DUMPED)
    assert said == [
        "FACE_ON: relation.inclination_min would have to be at most 21.23 deg (it is 30 deg).",
        "BULGE_DOMINATED: relation.sersic_n_max would have to be at least 3.142 (it is 2.5).",
    ]
    changed = parse_settings({"relation": {"inclination_min": 21.23, "sersic_n_max": 3.142}}).relation
    cuts = dict(CUTS)
    assert not cuts[GALAXY.FACE_ON](row, changed)[0] and not cuts[GALAXY.BULGE_DOMINATED](row, changed)[0]


def test_drift_is_said_with_its_numbers_or_why_not():
    def drift(settings=DUMPED, **changes):
        return " ".join(next(s for s in story(values_of(**changes), settings) if s.title == "Asymmetric drift").sentences)

    factor = 2 * 12 / 3.5 - 1
    expected = np.sqrt(178**2 + factor * 24**2)
    assert f"v_max: 178.0 becomes {expected:.1f} km/s, by {expected - 178:.1f} (V² + {factor:.2f} × 24.0², evans)." in drift()
    assert "no dispersion of the outer disc" in drift(outer_dispersion_kms=np.nan)
    assert "v_rmax: not corrected" in drift(r_max_arcsec=1.0) and "v_22: 168.0 becomes" in drift(r_max_arcsec=1.0)
    off = parse_settings({"relation": {"drift": "off"}}).model_dump(mode="json")
    assert "relation.drift is off" in drift(off)


def test_whole_story_of_a_run_is_told(run):
    told = explain(run / "sample.parquet", "DR17/8485-1901")
    text = words(told)
    for said in (
        "8485-1901 (MaNGA DR17) is in the relation.", "10.2 ± 0.11", "1 of 2 files came, 2.50 MB: maps.",
        "modelcube could not be fetched: no answer in 4 tries (https://data.example/cube.fits).", "812 valid spaxels", "166.2 ± 1.1 deg",
        "25.6 ± 0.9 km/s", "Beam 2.50 arcsec FWHM, 6.2 stamp pixels", "(17.0, 16.5)", "never saw it", "52.0 ± 2.0 deg", "6.4 km/s rms",
        "1.200", "v_80", "extrapolated", "within the data", "POOR_RECONSTRUCTION", "outlier",
    ):  # fmt: skip
        assert said in " ".join(text.split()), said
    assert "9999-1901" not in text and "No line: 5 are too few." in text
    standing = told.standings[0]
    v_22 = np.sqrt(168**2 + 3.4 * 24**2)
    assert standing.residual == pytest.approx(np.log10(v_22) - (0.25 * 0.2 + 2.2))
    assert standing.sigmas == pytest.approx(standing.residual / standing.sigma) and standing.sigma > np.hypot(0.25 * 0.11, 0.04)
    assert len(told.standings) == 1 and standing.part == "outlier"


@pytest.mark.parametrize("columns", [70, 120, 200])
def test_tables_fit_the_terminal_without_breaking_a_word(run, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    told = explain(run / "sample.parquet", "DR17/8485-1901")
    text = words(told)
    assert "network.ranges.inclination_deg" in text and "AT_BOUND_INCLINATION" in text
    sentences = [line for line in text.splitlines() if not line.startswith("    ")]
    assert max(map(len, sentences)) <= columns
    if columns == 120:
        assert max(map(len, text.splitlines())) <= columns


def test_name_of_several_rows_is_asked_about_and_a_prefix_answers(run, capsys):
    table = str(run / "sample.parquet")
    with pytest.raises(CatalogueError, match=r"2 rows .* manga-DR17/8485-1901 \(used\), manga-DR15/8485-1901 \(not used\)"):
        explain(run / "sample.parquet", "8485-1901")
    for asked in ("manga-DR15/8485-1901", "dr15/8485-1901"):
        assert explain(run / "sample.parquet", asked).release == "DR15"
    assert main(["explain", "8485-190", "--sample", table]) == 2
    assert "the nearest names are 8485-1901" in capsys.readouterr().err
    assert main(["explain", "8485-1901", "--sample", table, "--survey", "sami"]) == 2
    assert "holds manga, things" in capsys.readouterr().err


def test_blanks_and_capitals_do_not_matter_and_a_table_leads_to_no_other_folder(run, tmp_path):
    (tmp_path / "etc.csv").write_text("galaxy,product,status,url\nNGC_2403,secret,ok,x\n")
    told = explain(run / "sample.parquet", "ngc 2403", "things")
    assert told.galaxy == "NGC_2403" and not told.standings  # the fit is of other surveys
    assert "no manifest of its shard" in words(told) and "secret" not in words(told)
    assert "relation.inclination_min would have to be at most 21.23 deg (it is 30 deg)" in " ".join(words(told).split())


def test_run_is_the_newest_unless_named(run, monkeypatch):
    other = run.parent / "other" / "sample.parquet"
    other.parent.mkdir()
    other.write_bytes((run / "sample.parquet").read_bytes())
    os.utime(run / "sample.parquet", (1, 1))
    assert find_sample(None, run.parent) == other
    assert find_sample("mine", run.parent) == run / "sample.parquet"
    for name in ("gone", "../mine", "."):
        with pytest.raises(SettingsError, match="Runs here: mine, other"):
            find_sample(name, run.parent)
    monkeypatch.chdir(run)
    with pytest.raises(SettingsError, match="--sample PATH"):
        find_sample(None)


def test_json_holds_the_same_and_no_nan(run, capsys):
    assert main(["explain", "dr17/8485-1901", "--sample", str(run / "sample.parquet"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert told["used"] is True and told["standings"][0]["part"] == "outlier"
    assert {check["flag"] for check in told["checks"] if check["verdict"] != "passed"} <= NOT_ITS
    assert len(told["checks"]) == len(LIMITS)
    assert told["sections"][0]["sentences"] == ["8485-1901 (MaNGA DR17) is in the relation."]


def test_table_of_another_version_is_told_as_far_as_it_goes(run, tmp_path):
    old = pd.read_parquet(run / "sample.parquet").drop(columns=["v_80_kms", "v_22_extrapolated", "delta_pa_deg", "same_as"])
    path = tmp_path / "alone.parquet"
    old.to_parquet(path)
    told = explain(path, "DR17/8485-1901")
    text = " ".join(words(told).split())
    rows = {row[0]: row[-1] for row in next(s for s in told.sections if s.title == "Its velocities").rows}
    assert "v_80" not in rows and rows["v_22"] == "not known" and rows["v_re"] == "within the data"
    assert {c.flag: c.verdict for c in told.checks}["MISALIGNED"] == "not tested"
    assert "No fits of this run are here." in text
    old.drop(columns="flags").to_parquet(path)
    with pytest.raises(CatalogueError, match="flags missing"):
        explain(path, "8485-1901")
    path.write_text("no table")
    with pytest.raises(CatalogueError, match="not a readable Parquet table"):
        explain(path, "8485-1901")


def test_explaining_loads_neither_torch_nor_matplotlib(run):
    code = (
        "import sys; from tullyflow.cli import main; main(['explain', 'DR17/8485-1901', '--sample', sys.argv[1]]);"
        "print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run / "sample.parquet")], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
