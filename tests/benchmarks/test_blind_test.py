"""The blind test draws the discs that it says, and its statistics are what they are called."""

import numpy as np
import pandas as pd
import pytest
import torch

from tullyflow.disc.projection import project_disc

TRUTH = np.array([[55.0, 0.2, 0.15, 200.0], [25.0, 0.3, 0.05, 90.0]])


@pytest.fixture(scope="module")
def drawn():
    from blind_galaxies import draw_clouds

    return draw_clouds(TRUTH, np.array([5, 6]), cloudlets=200_000, sampling="lattice", thickness=1.0)


def test_kinms_draws_the_disc_of_our_decoder(drawn):
    """Receding side at +x, centre (31.5, 31.5), the beam of both: half a pixel or half a beam off would show."""
    from blind_galaxies import observe

    seen = observe(drawn, beam=2.0, faintest=0.01)
    columns = torch.as_tensor(TRUTH).unbind(-1)
    ours = project_disc(*columns, nodes=8, beam_fwhm=torch.full((2,), seen.beam, dtype=torch.float64), central_cells=3)
    intensity = seen.intensity * (ours.intensity.numpy() * seen.valid).sum() / (seen.intensity * seen.valid).sum()
    assert np.abs(intensity - ours.intensity.numpy())[seen.valid].mean() < 0.01
    for velocity, disc, valid, true in zip(seen.velocity, ours.velocity.numpy(), seen.valid, TRUTH, strict=True):
        assert np.sqrt(np.mean((velocity - disc)[valid] ** 2)) < 0.01 * true[3]
        assert velocity[32, 50] > 0 > velocity[31, 13]
    y, x = np.mgrid[:64, :64]
    centre = [np.average(x, weights=seen.intensity[0]), np.average(y, weights=seen.intensity[0])]
    assert centre == pytest.approx([31.5, 31.5], abs=0.03)


def test_a_seed_is_a_galaxy(drawn):
    from blind_galaxies import draw_clouds

    one, other = (draw_clouds(TRUTH[:1], np.array([seed]), cloudlets=200_000, sampling="lattice", thickness=1.0) for seed in (5, 7))
    assert np.array_equal(one.flux[0], drawn.flux[0]) and np.array_equal(one.momentum[0], drawn.momentum[0])
    assert not np.array_equal(other.flux[0], drawn.flux[0])


def test_the_population_is_that_of_the_paper():
    from blind_galaxies import draw_truth, read_population

    truth = draw_truth(read_population())
    assert truth.shape == (2000, 4)
    assert truth.min(axis=0) == pytest.approx([10, 0.1, 0.01, 50], abs=1)
    assert truth.max(axis=0) == pytest.approx([90, 0.35, 0.8, 500], abs=1)


@pytest.fixture
def table() -> pd.DataFrame:
    """Four galaxies, deviations 1, -1, 2, 0 of every parameter, errors 1.5."""
    from blind_galaxies import PARAMETERS

    true = {"inclination_deg": [60.0] * 4, "r_scale": [0.2] * 4, "r_turn": [0.1, 0.2, 0.3, 0.5], "v_max_sini": [100.0] * 4}
    columns = {"v_largest_true": 90.0, "v_largest": [91.0, 89.0, 92.0, 90.0]}
    for name in PARAMETERS:
        columns |= {f"{name}_true": true[name], name: np.add(true[name], [1, -1, 2, 0]), f"{name}_at_bound": False}
        columns |= {f"{name}_err": 1.5, f"{name}_mad": 0.5}
    return pd.DataFrame(columns)


def test_deviations_are_absolute_means_and_shares_within_one_sigma(table):
    from blind_test import summary

    rows = summary(table).set_index("parameter")
    assert list(rows.index) == ["inclination_deg", "r_scale", "r_turn", "v_max_sini", "v_largest"]
    assert rows["mean"].to_numpy() == pytest.approx([1.0] * 5) and rows["bias"].to_numpy() == pytest.approx([0.5] * 5)
    assert rows.loc["r_turn", ["covered", "covered_mad"]].to_list() == [0.75, 0.25]
    assert np.isnan(rows.loc["v_largest", "covered"])


def test_the_cut_is_of_the_turnover_radius_along_the_minor_axis(table):
    """32 x 0.1 x cos 60 deg = 1.6 pixels: below 1.5 beams of 2 pixels; 0.2 gives 3.2."""
    from blind_test import cut_by_turnover

    assert cut_by_turnover(table, beam=2.0).to_list() == [True, False, False, False]
    assert not cut_by_turnover(table, beam=2.0, pixels=64).any()
