"""Each galaxy is asked for its curve: what comes back is in the field's units and NaN where nothing is known."""

import numpy as np
import torch

from tullyflow.disc.gradients import disc_gradients
from tullyflow.network.batch import Stamps
from tullyflow.network.model_choice import choose_curves
from tullyflow.settings import Network

CPU = torch.device("cpu")


def survey(curve="arctan", outer=0.0, n=6, extra=0.0):
    """Stamps of discs, r_turn 0.1 and one of 0.7 half-widths, and their parameters (galaxy, 4) and placing."""
    parameters = np.array([[55.0, 0.25, 0.1, 150.0]] * n)
    parameters[-1, 2] = 0.7
    placing = np.array([[3.0, 0.5, -0.7, 4.0]] * n)
    columns = [parameters, placing, np.ones((n, 1))] + ([np.full((n, 1), outer)] if curve == "slope" else [])
    beam = torch.full((n,), 6.0, dtype=torch.float64)
    maps = disc_gradients(torch.as_tensor(np.hstack(columns)), beam, curve=curve)
    noise = torch.randn(maps.velocity.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.linspace(-1, 1, 64, dtype=torch.float64)
    velocity = maps.velocity + 3 * noise + extra * torch.sin(6 * x).view(1, 64, 1) * torch.cos(5 * x).view(1, 1, 64)
    valid = maps.intensity > 0.03
    error = torch.full_like(velocity, 3.0)
    images = (maps.intensity, error / 300, velocity, error)
    return Stamps(*(m.float() for m in images), valid, beam.float(), torch.ones(n)), parameters, placing


def asked(stamps, parameters, placing):
    radii = np.stack([2.2 * parameters[:, 1], np.full(len(parameters), np.inf)], 1)
    return choose_curves(stamps, parameters, placing, Network(), CPU, radii, np.full(len(parameters), 0.9))


def test_an_arctan_stays_one_with_its_velocities():
    stamps, parameters, placing = survey()
    found = asked(stamps, parameters, placing)
    assert (found.curve_shape == "arctan").all()
    true = 150 * 2 / np.pi * np.arctan(2.2 * 0.25 / parameters[:, 2])
    assert np.allclose(found.v_sini_kms[:, 0] / true, 1, atol=0.03)
    assert np.array_equal(found.v_sini_kms, found.v_sini_arctan_kms)
    assert (np.abs(found.outer_slope) < 4 * found.outer_slope_err + 0.02).all()
    assert found.rising.tolist() == [False] * 5 + [True]  # r_turn = 0.7 of data that reach 0.9
    assert (found.non_circular_kms < 1).all()
    assert (found.rotation_share > 0.99).all()


def test_a_declining_curve_is_one_and_has_no_asymptote():
    stamps, parameters, placing = survey("slope", -0.4)
    found = asked(stamps, parameters, placing)
    assert (found.curve_shape[:5] == "slope").all()
    assert np.allclose(found.outer_slope[:5], -0.4, atol=0.1)
    assert (found.delta_bic_slope[:5] > 2).all()
    assert np.isnan(found.v_sini_kms[:5, 1]).all()
    assert not found.rising[:5].any()
    assert (found.slope_at_r_max[:5] < -0.2).all()


def test_motions_that_do_not_turn_are_seen():
    still, moving = (asked(*survey(extra=extra)) for extra in (0.0, 40.0))
    assert (moving.non_circular_kms > 5 + still.non_circular_kms).all()
    assert (moving.rotation_share < still.rotation_share).all()
    assert (moving.non_circular_kms > 3 * moving.non_circular_err_kms).all()


def test_a_galaxy_without_parameters_is_nan_and_alone():
    stamps, parameters, placing = survey()
    broken = parameters.copy()
    broken[1] = np.nan
    found, whole = asked(stamps, broken, placing), asked(stamps, parameters, placing)
    assert np.isnan(found.v_sini_kms[1]).all()
    assert np.isnan(found.delta_bic[1])
    assert not found.rising[1]
    rest = [0, 2, 3, 4, 5]
    assert np.allclose(found.v_sini_kms[rest], whole.v_sini_kms[rest], rtol=1e-4)


def test_no_galaxies_are_no_answers():
    stamps, parameters, placing = survey()
    none = torch.zeros(6, dtype=torch.bool)
    found = asked(stamps.select(none), parameters[:0], placing[:0])
    assert found.curve_shape.shape == (0,)
    assert found.v_sini_kms.shape == (0, 2)
