"""What the networks that ship say of fields that anybody can judge."""

import numpy as np
import pytest

from tullyflow.flags import GALAXY
from tullyflow.network.judges.judged import load_judges


@pytest.fixture(scope="module")
def judges():
    return load_judges()


@pytest.fixture(scope="module")
def discs():
    """Twelve smooth rotating discs, (12, 64, 64) km/s, of as many position angles, with 3 km/s of noise."""
    rng = np.random.default_rng(8)
    y, x = np.mgrid[:64, :64] - 31.5
    fields = []
    for angle in np.radians(np.arange(12) * 30.0):
        along, across = np.cos(angle) * x + np.sin(angle) * y, (np.cos(angle) * y - np.sin(angle) * x) / 0.6
        radius = np.hypot(along, across)
        velocity = 150 * np.arctan(radius / 5) * along / np.maximum(radius, 0.1) + rng.normal(0, 3, x.shape)
        fields.append(np.where(radius < 29, velocity, np.nan))
    return np.stack(fields).astype(np.float32)


@pytest.fixture(scope="module")
def junk():
    """Twelve fields of noise without order, patchy."""
    rng = np.random.default_rng(9)
    coarse = rng.normal(0, 60, (12, 8, 8)).repeat(8, axis=1).repeat(8, axis=2) + rng.normal(0, 60, (12, 64, 64))
    return np.where(rng.random((12, 8, 8)).repeat(8, axis=1).repeat(8, axis=2) < 0.5, coarse, np.nan).astype(np.float32)


def nothing(n):
    return np.full((n, 64, 64), np.nan, np.float32)


def test_discs_are_usable_and_circular_and_noise_is_neither(judges, discs, junk):
    good, bad = judges.judge(discs, discs).columns, judges.judge(junk, junk).columns
    assert (good["usable_prob"] > 0.9).all() and (good["usable_stellar_prob"] > 0.9).all()
    for name in ("usable_prob", "usable_stellar_prob"):
        assert (bad[name] < 0.5).mean() > 0.8 and np.median(bad[name]) < 0.4
    assert np.median(good["kappa"]) > 0.75 and np.median(bad["kappa"]) < 0.5
    assert np.median(good["kappa"]) <= 1 and (good["kappa_err"] > 0).all() and (good["kappa_err"] < 0.5).all()


def test_what_is_not_there_is_not_judged_and_changes_nothing_of_the_rest(judges, discs):
    whole = judges.judge(discs, nothing(12)).columns
    assert np.isnan(whole["usable_stellar_prob"]).all() and np.isfinite(whole["usable_prob"]).all()
    gas = discs.copy()
    gas[3] = np.nan
    gas[5] = 40.0
    gas[7] = np.nan
    gas[7, 20, 20:24] = (1, 2, 3, 4)
    found = judges.judge(gas, nothing(12))
    missing = np.isin(np.arange(12), (3, 5, 7))
    for name in ("usable_prob", "kappa", "kappa_err"):
        assert np.isnan(found.columns[name][missing]).all()
        np.testing.assert_allclose(found.columns[name][~missing], whole[name][~missing], atol=1e-5)
    assert (found.flags[missing] == 0).all()


@pytest.mark.parametrize("turn", [lambda f: np.rot90(f, axes=(1, 2)), lambda f: f[:, ::-1], lambda f: -f, lambda f: f + 1000], ids=[
    "quarter", "mirror", "other way round", "another systemic velocity"])  # fmt: skip
def test_a_galaxy_does_not_change_with_how_it_is_looked_at(judges, discs, junk, turn):
    both = np.concatenate([discs, junk])
    first, second = judges.judge(both, both).columns, judges.judge(turn(both).copy(), turn(both).copy()).columns
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=2e-3)


def test_a_field_like_nothing_simulated_is_flagged(judges, discs):
    y, x = np.mgrid[:64, :64]
    checks = np.where((x // 4 + y // 4) % 2 == 0, 200.0, -200.0)[None].astype(np.float32)
    found = judges.judge(np.concatenate([discs, checks]), nothing(13))
    assert found.flags[-1] == GALAXY.UNLIKE_SIMULATED
    assert (found.flags[:-1] == 0).mean() > 0.7
