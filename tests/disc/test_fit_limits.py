"""Where a fit is hard or impossible: edge-on and face-on, wrong minima, ends of ranges, data that fix nothing."""

from dataclasses import replace

import pytest
import torch

from tullyflow.disc.beam import Beam
from tullyflow.disc.fit import DiscData, fit_discs
from tullyflow.disc.gradients import NAMES, disc_gradients
from tullyflow.disc.observation import Accuracy, observe_disc
from tullyflow.disc.profiles import Radial, exponential_intensity, rotation_velocity


def disc(**changed):
    given = dict(zip(NAMES, (50.0, 0.25, 0.15, 150.0, 3.0, 0.4, -0.3, 5.0, 1.0), strict=True)) | changed
    return torch.tensor([list(given.values())], dtype=torch.float64)


def seen(parameters, velocity_err=2.0, intensity_err=0.01, seed=1, noise=1.0, beam=3.0):
    g = torch.Generator().manual_seed(seed)
    fwhm = torch.full((len(parameters),), beam, dtype=torch.float64)
    model = disc_gradients(parameters, fwhm)
    maps = []
    for true, error in ((model.intensity, intensity_err), (model.velocity, velocity_err)):
        size = torch.full_like(true, error)
        maps += [true + noise * size * torch.randn(true.shape, generator=g, dtype=torch.float64), size]
    return DiscData(*maps, model.intensity > 0.02, fwhm)


def misplaced(parameters):
    start = parameters.clone()
    start[:, 1:4] *= torch.tensor([1.1, 1.4, 0.9], dtype=torch.float64)
    start[:, 4:8], start[:, 8] = 0, 1
    return start


@pytest.mark.parametrize(("inclination", "begun"), [(10.0, 16.0), (12.0, 8.0), (85.0, 78.0), (88.0, 80.0)])
def test_near_face_on_and_near_edge_on_all_nine_come_back(inclination, begun):
    truth = disc(inclination_deg=inclination)
    start = misplaced(truth)
    start[:, 0] = begun
    fit = fit_discs(seen(truth, noise=0), start, NAMES, steps=40)
    assert fit.converged.all()
    assert fit.parameters[0, 0].item() == pytest.approx(inclination, abs=0.05)
    assert torch.allclose(fit.parameters[:, 1:4], truth[:, 1:4], rtol=0.003)
    assert torch.allclose(fit.parameters[:, 4:], truth[:, 4:], atol=0.02)


def test_an_edge_on_disc_drawn_by_the_other_projection_is_not_taken_for_a_less_inclined_one():
    """With pixels as cells it is off by more: an exponential height of a pixel is not sampled by them."""
    truth = disc(inclination_deg=87.0, axis_deg=0.0, centre_x=0.0, centre_y=0.0, v_sys=0.0)
    light = Radial(exponential_intensity, (truth[:, 1] * 32,))
    curve = Radial(rotation_velocity, (truth[:, 3] / torch.sin(torch.deg2rad(truth[:, 0])), truth[:, 2] * 32))
    fwhm = torch.full((1,), 2.1, dtype=torch.float64)
    maps = observe_disc(truth[:, 0], light, curve, beam=Beam.round(fwhm), accuracy=Accuracy(16, 4, 32))
    shape = maps.intensity / maps.intensity.amax()
    errors = torch.full_like(shape, 1e-3), 0.1 * shape.clamp(min=1e-3).rsqrt()
    data = DiscData(shape, errors[0], maps.velocity, errors[1], shape > 1e-3, fwhm)
    start = misplaced(truth)
    start[:, 0] = 82.0
    coarse, fine = (fit_discs(data, start, NAMES, nodes=nodes, steps=40) for nodes in (4, 8))
    off = [(fit.parameters[0, :4] / truth[0, :4] - 1).abs() for fit in (coarse, fine)]
    assert fine.converged.all()
    assert (off[1] < torch.tensor([0.001, 0.001, 0.005, 0.003])).all()
    assert off[1].amax() < 0.5 * off[0].amax()


