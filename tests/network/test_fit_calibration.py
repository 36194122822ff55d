"""The errors of a fit are made to mean what they say, and what says so survives on disk."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tullyflow.errors import ModelError
from tullyflow.network import fit_calibration
from tullyflow.network.autoencoder import DiscParameters
from tullyflow.network.batch import Stamps
from tullyflow.network.checkpoint import load_checkpoint
from tullyflow.network.fit_calibration import FitCalibration, calibrate_fit, unchanged
from tullyflow.network.fitted import calibrated_coordinates, v_22_matrix
from tullyflow.network.mismatch import CURVE_RADII, KINDS, MismatchedDiscs
from tullyflow.network.refinement import Refined

CPU = torch.device("cpu")
TRUE = np.array([55.0, 0.3, 1.0, 150.0])
SIGMA = np.array([3.0, 0.05, 0.2, 0.03, 1.0, 0.3, 0.4, 2.0])  # of i (deg), ln r_scale, ln r_turn, ln V_2.2, axis, x, y, v_sys


def discs(n):
    """As much of simulated galaxies as the calibration looks at: truths, beams of 3-9 pixels, errors of 4-12 km/s, a hole in the map."""
    beam, error = torch.linspace(3, 9, n), torch.linspace(4, 12, n).view(n, 1, 1).expand(n, 2, 2)
    valid = torch.tensor([[True, True], [True, False]]).expand(n, 2, 2)
    flat = torch.ones(n, 2, 2)
    stamps = Stamps(flat, flat, flat, torch.where(valid, error, 1e6), valid, beam, torch.ones(n))
    true = torch.as_tensor(np.tile(TRUE, (n, 1)))
    v_22 = torch.as_tensor(np.exp(calibrated_coordinates(true.numpy())[:, 3]))
    none = torch.zeros(n, len(CURVE_RADII)), torch.zeros(n, len(KINDS), dtype=torch.bool), torch.zeros(n)
    return MismatchedDiscs(stamps, DiscParameters(*true.unbind(-1)), torch.zeros(n, 4), v_22, *none)


def found(n, scale, seed=1, held=None, spread=0.5, floor=0.0, deviates=None):
    """Fits whose stated errors are `SIGMA`, by galaxy times e^(+-spread); the true ones are ``scale`` times that, and ``floor`` `SIGMA`."""
    rng = np.random.default_rng(seed)
    sigma = SIGMA * np.exp(spread * rng.uniform(-1, 1, (n, 1)))
    off = np.hypot(scale * sigma, floor * SIGMA) * (rng.standard_normal((n, 8)) if deviates is None else deviates(rng, (n, 8)))
    held = np.zeros(n, bool) if held is None else held
    off[held, :2] = 0
    values = calibrated_coordinates(np.tile(TRUE, (n, 1))) + off[:, :4]
    parameters = np.concatenate([values[:, :1], np.exp(values[:, 1:])], axis=1)
    parameters[:, 3] /= 2 / np.pi * np.arctan(2.2 * parameters[:, 1] / parameters[:, 2])
    back = np.linalg.inv(v_22_matrix(parameters))
    covariance = back @ (np.eye(8) * sigma[:, None] ** 2) @ back.transpose(0, 2, 1)
    covariance[held, :2], covariance[held, :, :2] = 0, 0
    return Refined(parameters, off[:, 4:], covariance, np.zeros((n, 8, 2)), held, np.zeros((n, 2)), np.ones(n, bool))


def network_that_answers_seven():
    model = SimpleNamespace(encode=lambda s: s, network=None, device=CPU)
    model.parameters_of = lambda s, norm: DiscParameters(*torch.full((len(s), 4), 7.0).unbind(-1))
    return model


def calibrated(monkeypatch, n=6000, scale=2.0, held=None, batches=3, **more):
    """Calibrate on fits as `found` has them; return the calibration and where the fits were started."""
    starts, seeds = [], iter(range(50))
    held = np.zeros(n // batches, bool) if held is None else held

    def refine(stamps, start, own, network, device):
        starts.append(start)
        return found(len(stamps), scale, next(seeds), own, **more)

    monkeypatch.setattr(fit_calibration, "refine_discs", refine)
    calibration = calibrate_fit(network_that_answers_seven(), ((discs(n // batches), held) for _ in range(batches)), "survey")
    return calibration, np.concatenate(starts)


def shares(fitted, limit):
    off = fitted.values - np.concatenate([calibrated_coordinates(TRUE[None])[0], np.zeros(4)])
    return np.mean(np.abs(off) <= limit, axis=0)


def test_errors_half_of_the_truth_are_doubled(monkeypatch):
    calibration, _ = calibrated(monkeypatch)
    assert np.array(calibration.factor) == pytest.approx(2.0, rel=0.2)  # bins of 500 discs
    new = calibration.apply(found(4000, 2.0, seed=99))
    assert shares(new, new.sigma) == pytest.approx([0.6827] * 8, abs=0.04)
    assert shares(new, 2 * new.tail * new.sigma) == pytest.approx([0.9545] * 8, abs=0.03)
    assert np.median(new.sigma / unchanged().apply(found(4000, 2.0, seed=99)).sigma, axis=0) == pytest.approx(2.0, rel=0.1)


def test_what_is_stored_is_the_coverage_of_discs_it_did_not_see(monkeypatch):
    calibration, _ = calibrated(monkeypatch)
    (one, two), (one_after, two_after) = calibration.coverage
    assert one == pytest.approx([0.383] * 8, abs=0.04) and two == pytest.approx([0.683] * 8, abs=0.04)
    assert one_after == pytest.approx([0.6827] * 8, abs=0.04) and two_after == pytest.approx([0.9545] * 8, abs=0.02)
    assert np.array(calibration.width[1]) / np.array(calibration.width[0]) == pytest.approx(2.0, rel=0.1)
    assert (calibration.discs, calibration.source) == (6000, "survey")
    assert calibration.beam == pytest.approx((3, 9)) and calibration.velocity_err == pytest.approx((4, 12))  # the hole does not count


def test_small_and_large_errors_may_be_wrong_by_different_factors(monkeypatch):
    """Here a floor that the errors do not know, as large as the typical one: small errors are the more wrong."""
    calibration, _ = calibrated(monkeypatch, scale=1.0, spread=1.5, floor=1.0)
    small, typical, large = (calibration.factors(times * SIGMA[None])[0][0] for times in (0.3, 1.0, 3.0))
    expected = [np.hypot(1, 1 / times) for times in (0.3, 1.0, 3.0)]
    for got, wanted in zip((small, typical, large), expected, strict=True):
        assert np.median(got) == pytest.approx(wanted, rel=0.12)
    beyond = calibration.factors(1e-3 * SIGMA[None])[0][0]
    assert np.array_equal(beyond, calibration.factors(1e-4 * SIGMA[None])[0][0])


def test_heavy_tails_widen_the_95_percent_and_not_the_68(monkeypatch):
    calibration, _ = calibrated(monkeypatch, scale=1.0, deviates=lambda rng, shape: rng.standard_t(2, shape))
    assert np.median(calibration.tail) > 1.4
    new = calibration.apply(found(4000, 1.0, seed=98, deviates=lambda rng, shape: rng.standard_t(2, shape)))
    assert shares(new, new.sigma) == pytest.approx([0.6827] * 8, abs=0.04)
    assert shares(new, 2 * new.tail * new.sigma) == pytest.approx([0.9545] * 8, abs=0.03)


def test_what_is_held_starts_at_the_truth_and_has_no_coverage(monkeypatch):
    calibration, starts = calibrated(monkeypatch, held=np.ones(2000, bool))
    assert np.allclose(starts, [*TRUE[:2], 7.0, 7.0])
    for shared in (*calibration.coverage[0], *calibration.coverage[1], *calibration.width):
        assert shared[:2] == (None, None) and all(share > 0 for share in shared[2:])
    fitted = calibration.apply(found(10, 2.0, held=np.ones(10, bool)))
    assert not fitted.covariance[:, :2].any() and np.isfinite(fitted.covariance).all()


def test_turnovers_within_the_beam_calibrate_nothing(monkeypatch):
    """What is found below half a beam may be anything: it is flagged, and its error does not count."""

    def lost(stamps, start, own, network, device):
        refined = found(len(stamps), 1.0, held=own)
        refined.parameters[stamps.beam.numpy() > 6, 2] = 0.04  # 1.3 pixels
        return refined

    monkeypatch.setattr(fit_calibration, "refine_discs", lost)
    calibration = calibrate_fit(network_that_answers_seven(), [(discs(2000), np.zeros(2000, bool))])
    assert np.array(calibration.factor[2]) == pytest.approx(1.0, rel=0.25)


def test_curves_at_an_inclination_that_was_not_asked_to_be_held_calibrate_nothing(monkeypatch):
    """A fit of all that failed holds the network's inclination: what its error does to the curve is added where it is used."""

    def failed(stamps, start, own, network, device):
        refined = found(len(stamps), 1.0, held=np.arange(len(stamps)) < 1000)
        refined.parameters[:1000, 2:] *= 9
        refined.placing[:1000] *= 2
        return refined

    monkeypatch.setattr(fit_calibration, "refine_discs", failed)
    factors = calibrate_fit(network_that_answers_seven(), [(discs(2000), np.zeros(2000, bool))]).factor
    assert np.array(factors[:4]) == pytest.approx(1.0, rel=0.25)
    assert np.median(factors[4:]) > 1.2


