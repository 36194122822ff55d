"""Promises of the gallery and the galaxies' pages: thumbnails show what the maps hold, names become harmless paths, nothing is lost."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from tullyflow.cli import main
from tullyflow.flags import GALAXY
from tullyflow.report.addresses import page_address, safe_name
from tullyflow.report.columns import encode, galaxy_columns, relation_axes, script_json
from tullyflow.report.comparisons import choice_listing, group_listing, trend_listings
from tullyflow.report.curve import round_ticks
from tullyflow.report.panels import LEVELS, MASKED, colour_index, palette, shrink, velocity_limits
from tullyflow.report.sections import comparison_listing
from tullyflow.report.sprites import ACROSS, SIDE, write_sheets
from tullyflow.report.summary import recommended
from tullyflow.tables import SAMPLE, read_table, write_table


@pytest.fixture(scope="module")
def sample(finished_run):
    return read_table(finished_run.sample, SAMPLE)


@pytest.fixture(scope="module")
def sheets(finished_run, sample, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    (folder / "old.png").write_text("of a run before")
    return folder, write_sheets(sample, finished_run.maps, finished_run.models, folder)


def _thumbnail(folder, sheets, k) -> np.ndarray:
    """Colours (y down, x, rgb) of the galaxy at position ``k``."""
    image = np.asarray(Image.open(folder / sheets.names[sheets.sheet[k]]).convert("RGB")).astype(int)
    y, x = SIDE * (sheets.slot[k] // ACROSS), 3 * SIDE * (sheets.slot[k] % ACROSS)
    return image[y : y + SIDE, x : x + 3 * SIDE]


def test_a_thumbnail_has_the_receding_side_red_and_on_the_right_and_the_hole_above(sheets, sample):
    folder, found = sheets
    width = sample["r_max_arcsec"] * np.cos(np.radians(sample["inclination_used_deg"]))
    k = int(np.argmax(width.where(sample["used"], 0)))
    velocity = _thumbnail(folder, found, k)[:, :SIDE]
    middle = velocity[SIDE // 2]
    assert middle[36, 0] > middle[36, 2] + 40 and middle[12, 2] > middle[12, 0] + 40, "red recedes, to the right"
    grey = np.asarray(list(palette()[-3:]))
    masked = (velocity == grey).all(axis=-1)
    assert masked[11:14, 31:34].all() and not masked[-14:-11, 31:34].any(), "the stamp's hole is at +x, +y: above the middle"


def test_every_galaxy_with_a_map_has_a_thumbnail_and_nobody_else(sheets, sample):
    folder, found = sheets
    assert ((found.sheet >= 0) == (sample["n_spaxels"] > 0)).all()
    places = set(zip(found.sheet[found.sheet >= 0], found.slot[found.sheet >= 0], strict=True))
    assert len(places) == (found.sheet >= 0).sum(), "no two share one place"
    assert sorted(p.name for p in folder.iterdir()) == sorted(found.names), "the images of a run before are gone"
    assert found.total_bytes == sum(p.stat().st_size for p in folder.iterdir()) < 4000 * len(sample)


def test_shrinking_keeps_the_mean_and_leaves_out_what_is_not_known():
    rng = np.random.default_rng(1)
    stamps = rng.normal(0, 100, (2, 64, 64))
    small = shrink(stamps, 48)
    assert small.shape == (2, 48, 48) and np.allclose(small.mean(axis=(1, 2)), stamps.mean(axis=(1, 2)))
    stamps[0, :, 32:] = np.nan
    small = shrink(stamps, 48)
    assert np.isnan(small[0, :, 24:]).all() and np.isfinite(small[0, :, :24]).all()
    assert np.allclose(shrink(np.full((1, 64, 64), 7.0), 48), 7.0)


def test_colours_are_symmetric_and_what_is_missing_is_grey():
    index = colour_index(np.array([-300.0, -100.0, 0.0, 100.0, np.nan]), -100, 100)
    assert index.tolist() == [0, 0, LEVELS // 2, LEVELS - 1, MASKED]
    assert palette()[3 * (LEVELS // 2) : 3 * (LEVELS // 2) + 3] >= bytes([240, 240, 240]), "zero is white"
    velocities = np.stack([np.full((4, 4), 133.0), np.full((4, 4), np.nan), np.full((4, 4), 3.0)])
    assert velocity_limits(velocities).tolist() == [140.0, 20.0, 20.0]


def test_published_lines_say_all_they_did_differently():
    line = {"slope": 3.0, "slope_err": 0.1, "intercept": 10.0, "intercept_err": 0.01, "method": "lts"}
    fit = line | {"relation": "forward", "pivot": 2.256, "velocity": "v_max", "drift": "off", "imf": "salpeter", "h": 0.7}
    last = {row[0]: row[-1] for row in comparison_listing([fit]).rows}
    assert last["Dawson thesis"] == "drift evans; IMF mixed"
    assert last["Reyes+2011, inverted"] == "an inverted reverse fit; velocity v_80; IMF Kroupa"
    same = fit | {"drift": "evans", "imf": "own"}
    assert {row[0]: row[-1] for row in comparison_listing([same]).rows}["Dawson thesis"] == "nothing known"


HARMFUL = ("../../etc/passwd", ".hidden", "a/b", "con", "NUL.fits", "x" * 200, "", " ", "é", "a\x00b", "<b>", "..", "a.")


@pytest.mark.parametrize("name", HARMFUL)
def test_a_name_becomes_a_path_only_where_it_is_harmless(name):
    safe = safe_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_+-]+-[0-9a-f]{12}", safe) and len(safe) < 80
    assert page_address("manga", "DR17", name) == f"galaxies/manga-DR17/{safe}.html"
    assert safe != safe_name(name + "'"), "two names never share one path"


@pytest.mark.parametrize("name", ["8138-12704", "NGC2403", "NGC1.2+a", "_x"])
def test_a_harmless_name_is_its_own_path(name):
    assert safe_name(name) == name


def test_columns_come_back_as_they_were():
    values = np.array([1.234, -0.5, np.nan, 0.0, np.inf, 1e6])
    back = [float(cell) / 100 if cell else None for cell in encode(values, 2).split(",")]
    assert back == [1.23, -0.5, None, 0.0, None, 1e6]
    text = str(script_json({"a": "</script><!-- & \u2028"}))
    assert not set("<>&\u2028") & set(text) and json.loads(text) == {"a": "</script><!-- & \u2028"}


def test_the_page_knows_the_flags_the_errors_and_the_axes_of_every_galaxy(finished_run, sample, sheets):
    data = galaxy_columns(sample, finished_run.settings, sheets[1], np.zeros(len(sample), dtype=bool))
    which = [int(cell) for cell in data["combination"].split(",")]
    for k, bits in enumerate(sample["flags"]):
        names = {data["flags"][f]["name"] for f in data["combinations"][which[k]]}
        assert names == set(GALAXY.names(int(bits) & ~GALAXY.MOCK).split(",")) - {""}
    mass = next(column for column in data["columns"] if column["key"] == "log_mstar")
    assert mass["values"].split(",")[3] == f"{100 * sample['log_mstar'].iloc[3]:.0f}" and mass["errors"].count(",") == len(sample) - 1
    fits = [json.loads(path.read_text()) for path in finished_run.relations]
    axes = relation_axes(sample, fits, finished_run.settings)
    assert {fit["x"] for fit in fits[:4]} | {fit["y"] for fit in fits[:4]} <= set(axes)
    assert all(axis["values"].count(",") == len(sample) - 1 for axis in axes.values())
    lost = int(np.flatnonzero(sample["v_max_kms"].isna())[0])
    assert axes["log10(v_max_circ_kms)"]["values"].split(",")[lost] == ""


def test_a_page_is_made_on_demand_and_a_galaxy_without_maps_says_so(finished_run, sample, tmp_path, capsys):
    for kind, paths in (("maps", finished_run.maps), ("models", finished_run.models)):
        (tmp_path / kind).mkdir()
        for path in paths:
            (tmp_path / kind / path.name).symlink_to(path)
    write_table(tmp_path / "sample.parquet", sample, SAMPLE)
    main(["page", "sr3-8003", "--sample", str(tmp_path / "sample.parquet")])
    page = tmp_path / "report/galaxies/sami-DR3/SR3-8003.html"
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 4 and "<svg" in text and "Verdict" in text and "<script" not in text
    lost = sample.loc[sample["n_spaxels"] == 0, "galaxy"].iloc[0]
    assert main(["page", lost, "--sample", str(tmp_path / "sample.parquet")]) == 2
    assert f"there is no map of {lost}" in capsys.readouterr().err


def test_comparisons_show_what_was_fitted_and_say_what_was_not():
    fit = {"relation": "reverse", "velocity": "v_22", "method": "mnr", "slope": 0.3, "slope_err": 0.01, "intercept": 2.2}
    group = fit | {"scatter": 0.05, "rms": 0.07, "n_used": 120, "kind": "ssfr", "words": "star-forming", "error": None}
    alien = group | {"velocity": "v_max", "words": "of another fit"}
    failed = {**group, "words": "quiescent", "error": "3 galaxies are left.", "slope": None}
    shifted = {"slope_offset": -0.012, "slope_offset_sigmas": -2.5}
    listing, said = group_listing({"groups": [], "rows": [group | shifted, alien, failed], "not_classified": {"morphology": 4}}, fit)
    assert len(listing.rows) == 1 and listing.rows[0][:3] == ("star formation", "star-forming", 120) and "−0.012 (2.5 σ)" in listing.rows[0]
    assert said == ["quiescent: 3 galaxies are left.", "4 galaxies of the relation are in no class of morphology."]
    row = fit | {"section": "cuts", "words": "inclination above 45", "n_used": 80, "note": "half of all"}
    row |= {"slope_shift": 0.02, "slope_shift_sigmas": 2.0}
    first = fit | {"section": "baseline", "words": "as set"}
    listing, said = choice_listing({"baseline": fit, "rows": [first, row, row | {"error": "no line"}]})
    assert [r[0] for r in listing.rows] == ["baseline", "cuts"] and "+0.020 (2.0 σ)" in listing.rows[1] and listing.rows[0][-1] == "–"
    assert said == ["inclination above 45: half of all", "inclination above 45: no line"]
    trend = {"kind": "direct", "x_words": "mass", "y_words": "age", "survey": "all", "n": 50, "rho": 0.6, "rho_err": 0.05, "p": 1e-4}
    trend |= {"published": 0.605, "published_source": "Dawson thesis", "at_fixed": "log_mstar"}
    (listing,), said = trend_listings({"rows": [trend, {"kind": "residual", "survey": "all", "error": "not available: no ages."}]})
    assert listing.rows == [("age", "mass at fixed mass", "all", 50, "0.60 ± 0.05", "< 0.001", "0.60 (Dawson thesis)")]
    assert said[:-1] == ["Not available: no ages."] and "of these 1 rows one in a hundred would have p below 0.01" in said[-1]
    pair = [trend | {"kind": "residual", "velocity": v, "shared": shared} for v, shared in (("v_22", None), ("v_max", "Algebra."))]
    (listing,), said = trend_listings({"rows": pair * 150})
    assert [row[0] for row in listing.rows[:2]] == ["age (v_22)", "age (v_max)"]
    assert said[0] == "Algebra." and "of these 300 rows about 3 would" in said[1]
    assert group_listing(None, None)[0].rows == choice_listing(None)[0].rows == trend_listings(None)[0] == []


def test_one_fit_of_each_relation_is_recommended_and_never_a_failed_one():
    line = {"slope": 0.3, "intercept": 2.2, "pivot": 10.0}
    fits = [{"relation": "reverse", "error": "none"}, {"relation": "reverse", **line, "method": "b"}, {"relation": "r_band", **line}]
    assert list(recommended(fits)) == ["reverse", "r_band"] and recommended(fits)["reverse"]["method"] == "b"
    assert recommended([]) == {}


@pytest.mark.parametrize("high", [0.7, 12.3, 355.0, 1000.0])
def test_ticks_are_round_and_within(high):
    ticks = round_ticks(high)
    assert ticks[0] == 0 and 3 <= len(ticks) <= 7 and ticks[-1] <= high * (1 + 1e-9)
