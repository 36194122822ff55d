"""The six WISDOM galaxies of the thesis: a shipped table of one's own maps, of which nothing is lost where files are not there."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tullyflow.fetch.manifest import fetch_catalogue, fetch_shard
from tullyflow.flags import GALAXY
from tullyflow.maps.shards import build_shard, read_shard
from tullyflow.surveys.catalogue import list_targets
from tullyflow.tables import MANIFEST, TARGETS, read_table

TABLE = Path(__file__).resolve().parents[2] / "config" / "wisdom.csv"
HERE = ("NGC0383", "NGC4697")


@pytest.fixture
def fetched(configure, tmp_path):
    """The table in a folder of its own, fetched; ``link`` puts real maps beside it."""

    def run(link: Path | None = None):
        shutil.copy(TABLE, tmp_path / "wisdom.csv")
        (tmp_path / "wisdom").mkdir()
        for name in HERE if link else ():
            for moment in (0, 1):
                (tmp_path / f"wisdom/{name}_mom{moment}.fits").symlink_to(link / f"{name}_mom{moment}.fits")
        settings = configure(surveys=["local"], catalogue=str(tmp_path / "wisdom.csv"), resources=str(tmp_path / "resources"))
        fetch_catalogue("local", "user", settings, tmp_path / "catalogue.csv")
        (shard,) = list_targets("local", "user", tmp_path / "catalogue.csv", settings, tmp_path / "targets")
        fetch_shard(shard, settings, tmp_path / "manifest.csv")
        build_shard(tmp_path / "manifest.csv", shard, settings.for_survey("local"), tmp_path / "maps.fits")
        manifest = read_table(tmp_path / "manifest.csv", MANIFEST)
        return read_table(shard, TARGETS).set_index("galaxy"), manifest, read_shard(tmp_path / "maps.fits").galaxies.set_index("galaxy")

    return run


def test_a_galaxy_whose_files_are_absent_keeps_its_row_and_says_so(fetched):
    targets, manifest, maps = fetched()
    assert list(targets.index) == ["NGC0383", "NGC0524", "NGC1387", "NGC3665", "NGC4429", "NGC4697"]
    assert (manifest["status"] == "missing").all() and len(manifest) == 12
    assert (maps["flags"] & GALAXY.MISSING_FILE).all()
    assert maps["messages"].str.contains("_mom1.fits").all()
    assert targets["log_mstar"].between(10, 12).all() and targets["axis_ratio"].notna().all() and targets["distance_mpc"].notna().all()
    assert targets.loc["NGC4697", "log_mstar"] == pytest.approx(11.07 - 0.24)
    assert list(targets.index[targets["messages"].str.contains("low confidence")]) == ["NGC1387"]


def test_real_maps_beside_the_table_are_read_and_the_others_stay_missing(fetched, shared):
    targets, manifest, maps = fetched(shared / "mirror" / "wisdom")
    assert (manifest.groupby("galaxy")["status"].agg(set).map(len) == 1).all()
    assert set(manifest.loc[manifest["status"] == "ok", "galaxy"]) == set(HERE)
    assert list(maps.index[(maps["flags"] & GALAXY.MISSING_FILE) == 0]) == list(HERE)
    receding = {"NGC0383": 142.2, "NGC4697": 246.2}  # literature, N through E to the receding side
    for name in HERE:
        row = maps.loc[name]
        assert abs((row["pa_deg"] - receding[name] + 180) % 360 - 180) < 5, (name, row["pa_deg"])
        assert row["v_sys_kms"] == pytest.approx(targets.loc[name, "z"] * 299_792.458, rel=0.03)
        assert row["n_spaxels"] > 500
    beam = np.sqrt(4.870079e-05 * 2.797287e-05) * 3600
    assert maps.loc["NGC0383", "psf_fwhm_arcsec"] == pytest.approx(beam, rel=1e-4)


def test_every_value_of_the_table_says_how_sure_it_is():
    table = pd.read_csv(TABLE)
    assert table["confidence"].str.fullmatch(r"(?:[a-z]+ [HML](?:; )?)+").all()
    assert table["confidence"].str.contains(r"mass [ML]").all() and table["reference"].str.contains("mass: ").all()
    assert set(table["line"]) == {"CO(2-1)", "CO(3-2)"}
    assert all(row.velocity == f"wisdom/{row.galaxy}_mom1.fits" for row in table.itertuples())