def test_parameters_of_too_few_discs_keep_what_they_had(monkeypatch):
    before = replace(unchanged(), factor=((3.0,),) * 8, source="synthetic")
    monkeypatch.setattr(fit_calibration, "refine_discs", lambda stamps, start, own, network, device: found(len(stamps), 1.0, held=own))
    held = np.arange(100) >= 20
    factors = calibrate_fit(network_that_answers_seven(), [(discs(100), held)], before=before).factor
    assert factors[:2] == ((3.0,),) * 2 and all(factor < 2 for factor in (row[0] for row in factors[2:]))


def test_correlations_stay_what_they_were(monkeypatch):
    calibration, _ = calibrated(monkeypatch)
    refined = found(5, 2.0)
    before, after = unchanged().apply(refined).covariance, calibration.apply(refined).covariance
    scale = [np.sqrt(np.einsum("gi,gj->gij", d, d)) for d in (np.einsum("gii->gi", before), np.einsum("gii->gi", after))]
    assert np.allclose(before / scale[0], after / scale[1])


def test_galaxies_without_a_fit_stay_nan_and_alone(monkeypatch):
    calibration, _ = calibrated(monkeypatch)
    refined = found(3, 2.0)
    for part in (refined.parameters, refined.placing, refined.covariance):
        part[1] = np.nan
    refined.converged[1] = False
    fitted = calibration.apply(refined)
    assert np.isnan(fitted.sigma[1]).all() and np.isfinite(fitted.sigma[[0, 2]]).all()
    assert fitted.used.tolist() == [True, False, True]


