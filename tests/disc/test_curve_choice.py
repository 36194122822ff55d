"""A map prefers the curve it was drawn with, says less the fewer independent measurements it is, and stays silent where it cannot say."""

import math
from dataclasses import replace

import pytest
import torch

from tullyflow.disc.curve_choice import choose_curve
from tullyflow.disc.curve_shapes import CURVES, velocity_of
from tullyflow.disc.fit import DiscData
from tullyflow.disc.gradients import disc_gradients
from tullyflow.disc.radial_response import KNOTS, radial_response

N = 12
BLOCK = 9.0


def draw(seed=0):
    """Discs (galaxy, 9), none symmetric on the stamp, and outer slopes."""
    g = torch.Generator().manual_seed(seed)
    u = lambda low, high: low + (high - low) * torch.rand(N, generator=g, dtype=torch.float64)  # noqa: E731
    parameters = [u(35, 72), u(0.2, 0.3), u(0.06, 0.15), u(90, 220), u(-8, 8), u(-1.5, 1.5), u(-1.5, 1.5), u(-8, 8), torch.ones(N)]
    return torch.stack([p.double() for p in parameters], 1), u(0.25, 0.45)


def seen(curve, seed=0, noise=4.0, sign=1.0):
    discs, outer = draw(seed)
    whole = torch.cat([discs, sign * outer.unsqueeze(1)], 1) if curve == "slope" else discs
    beam = torch.full((N,), 6.0, dtype=torch.float64)
    model = disc_gradients(whole, beam, curve=curve)
    g = torch.Generator().manual_seed(seed + 1)
    white = torch.randn(model.velocity.shape, generator=g, dtype=torch.float64)
    error = torch.full_like(white, 4.0)
    return discs, sign * outer, DiscData(model.intensity, error, model.velocity + noise * white, error, model.intensity > 0.02, beam)


def asked(data, discs):
    start = discs.clone()
    start[:, 2] *= 1.4
    start[:, 4:8] *= 0.8
    return choose_curve(data, start, torch.full((N,), BLOCK, dtype=torch.float64))


def test_the_map_is_linear_in_the_curve():
    discs, outer = draw(3)
    beam = torch.linspace(3, 9, N, dtype=torch.float64)
    response = radial_response(discs, beam)
    knots = torch.tensor(KNOTS, dtype=torch.float64).unsqueeze(0)
    for curve in CURVES:
        whole = torch.cat([discs, outer.unsqueeze(1)], 1) if curve == "slope" else discs
        drawn = disc_gradients(whole, beam, curve=curve)
        speed = velocity_of(curve, knots, discs[:, 3:4], 32 * discs[:, 2:3], outer.unsqueeze(1), 32 * discs[:, 1:2])
        mine = torch.einsum("gkyx,gk->gyx", response, speed) + discs[:, 7].view(-1, 1, 1)
        seen = drawn.intensity > 0.01
        assert (((mine - drawn.velocity).abs() * seen).amax((1, 2)) / discs[:, 3]).max() < 0.003, curve


@pytest.mark.parametrize(("curve", "sign"), [("arctan", 1), ("tanh", 1), ("slope", 1), ("slope", -1)])
def test_the_curve_it_was_drawn_with_is_preferred(curve, sign):
    discs, outer, data = seen(curve, sign=sign)
    found = asked(data, discs)
    assert (found.preferred == CURVES.index(curve)).double().mean() >= 0.9
    fit = found.fits[curve]
    assert ((fit.parameters[:, 1] / discs[:, 3]).log().abs() < 0.05).all()
    if curve == "slope":
        assert (fit.parameters[:, 2] - outer).abs().max() < 0.15
        assert ((fit.parameters[:, 2] - outer) / fit.covariance[:, 2, 2].sqrt()).square().mean() < 4


def test_velocities_are_those_of_the_preferred_curve_and_an_asymptote_is_none_where_there_is_none():
    discs, outer, data = seen("slope", seed=5, noise=0.5)
    found = asked(data, discs)
    assert (found.preferred == CURVES.index("slope")).all()
    radius = torch.stack([2.2 * discs[:, 1], torch.full((N,), 0.9), torch.full((N,), math.inf)], 1)
    value, error, steep = found.velocity(radius, discs[:, 1])
    true = velocity_of("slope", radius[:, :2], discs[:, 3:4], discs[:, 2:3], outer.unsqueeze(1), discs[:, 1:2])
    assert (value[:, :2] / true - 1).abs().max() < 0.01
    assert (error[:, :2] > 0).all()
    assert (steep[:, 1] > 0.2).all()
    assert value[:, 2].isnan().all()
    assert found.velocity(radius, discs[:, 1], "arctan")[0][:, 2].equal(found.fits["arctan"].parameters[:, 1])


def test_neighbours_that_are_alike_are_fewer_measurements_and_say_less():
    discs, _, data = seen("tanh", seed=7, noise=0.0)
    g = torch.Generator().manual_seed(8)
    coarse = torch.randn((N, 1, 13, 13), generator=g, dtype=torch.float64)
    smooth = 4 * torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear").squeeze(1)
    white = 4 * torch.randn(smooth.shape, generator=g, dtype=torch.float64) * (smooth.std() / 4)
    alone, alike = (asked(replace(data, velocity=data.velocity + noise), discs) for noise in (white, smooth))
    assert (alone.measurements > 10 * alike.measurements).all()
    assert (alike.measurements > data.valid.sum((1, 2)) / 200).all()
    tanh = CURVES.index("tanh")
    assert (alone.preferred == tanh).sum() > (alike.preferred == tanh).sum()
    assert (alone.fits["tanh"].delta_bic > alike.fits["tanh"].delta_bic).all()


def test_what_is_not_seen_is_not_preferred_and_a_broken_galaxy_stays_alone():
    discs, _, data = seen("tanh", seed=9)
    few = data.valid.clone()
    few[2], few[2, 31:33, 30:36] = False, True
    start = discs.clone()
    start[1, 2] = torch.nan
    found, whole = asked(replace(data, valid=few), start), asked(data, discs)
    assert found.preferred[1:3].tolist() == [0, 0]
    assert found.fits["tanh"].parameters[1].isnan().any()
    assert not found.fits["tanh"].converged[1:3].any()
    rest = [0, *range(3, N)]
    assert torch.equal(found.preferred[rest], whole.preferred[rest])
    assert torch.allclose(found.fits["slope"].parameters[rest], whole.fits["slope"].parameters[rest], rtol=1e-3, atol=1e-3)


def test_masked_pixels_never_enter():
    discs, _, data = seen("arctan", seed=11)
    spoiled = torch.where(data.valid, data.velocity, 1e4)
    one, two = asked(data, discs), asked(replace(data, velocity=spoiled), discs)
    assert torch.equal(one.fits["slope"].parameters, two.fits["slope"].parameters)
    assert torch.equal(one.residual, two.residual)
