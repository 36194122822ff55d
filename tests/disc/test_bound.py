"""The Cramer-Rao bound of a disc's maps: derivatives, how it scales, and the scatter of real least-squares fits."""

import math

import pytest
import torch

from tullyflow.disc.beam import Beam
from tullyflow.disc.bound import DISC, NUISANCES, cramer_rao, map_derivatives
from tullyflow.disc.observation import Accuracy, observe_disc
from tullyflow.disc.profiles import Radial, exponential_intensity, rotation_velocity
from tullyflow.disc.projection import project_disc
from tullyflow.errors import ModelError

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # what torch loads for forward derivatives

SIZE = 24
STEPS = (1e-3, 1e-5, 1e-5, 1e-3)


def f64(*values):
    return tuple(torch.tensor([v], dtype=torch.float64) for v in values)


def pixels(size=SIZE):
    at = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return at.view(1, 1, -1), at.view(1, -1, 1)


TILTED, EDGEWISE = (50.0, 0.3, 0.1, 120.0), (72.0, 0.35, 0.25, 200.0)


def errors(snr=50.0, size=SIZE):
    """Errors without any symmetry, so that a flipped weight shows."""
    x, y = pixels(size)
    return (1 + 0.3 * torch.sin(x / 5 + y / 7)) / snr, 300 / snr * (1.2 + 0.02 * x - 0.01 * y)


def bound(disc, noise, valid=None, free=(), beam=3.0, size=SIZE):
    derivatives = map_derivatives(*f64(*disc), free=free, beam_fwhm=None if beam is None else f64(beam)[0], size=size)
    return cramer_rao(derivatives, *noise, valid)


def seen(disc, placed=(0.0, 0.0, 0.0), beam=3.0):
    """Maps of `observe_disc`, intensity in units of its peak when placed in the middle."""
    i, r_scale, r_turn, v = disc
    curve = Radial(rotation_velocity, f64(v / math.sin(math.radians(i)), r_turn * SIZE / 2))
    maps = observe_disc(
        *f64(i), Radial(exponential_intensity, f64(r_scale * SIZE / 2)), curve, axis_deg=placed[0], centre=placed[1:],
        beam=Beam.round(f64(beam)[0]), accuracy=Accuracy(8), size=SIZE,
    )  # fmt: skip
    return torch.cat([maps.intensity, maps.velocity])


@pytest.mark.parametrize("disc", [TILTED, EDGEWISE])
def test_derivatives_agree_with_finite_differences(disc):
    derivatives = map_derivatives(*f64(*disc), free=NUISANCES, beam_fwhm=f64(3.0)[0], size=SIZE)
    assert derivatives.names == (*DISC, *NUISANCES)
    both = torch.stack([derivatives.intensity[0], derivatives.velocity[0]], dim=1)  # (parameter, map, y, x)
    for k, step in enumerate(STEPS):
        ends = []
        for sign in (1, -1):
            moved = [p + sign * step * (j == k) for j, p in enumerate(disc)]
            ends.append(torch.cat(tuple(project_disc(*f64(*moved), nodes=8, size=SIZE, beam_fwhm=f64(3.0)[0]))))
        assert torch.allclose(both[k], (ends[0] - ends[1]) / (2 * step), rtol=1e-4, atol=1e-6), DISC[k]
    peak = seen(disc)[0].max()
    for k, step in enumerate((1e-3, 1e-4, 1e-4)):
        ends = [seen(disc, tuple(sign * step * (j == k) for j in range(3))) for sign in (1, -1)]
        by_step = (ends[0] - ends[1]) / (2 * step)
        assert torch.allclose(both[4 + k, 0], by_step[0] / peak, rtol=1e-4, atol=1e-6), NUISANCES[k]
        assert torch.allclose(both[4 + k, 1], by_step[1], rtol=1e-4, atol=1e-4), NUISANCES[k]
    assert torch.equal(both[7], torch.stack([torch.zeros(SIZE, SIZE), torch.ones(SIZE, SIZE)]).double())


def test_twice_the_noise_is_twice_the_bound():
    intensity_err, velocity_err = errors()
    once, twice = (bound(TILTED, (k * intensity_err, k * velocity_err), free=NUISANCES).sigma for k in (1, 2))
    assert torch.allclose(twice, 2 * once, rtol=1e-8)