def test_unchanged_leaves_the_errors_as_they_are():
    fitted = unchanged().apply(found(3, 1.0, spread=0.0))
    assert np.allclose(fitted.sigma, SIGMA) and (fitted.tail == 1).all()


def test_it_survives_json(monkeypatch):
    calibration, _ = calibrated(monkeypatch)
    back = FitCalibration.from_json(json.loads(json.dumps(calibration.to_json())))
    refined = found(20, 2.0, spread=2.0)
    one, two = calibration.apply(refined), back.apply(refined)
    assert np.array_equal(one.covariance, two.covariance) and np.array_equal(one.tail, two.tail)
    assert back.covers(np.array([5.0]), np.array([6.0])).tolist() == [True]


def test_discs_whose_errors_are_all_the_same_can_be_read_back(monkeypatch):
    calibration, _ = calibrated(monkeypatch, n=900, spread=0.0)
    back = FitCalibration.from_json(json.loads(json.dumps(calibration.to_json())))
    assert np.isfinite(back.factors(SIGMA[None])[0]).all()


def test_surveys_beyond_the_discs_are_not_covered(monkeypatch):
    calibration, _ = calibrated(monkeypatch)  # beams of 3-9 pixels, errors of 4-12 km/s
    beam, error = np.array([5, 14, 1.9, 5, 5, 13.4]), np.array([6, 6, 6, 19, 2.6, 17.9])
    assert calibration.covers(beam, error).tolist() == [True, False, False, False, False, True]
    assert replace(calibration, source="synthetic").covers(beam, error).all()


@pytest.mark.parametrize("change", [
    {"factor": [[1.0]] * 7}, {"factor": [[-1.0]] * 8}, {"sigma": [[2.0, 1.0]] * 8, "factor": [[1.0, 1.0]] * 8, "tail": [[1.0, 1.0]] * 8},
    {"tail": [[float("nan")]] * 8}, {"sigma": [[]] * 8, "factor": [[]] * 8, "tail": [[]] * 8}, {"factor": [[1.0, 1.0]] * 8}, {"tail": "?"},
])  # fmt: skip
def test_foreign_figures_are_refused_with_a_sentence(settings, trained_dir, tmp_path, change):
    weights = shutil.copytree(trained_dir, tmp_path / "weights")
    card = json.loads((weights / "model.json").read_text())
    (weights / "model.json").write_text(json.dumps(card | {"fit_calibration": unchanged().to_json() | change}))
    with pytest.raises(ModelError, match="calibration is not one of this version"):
        load_checkpoint(weights, settings.network, CPU)


def test_a_card_without_it_leaves_the_errors_as_they_are(settings, trained_dir, tmp_path):
    weights = shutil.copytree(trained_dir, tmp_path / "weights")
    card = json.loads((weights / "model.json").read_text())
    assert card["fit_calibration"]["source"] == "synthetic" and card["fit_calibration"]["discs"] == 40
    del card["fit_calibration"]
    (weights / "model.json").write_text(json.dumps(card))
    assert load_checkpoint(weights, settings.network, CPU).fit_calibration == unchanged()
