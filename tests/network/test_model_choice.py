"""Each galaxy is asked for its curve: what comes back is in the field's units and NaN where nothing is known."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from tullyflow.disc.gradients import disc_gradients
from tullyflow.network.batch import Stamps
from tullyflow.network.model_choice import ChosenCurves, choose_curves, disturbed, shape_columns, velocity_factors
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


def chosen(curve_shape, delta_bic, slope_at_r_max=0.0, n=1):
    """What was found of galaxies whose other curve is 10 % below the arctan at the first radius and 20 % at the second, +- 3 %."""
    other = {f.name: np.full(n, np.nan) for f in fields(ChosenCurves)} | {"slope_at_r_max": np.full(n, slope_at_r_max)}
    curves = {"v_sini_arctan_kms": np.full((n, 3), 100.0), "v_sini_kms": np.tile([90.0, 80.0, np.nan], (n, 1))}
    curves |= {"ln_v_err": np.full((n, 3), 0.03)}
    return ChosenCurves(**(other | curves | {"curve_shape": np.full(n, curve_shape), "delta_bic": np.full(n, delta_bic)}))


def factors(found, stands=True):
    radii = np.array([[0.3, 0.95, np.inf]])  # the last finite one is beyond the data
    return velocity_factors(found, np.array([stands]), radii, np.array([0.9]))


def test_velocities_within_the_data_follow_a_curve_that_is_strongly_preferred():
    factor, err = factors(chosen("slope", 8.0))
    assert factor.tolist() == [[0.9, 1.0, 1.0]] and err.tolist() == [[0.03, 0.0, 0.0]]


@pytest.mark.parametrize(("found", "stands"), [
    (chosen("slope", 5.0), True), (chosen("arctan", 8.0), True), (chosen("slope", 8.0, -0.6), True), (chosen("slope", 8.0), False),
    (None, True),
])  # fmt: skip
def test_velocities_stay_the_arctans_without_strong_evidence_or_a_curve_gravity_allows(found, stands):
    factor, err = factors(found, stands)
    assert (factor == 1).all() and (err == 0).all()


def test_a_disc_is_disturbed_where_what_is_no_rotation_is_sure():
    columns = {"non_circular_kms": np.array([5.0, 5, 1, np.nan]), "non_circular_err_kms": np.array([1.0, 1, 1, 1])}
    assert disturbed(columns | {"rotation_share": np.array([0.9, 0.96, 0.9, np.nan])}).tolist() == [True, False, False, False]


def test_shapes_are_told_of_fits_that_stand_and_of_no_others():
    told = shape_columns(chosen("tanh", 8.0, n=2), np.array([True, False]))
    assert told["curve_shape"].tolist() == ["tanh", ""]
    assert told["delta_bic"][0] == 8 and np.isnan(told["delta_bic"][1])
    nothing = shape_columns(None, np.array([True]))
    assert nothing["curve_shape"].tolist() == [""] and np.isnan(nothing["rotation_share"]).all()