def test_more_pixels_never_widen_the_bound():
    x, y = pixels()
    few, more = torch.hypot(x, y) < 6, (torch.hypot(x, y) < 10) & ~((x > 0) & (y > 2 * x))
    few = few & more
    narrow, wide = (bound(EDGEWISE, errors(), v.expand(1, -1, -1), NUISANCES).sigma for v in (more, few))
    whole = bound(EDGEWISE, errors(), None, NUISANCES).sigma
    assert (whole < narrow).all() and (narrow < wide).all()


def test_every_pixel_twice_halves_the_variance():
    """Two independent looks at the same disc are one at errors lower by sqrt 2."""
    intensity_err, velocity_err = errors()
    one, both = (torch.linalg.inv(bound(TILTED, (k * intensity_err, k * velocity_err)).covariance) for k in (1, math.sqrt(0.5)))
    assert torch.allclose(both, 2 * one, rtol=1e-8)


def test_pixels_that_are_not_valid_do_not_count():
    intensity_err, velocity_err = errors()
    valid = (pixels()[0] > -5).expand(1, SIZE, SIZE)
    spoilt = torch.where(valid, intensity_err, math.nan), torch.where(valid, velocity_err, 0.0)
    assert torch.equal(bound(TILTED, spoilt, valid).sigma, bound(TILTED, (intensity_err, velocity_err), valid).sigma)
    assert bound(TILTED, spoilt).sigma.isnan().all()


@pytest.mark.parametrize("disc", [TILTED, EDGEWISE, (20.0, 0.5, 0.6, 60.0)])
def test_what_else_is_not_known_only_widens(disc):
    known = bound(disc, errors()).sigma[0]
    for name in NUISANCES:
        assert (bound(disc, errors(), free=(name,)).sigma[0, :4] >= known * (1 - 1e-9)).all(), name
    assert (bound(disc, errors(), free=NUISANCES).sigma[0, :4] > known).all()


def test_the_angle_of_a_symmetric_map_costs_the_disc_nothing():
    """The axis turns the maps oddly in y, the disc's parameters change them evenly: no covariance where the errors are symmetric."""
    noise = torch.full((1, SIZE, SIZE), 0.02), torch.full((1, SIZE, SIZE), 5.0)
    free = bound(TILTED, noise, free=("axis_deg",))
    assert torch.allclose(free.sigma[:, :4], bound(TILTED, noise).sigma, rtol=1e-6)


def test_a_disc_face_on_leaves_its_inclination_open():
    exact, nearly = bound((0.0, 0.3, 0.1, 100.0), errors()), bound((1.0, 0.3, 0.1, 100.0), errors())
    assert exact.sigma.isinf().all()
    assert nearly.sigma[0, 0] > 10 * bound(TILTED, errors()).sigma[0, 0]
    assert nearly.sigma[0, 0] > 2


def test_velocity_alone_of_rigid_rotation_fixes_no_turnover():
    """Inside a turnover radius far outside the map V and r_turn are known by their ratio alone: huge, or inf, never narrow."""
    no_light = torch.full((1, SIZE, SIZE), math.inf)
    sigma = bound((50.0, 0.3, 30.0, 4000.0), (no_light, errors()[1])).sigma[0]
    assert sigma.isinf().all() or (sigma[2] > 30 and sigma[3] > 4000)


def test_no_pixel_and_nan_stay_with_their_galaxy():
    disc = [torch.tensor([v, v, v], dtype=torch.float64) for v in TILTED]
    disc[1][2] = math.nan
    derivatives = map_derivatives(*disc, free=NUISANCES, beam_fwhm=torch.full((3,), 3.0), size=SIZE)
    valid = torch.ones((3, SIZE, SIZE), dtype=torch.bool)
    valid[1] = False
    sigma = cramer_rao(derivatives, *errors(), valid).sigma
    assert sigma[2].isnan().all() and sigma[1].isinf().all()
    assert torch.allclose(sigma[0], bound(TILTED, errors(), free=NUISANCES).sigma[0])


def test_unknown_nuisance_is_refused():
    with pytest.raises(ModelError, match="warp is no nuisance; known: axis_deg, centre_x"):
        map_derivatives(*f64(*TILTED), free=("warp",))


