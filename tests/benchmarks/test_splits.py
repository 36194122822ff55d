"""The halves of a field are halves, and what they share is taken off their pulls."""

import numpy as np
import pytest
import torch

from tullyflow.conventions import STAMP

CUTS = {"squares": (2.0, 0.5), "sides": (None, 0.5), "no gap": (1.5, 0.0)}  # width and gap, beams
BEAM, PLACING = 6.0, np.array([20.0, 1.5, -2.0])


def field_of(size: int):
    """Bins of ``size`` x ``size`` pixels that start off the middle, so that borders cut some."""
    from split_halves import Field

    at = (np.arange(STAMP) + 1) // size
    bins = at[:, None] * 100 + at
    rows, columns = np.indices(bins.shape) - (STAMP - 1) / 2
    count = np.bincount(bins.ravel()).clip(1)
    x, y = (np.bincount(bins.ravel(), w.ravel()) / count for w in (columns, rows))
    return Field(bins, x, y, np.full(bins.shape, np.nan))


@pytest.mark.parametrize("name", CUTS)
def test_halves_share_no_bin_and_keep_their_distance(name):
    from split_halves import Cut, cut_halves

    cut = Cut(name, *CUTS[name])
    field, valid = field_of(5), np.ones((STAMP, STAMP), bool)
    valid[10:20, 40:] = False
    halves, straddling = cut_halves(cut, field, valid, BEAM, PLACING)
    first, second = (np.argwhere(half) for half in halves)
    assert not set(field.bins[halves[0]]) & set(field.bins[halves[1]])
    assert not (halves.any(axis=0) & ~valid).any()
    apart = np.sqrt(((first[:, None] - second[None]) ** 2).sum(-1)).min()
    assert apart >= cut.gap * BEAM
    assert 0.25 < len(first) / len(second) < 4, "one half got nearly all"
    assert 0 < straddling < 0.8, "no border cut a bin of this field"


def test_sides_follow_the_galaxys_own_axis_and_centre():
    from split_halves import Cut, cut_halves

    halves, _ = cut_halves(Cut("sides", *CUTS["sides"]), field_of(1), np.ones((STAMP, STAMP), bool), BEAM, PLACING)
    y, x = np.argwhere(halves[1]).T - (STAMP - 1) / 2
    along = np.cos(np.radians(20)) * (x - 1.5) + np.sin(np.radians(20)) * (y + 2)
    assert along.min() >= BEAM / 4, "a receding pixel lies on the approaching side"


def test_a_bin_is_connected_pixels_of_one_value():
    from split_halves import bins_of

    velocity = np.array([[1.0, 1.0, 2.0], [np.nan, 1.0, 2.0], [2.0, 3.0, 1.0]])
    bins = bins_of(velocity)
    assert bins[1, 0] == -1
    assert bins[0, 0] == bins[0, 1] == bins[1, 1]
    assert len({bins[0, 0], bins[0, 2], bins[2, 0], bins[2, 1], bins[2, 2]}) == 5, "equal values that do not touch are one bin"


def test_pulls_have_unit_width_where_both_halves_lean_on_one_prior():
    from splits import _PRIOR, Part, mismatch_of, pulls

    rng, galaxies, free = np.random.default_rng(4), 20_000, ("r_turn", "v_max_sini", "axis_deg")
    prior = np.array([_PRIOR.get(name, np.inf) for name in free])
    about = np.log([0.2, 120.0, 1.0]) * [1, 1, 0] + np.where(np.isfinite(prior), prior, 0) * rng.standard_normal((galaxies, 3))
    parts = []
    for noise in (0.8, 2.0):  # of what a half alone says: the second says little of r_turn and V
        mixing = np.array([[1.0, 0.7, 0.0], [0.0, 1.0, 0.3], [0.1, 0.0, 1.0]])
        covariance = noise**2 * mixing @ mixing.T
        seen = np.log([0.2, 120.0, 1.0]) * [1, 1, 0] + noise * rng.standard_normal((galaxies, 3)) @ mixing.T
        curvature, weight = np.linalg.inv(covariance), np.diag(prior**-2)
        total = np.linalg.inv(curvature + weight)
        found = (seen @ curvature + about @ weight) @ total
        parameters = np.ones((galaxies, 9))
        parameters[:, 2:5] = np.column_stack([np.exp(found[:, :2]), found[:, 2]])
        many = (np.broadcast_to(matrix, (galaxies, 3, 3)) for matrix in (total, total @ weight))
        parts.append(Part(free, torch.from_numpy(parameters), *many, np.ones(galaxies, bool)))
    for name in free:
        pull, error = pulls(*parts, name)
        assert np.std(pull) == pytest.approx(1, abs=0.03), name
        wide = pulls(*parts, name, mismatch=True)[1]
        assert wide == pytest.approx(np.sqrt(error**2 + mismatch_of(name)), rel=1e-9), name
    k = free.index("r_turn")
    off = parts[0].quantity("r_turn")[0] - parts[1].quantity("r_turn")[0]
    naive = off / np.sqrt(sum(part.covariance[:, k, k] for part in parts))
    assert np.std(naive) < 0.9, "the shared prior did not matter: the test shows nothing"
