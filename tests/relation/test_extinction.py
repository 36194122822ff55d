"""Internal extinction: worked by hand, zero where there is nothing to correct, off unless asked for."""

import numpy as np
import pytest

from tullyflow.relation.extinction import internal_extinction
from tullyflow.relation.quality import select_sample
from tullyflow.relation.tully_fisher import relation_points
from tullyflow.settings import parse_settings


def test_hand_worked_example():
    # V = 158.1139 km/s: W = 10^2.5, gamma = 1.15; a/b = 10^0.5: A = 0.575. V = 500: gamma = 1.15 + 1.88 * 0.5 = 2.09, a/b = 2: 0.62915
    found = internal_extinction([10**2.5 / 2, 500.0], [10**-0.5, 0.5])
    assert found == pytest.approx([0.575, 2.09 * np.log10(2)], abs=1e-9)


def test_a_face_on_disc_and_a_dwarf_lose_nothing_and_no_correction_brightens():
    assert internal_extinction([200.0], [1.0])[0] == 0
    assert internal_extinction([30.0], [0.3])[0] == 0  # gamma is below 0 at W = 60 km/s
    grid = internal_extinction(*np.meshgrid(np.geomspace(20, 500, 40), np.linspace(0.1, 1, 40)))
    assert (grid >= 0).all()
    assert (np.diff(grid, axis=0) <= 0).all()  # rounder, less dust
    assert (np.diff(grid, axis=1) >= 0).all()  # faster, more dust
    assert np.isnan(internal_extinction([np.nan, 200, 200, -5], [0.5, np.nan, 1.2, 0.5])).all()


def test_the_r_band_relation_takes_it_off_only_where_asked_for(shard, tmp_path):
    names = [f"9-{k}" for k in range(12)]

    def dusty(targets, galaxies, kinematics):
        targets["axis_ratio"] = np.linspace(0.3, 0.9, 12)
        targets.loc["9-3", "axis_ratio"] = np.nan

    paths = shard(names, dusty)
    made = {}
    for kind in ("off", "tully1998"):
        settings = parse_settings({"relation": {"internal_extinction": kind}})
        sample = select_sample(*paths, settings, tmp_path / f"{kind}.parquet")
        made[kind] = (sample, relation_points(sample, "r_band", "v_max", settings))
    (off, plain), (on, corrected) = made["off"], made["tully1998"]
    assert (off["extinction_r_mag"] == 0).all()
    assert on["used"].all()  # a galaxy without axis ratio stays in the other relations
    assert (on["abs_mag_r"] == off["abs_mag_r"]).all()  # the catalogue's magnitude is kept
    assert np.isnan(on["extinction_r_mag"][3])
    assert corrected.n_missing == plain.n_missing + 1
    expected = internal_extinction(on["v_max_kms"], on["axis_ratio"])
    keep = np.isfinite(expected)
    np.testing.assert_allclose(plain.y[keep] - corrected.y, expected[keep])
    assert 0.2 < expected[0] < 1.5
    assert corrected.y_name == "abs_mag_r - extinction_r_mag"