@pytest.mark.parametrize("nodes", [4, 8])
def test_what_ends_at_edge_on_is_compared_with_a_fit_from_off_it(nodes):
    """Without any step to make the starts themselves are compared: 89.9 deg, and 87."""
    for inclination, kept in ((86.5, 87.0), (89.9, 89.9)):
        truth = disc(inclination_deg=inclination, r_scale=0.3)
        start = truth.clone()
        start[:, 0] = 89.9
        fit = fit_discs(seen(truth, noise=0), start, NAMES, nodes=nodes, steps=1)
        assert fit.parameters[0, 0].item() == pytest.approx(kept, abs=1e-6)
    fit = fit_discs(seen(disc(inclination_deg=86.5)), start, NAMES, nodes=nodes)
    assert fit.converged[0]


def test_an_edge_on_disc_with_noise_has_a_wide_error_of_its_inclination():
    truth = disc(inclination_deg=89.8).expand(8, -1).clone()
    start = misplaced(truth)
    start[:, 0] = 80.0
    fit = fit_discs(seen(truth, velocity_err=4.0, intensity_err=0.03), start, NAMES)
    at_the_end = fit.parameters[:, 0] > 89.89
    assert at_the_end.any()
    assert not fit.converged[at_the_end].any()
    sigma = fit.covariance[:, 0, 0].sqrt()
    assert (sigma > 0.5 * (89.8 - fit.parameters[:, 0]).abs()).all()
    assert sigma[at_the_end].min() > 1.5 * sigma[~at_the_end].max()


def test_further_starts_find_the_minimum_that_the_first_missed():
    truth = disc(inclination_deg=35.0, r_turn=0.1)
    start = misplaced(truth)
    start[:, 0], start[:, 2] = 88.0, 0.8
    data = seen(truth)
    one, five, good = fit_discs(data, start, NAMES), fit_discs(data, start, NAMES, starts=5), fit_discs(data, truth, NAMES, starts=5)
    assert one.chi2[0] > 2 * good.chi2[0]
    assert five.chi2[0] == pytest.approx(good.chi2[0].item(), rel=1e-3)
    assert five.parameters[0, 0].item() == pytest.approx(good.parameters[0, 0].item(), abs=0.1)
    assert (one.starts.tolist(), good.starts.tolist()) == ([1], [1])
    assert five.starts[0] > 1
    assert good.measured.tolist() == [2 * int(data.valid.sum())]


def test_a_curve_that_the_beam_hides_ends_at_its_range_and_does_not_converge():
    truth = disc(r_turn=2e-4)
    start = misplaced(truth)
    start[:, 2] = 0.05
    fit = fit_discs(seen(truth, noise=0, beam=4.0), start, NAMES)
    assert fit.parameters[0, 2].item() == pytest.approx(1e-3)
    assert not fit.converged[0]
    assert fit.parameters[0, 0].item() == pytest.approx(50, abs=0.2)


def test_fewer_pixels_than_parameters_fix_nothing():
    data = seen(disc())
    few = torch.zeros_like(data.valid)
    few[:, 31, 28:32] = True
    fit = fit_discs(replace(data, valid=few), misplaced(disc()), NAMES)
    assert not fit.converged[0]
    assert fit.covariance[0].isinf().all()


def test_maps_that_say_nothing_have_no_narrow_errors():
    """Errors a thousand times the signal; no rotation at all; no light at all."""
    blind = seen(disc(), velocity_err=1e5, intensity_err=1e3)
    still = replace(seen(disc()), velocity=torch.zeros_like(blind.velocity))
    dark = replace(seen(disc()), intensity=torch.zeros_like(blind.intensity))
    for data, name, least in ((blind, "v_max_sini", 1), (blind, "inclination_deg", 30), (still, "r_turn", 1), (dark, "inclination_deg", 5)):
        fit = fit_discs(data, misplaced(disc()), NAMES)
        k = NAMES.index(name)
        assert not fit.converged[0] or fit.covariance[0, k, k].sqrt() > least, name


def test_the_inclination_is_not_drawn_aside_by_the_robust_loss():
    """Errors told too small by 5: most residuals are beyond the clip, and the answer is that of the right errors to a sigma."""
    truth = disc()
    data = seen(truth)
    small = replace(data, intensity_err=data.intensity_err / 5, velocity_err=data.velocity_err / 5)
    right, wrong = (fit_discs(d, misplaced(truth), NAMES, steps=40) for d in (data, small))
    assert wrong.converged[0]
    sigma = right.covariance[0].diagonal().sqrt()
    assert ((wrong.parameters - right.parameters)[0, :1].abs() < sigma[:1]).all()
    assert ((wrong.parameters / right.parameters).log()[0, 1:4].abs() < sigma[1:4]).all()