def fit(data, noise, start, draw):
    """Least squares by Gauss-Newton with central differences, of many noisy maps (fit, pixel) at once; ``draw`` makes maps of
    parameters (fit, parameter)."""
    at = start.expand(len(data), -1).clone()
    steps = start.abs() * 1e-4 + 1e-4
    for _ in range(3):
        by = [(draw(at + s * e) - draw(at - s * e)) / (2 * s) for s, e in zip(steps, torch.eye(len(start)).double(), strict=True)]
        slopes = torch.stack(by, dim=-1) / noise.unsqueeze(-1)  # (fit, pixel, parameter)
        residual = (data - draw(at)) / noise
        at = at + torch.linalg.solve(slopes.mT @ slopes, (slopes.mT @ residual.unsqueeze(-1)).squeeze(-1))
    return at


@pytest.mark.parametrize("disc", [TILTED, EDGEWISE])
def test_least_squares_fits_scatter_as_the_bound_says(disc):
    """300 fits each, brightness and systemic velocity fitted too: their scatter is known to 4 %, compared at four of these."""
    fits, generator = 300, torch.Generator().manual_seed(5)
    valid = (torch.hypot(*pixels()) < 11) & (pixels()[0] < 8)

    def draw(p):
        maps = project_disc(*p[:, :4].unbind(-1), nodes=4, size=SIZE, beam_fwhm=torch.full((len(p),), 3.0, dtype=p.dtype))
        both = torch.cat([maps.intensity * p[:, 5].view(-1, 1, 1), maps.velocity + p[:, 4].view(-1, 1, 1)], dim=1)
        return both[:, torch.cat([valid[0], valid[0]])]

    noise = torch.cat([e[:, valid[0]] for e in (m.expand(1, SIZE, SIZE) for m in errors(200.0))], dim=1)
    truth = torch.tensor([*disc, 0.0, 1.0], dtype=torch.float64)
    data = draw(truth.unsqueeze(0)) + noise * torch.randn((fits, noise.shape[1]), generator=generator, dtype=torch.float64)
    found = fit(data, noise, truth, draw)
    expected = bound(disc, errors(200.0), valid.expand(1, -1, -1), ("v_sys", "brightness"))
    ratio = found.std(dim=0) / expected.sigma[0]
    assert (ratio - 1).abs().max() < 4 * math.sqrt(1 / (2 * fits)), ratio
    correlation = torch.corrcoef(found.T)
    sigma = expected.sigma[0]
    assert (correlation - expected.covariance[0] / (sigma.unsqueeze(0) * sigma.unsqueeze(1))).abs().max() < 4 / math.sqrt(fits)


def test_fits_of_axis_and_centre_scatter_as_the_bound_says():
    fits, generator = 60, torch.Generator().manual_seed(6)

    def draw(p):
        light, curve = Radial(exponential_intensity, (p[:, 1] * SIZE / 2,)), Radial(rotation_velocity, (p[:, 3], p[:, 2] * SIZE / 2))
        beam = Beam.round(torch.full((len(p),), 3.0, dtype=p.dtype))
        maps = observe_disc(p[:, 0], light, curve, axis_deg=p[:, 4], centre=(p[:, 5], p[:, 6]), beam=beam, accuracy=Accuracy(4), size=SIZE)
        return torch.cat([maps.intensity / peak * p[:, 7].view(-1, 1, 1), maps.velocity], dim=1).flatten(1)

    i, r_scale, r_turn, v = TILTED
    sin = math.sin(math.radians(i))
    peak = seen(TILTED)[0].max()
    noise = torch.cat(errors(200.0), dim=1).flatten(1)
    truth = torch.tensor([i, r_scale, r_turn, v / sin, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    data = draw(truth.unsqueeze(0)) + noise * torch.randn((fits, noise.shape[1]), generator=generator, dtype=torch.float64)
    found = fit(data, noise, truth, draw)
    found[:, 3] *= torch.sin(torch.deg2rad(found[:, 0]))
    expected = bound(TILTED, errors(200.0), free=("axis_deg", "centre_x", "centre_y", "brightness")).sigma[0]
    ratio = (found.std(dim=0) / expected)[:7]  # brightness is that of the centre face-on here, that of the map's peak there
    assert (ratio - 1).abs().max() < 4 * math.sqrt(1 / (2 * fits)), ratio
