"""Targets: the chosen ones, in stable shards, with recorded replacements."""

import logging
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tullyflow.conventions import axis_ratio_from_inclination
from tullyflow.errors import CatalogueError, SettingsError
from tullyflow.flags import GALAXY
from tullyflow.surveys import catalogue, get_survey
from tullyflow.surveys.catalogue import assign_shards, list_targets
from tullyflow.surveys.releases import addresses
from tullyflow.tables import MANIFEST, TARGETS, read_table, write_table


@pytest.fixture
def listed(tmp_path, configure, monkeypatch):
    """List the targets of a survey whose catalogue is a list of names; returns {shard: names}."""

    def run(names, survey="sami", **settings):
        frame = pd.DataFrame({"galaxy": names, "survey": survey, "release": "X", "log_mstar": 10.0, "abs_mag_r": -20.0, "axis_ratio": 0.5})
        monkeypatch.setattr(catalogue, "get_survey", lambda name: SimpleNamespace(targets=lambda *_: frame))
        write_table(tmp_path / "m.csv", pd.DataFrame({"product": ["drpall"], "status": ["ok"], "path": ["x"]}), MANIFEST)
        paths = list_targets(survey, "X", tmp_path / "m.csv", configure(**settings), tmp_path / "targets")
        return {path.stem: list(read_table(path, TARGETS)["galaxy"]) for path in paths}

    return run


def test_shards_hold_so_many_galaxies_in_the_catalogues_order(listed, tmp_path):
    shards = listed([f"g{k}" for k in range(7)], sami={"shard_size": 3})
    assert shards == {"sami-X-000": ["g0", "g1", "g2"], "sami-X-001": ["g3", "g4", "g5"], "sami-X-002": ["g6"]}
    assert pd.read_csv(tmp_path / "targets/shards.csv").to_dict("list") == {"shard": list(shards), "n": [3, 3, 1]}


def test_a_larger_limit_only_appends(listed, tmp_path):
    names = [f"{plate}-{ifu}" for plate in (7001, 7002, 7003, 7004) for ifu in range(1901, 1906)]
    full = listed(names, survey="manga", manga={"shard_size": 11})
    assert [len(v) for v in full.values()] == [10, 10]
    for limit in (1, 7, 12, 19):
        some = listed(names, survey="manga", manga={"shard_size": 11}, limit=limit)
        for shard, galaxies in some.items():
            assert galaxies == full[shard][: len(galaxies)]
        assert sum(map(len, some.values())) == limit
        assert sorted(p.stem for p in (tmp_path / "targets").glob("*.parquet")) == sorted(some)  # what is no longer asked for is gone


@given(st.lists(st.tuples(st.integers(7000, 7009), st.integers(0, 40)), unique=True, max_size=60), st.integers(1, 30))
def test_a_plate_is_never_split_and_shards_are_never_too_large(pairs, size):
    frame = pd.DataFrame({"galaxy": [f"{plate}-{ifu}" for plate, ifu in pairs]})
    frame["shard"] = assign_shards(frame, "manga", "DR17", size)
    frame["plate"] = [name.split("-")[0] for name in frame["galaxy"]]
    assert (frame.groupby("plate")["shard"].nunique() <= 1).all()
    for _, rows in frame.groupby("shard"):
        assert len(rows) <= size or rows["plate"].nunique() == 1


def test_the_galaxies_asked_for_in_the_order_asked(listed, tmp_path, caplog):
    names = ["NGC_2403", "NGC_3198", "IC_2574"]
    assert listed(names, galaxies=["ic2574", "NGC 2403"]) == {"sami-X-000": ["IC_2574", "NGC_2403"]}
    (tmp_path / "chosen.txt").write_text("NGC_3198  # the demo\n\nIC_2574\n")
    assert listed(names, galaxies=str(tmp_path / "chosen.txt")) == {"sami-X-000": ["NGC_3198", "IC_2574"]}
    assert listed(names, galaxies="NGC_3198") == {"sami-X-000": ["NGC_3198"]}
    with pytest.raises(CatalogueError, match="no such file"):
        listed(names, galaxies="absent.txt")


def test_a_galaxy_may_be_asked_for_in_one_release_only(listed):
    assert listed(["NGC_2403", "IC_2574"], galaxies=["X/IC_2574", "DR9/NGC_2403"]) == {"sami-X-000": ["IC_2574"]}


def test_an_unknown_galaxy_is_a_warning_and_none_at_all_an_empty_list(listed, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert listed(["NGC_2403"], galaxies=["NGC_2408"]) == {}
    assert "NGC_2408" in caplog.text
    assert "close: NGC_2403" in caplog.text
    assert pd.read_csv(tmp_path / "targets/shards.csv").empty


@pytest.mark.parametrize("name", ["../x", "a/b", "a..b", "", ".hidden", "a b"])
def test_a_name_that_could_be_a_path_is_refused(listed, name):
    with pytest.raises(CatalogueError, match="cannot be used"):
        listed([name])


def test_replacements_are_made_and_recorded(listed, tmp_path, configure):
    (tmp_path / "over.csv").write_text(
        "galaxy,column,value\ng1,inclination_deg,60\ng1,log_mstar,\ng2,r_e_arcsec,4.5\ng2,morphology,Sb\nelsewhere,z,0.1\n"
    )
    listed(["g1", "g2"], overrides=str(tmp_path / "over.csv"))
    frame = read_table(tmp_path / "targets/sami-X-000.parquet", TARGETS).set_index("galaxy")
    assert frame.loc["g1", "axis_ratio"] == pytest.approx(float(axis_ratio_from_inclination(60.0)))
    assert "0.5" in frame.loc["g1", "messages"]
    assert np.isnan(frame.loc["g1", "log_mstar"])
    assert frame.loc["g1", "flags"] == GALAXY.MISSING_MASS
    assert frame.loc["g2", ["r_e_arcsec", "morphology", "axis_ratio"]].tolist() == [4.5, "Sb", 0.5]


@pytest.mark.parametrize(("line", "word"), [("g1,r_e_arcsek,4", "did you mean 'r_e_arcsec'"), ("g1,z,far", "'far'")])
def test_a_replacement_that_cannot_be_made_is_one_sentence(listed, tmp_path, line, word):
    (tmp_path / "over.csv").write_text(f"galaxy,column,value\n{line}\n")
    with pytest.raises(CatalogueError, match=word):
        listed(["g1"], overrides=str(tmp_path / "over.csv"))


def test_every_survey_offers_the_four_functions():
    for name in ("manga", "sami", "things", "local"):
        assert all(callable(getattr(get_survey(name), function)) for function in ("catalogue_products", "targets", "products", "read"))
    with pytest.raises(SettingsError, match="manga, sami, things, local"):
        get_survey("califa")


def test_addresses_come_from_the_table_and_gaps_are_named(configure, tmp_path):
    settings = configure()
    assert addresses("manga", "DR17", "drpall", settings)[0].startswith("https://data.sdss.org/sas/dr17/")
    with pytest.raises(CatalogueError, match="no row manga,DR17,cubes"):
        addresses("manga", "DR17", "cubes", settings)
    with pytest.raises(CatalogueError, match="daptype"):
        addresses("manga", "DR17", "maps", settings, plate="1", ifu="2")
    with pytest.raises(CatalogueError, match="no such releases table"):
        addresses("manga", "DR17", "drpall", configure(releases=str(tmp_path / "none.csv")))
    (tmp_path / "short.csv").write_text("survey,release\n")
    with pytest.raises(CatalogueError, match="dataset"):
        addresses("manga", "DR17", "drpall", configure(releases=str(tmp_path / "short.csv")))
