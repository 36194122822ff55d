"""Every curve and profile at its limits, against what it must integrate to, and its derivatives."""

import math

import pytest
import torch
from scipy.special import gammainc

from tullyflow.disc.profiles import (
    Radial,
    broken_exponential_intensity,
    exponential_intensity,
    exponential_velocity,
    isothermal_velocity,
    ring_intensity,
    rotation_velocity,
    sersic_intensity,
    tanh_velocity,
    universal_velocity,
)

CURVES = {  # velocity at r_turn = 3 over the asymptote, slope at the centre in asymptotes per r_turn
    rotation_velocity: ((200.0, 3.0), 0.5, 2 / math.pi),
    tanh_velocity: ((200.0, 3.0), math.tanh(1), 1.0),
    exponential_velocity: ((200.0, 3.0), 1 - math.exp(-1), 1.0),
    universal_velocity: ((200.0, 3.0, 2.0, 0.0), 0.5**0.5, 1.0),
    isothermal_velocity: ((200.0, 3.0), math.sqrt(1 - math.pi / 4), 1 / math.sqrt(3)),
}
INTENSITIES = {
    exponential_intensity: (4.0,),
    sersic_intensity: (4.0, 2.5),
    ring_intensity: (6.0, 1.5),
    broken_exponential_intensity: (4.0, 10.0, 1.5, 3.0),
}


def f64(*values):
    return tuple(torch.tensor([v], dtype=torch.float64) for v in values)


def number(function, radius, parameters, dtype=torch.float64):
    return function(torch.tensor([radius], dtype=dtype), *(torch.tensor([p], dtype=dtype) for p in parameters)).item()


@pytest.mark.parametrize("curve", CURVES)
def test_curves_start_at_zero_with_their_slope_pass_their_turnover_and_reach_the_asymptote(curve):
    parameters, at_turn, slope = CURVES[curve]
    assert number(curve, 0.0, parameters) == pytest.approx(0, abs=1e-9)
    assert number(curve, 1e-5, parameters) == pytest.approx(200 * slope * 1e-5 / 3, rel=1e-4)
    assert number(curve, 3.0, parameters) == pytest.approx(200 * at_turn, rel=1e-9)
    assert number(curve, 3e6, parameters) == pytest.approx(200, rel=1e-4)


@pytest.mark.parametrize("curve", CURVES)
def test_curves_hold_their_digits_in_float32(curve):
    for radius in (1e-3, 0.05, 0.89, 0.91, 3.0, 50.0, 4e4):
        exact = number(curve, radius, CURVES[curve][0])
        assert number(curve, radius, CURVES[curve][0], torch.float32) == pytest.approx(exact, rel=2e-6)


def test_isothermal_series_meets_the_closed_form():
    below, above = (number(isothermal_velocity, 0.3 * k, (1.0, 1.0)) for k in (1 - 1e-12, 1 + 1e-12))
    assert below == pytest.approx(above, rel=1e-11)


def test_universal_curve_turns_suddenly_or_goes_on_rising_or_falls():
    sharp = 200.0, 3.0, 200.0, 0.0
    assert number(universal_velocity, 1.5, sharp) == pytest.approx(100, rel=1e-6)
    assert number(universal_velocity, 6.0, sharp) == pytest.approx(200, rel=1e-6)
    at_two, at_four = (number(universal_velocity, 3.0 * k, (200.0, 3.0, 5.0, 0.5)) for k in (2, 4))
    assert at_two > at_four > 200
    assert at_two == pytest.approx(200 * 1.5**0.5 / (1 + 0.5**5) ** 0.2, rel=1e-12)
    assert number(universal_velocity, 12.0, (200.0, 3.0, 5.0, -0.5)) < 200


@pytest.mark.parametrize("n", [0.5, 1.0, 2.5, 4.0, 8.0])
def test_half_the_light_of_a_sersic_disc_is_within_its_half_light_radius(n):
    """With b = b_n the light within R_e is the incomplete gamma function P(2n, b)."""
    b = math.log(number(sersic_intensity, 0.0, (1.0, n)))
    assert gammainc(2 * n, b) == pytest.approx(0.5, abs=2e-4)
    assert number(sersic_intensity, 2.0, (1.0, n)) == pytest.approx(math.exp(b * (1 - 2 ** (1 / n))))


def test_sersic_of_one_is_exponential():
    radius = torch.linspace(0.01, 30, 50, dtype=torch.float64)
    sersic = sersic_intensity(radius, *f64(1.67834699 * 4, 1.0))
    assert torch.allclose(sersic / sersic[0], torch.exp(-(radius - radius[0]) / 4), rtol=5e-4)


def test_ring_is_a_gaussian_about_its_radius():
    assert number(ring_intensity, 6.0, (6.0, 1.5)) == 1
    half = 1.5 * math.sqrt(2 * math.log(2))
    for radius in (6 - half, 6 + half):
        assert number(ring_intensity, radius, (6.0, 1.5)) == pytest.approx(0.5)


def test_broken_exponential_has_one_slope_inside_and_another_outside():
    parameters = 8.0, 20.0, 1.5, 4.0
    assert number(broken_exponential_intensity, 0.0, parameters) == pytest.approx(1)
    for radius, scale in ((5.0, 8.0), (35.0, 1.5)):
        ratio = number(broken_exponential_intensity, radius + 1, parameters) / number(broken_exponential_intensity, radius, parameters)
        assert ratio == pytest.approx(math.exp(-1 / scale), rel=1e-6)
    assert number(broken_exponential_intensity, 12.0, (8.0, 20.0, 8.0, 4.0)) == pytest.approx(math.exp(-1.5))


@pytest.mark.parametrize("function", [*CURVES, *INTENSITIES])
def test_derivatives_agree_with_finite_differences(function):
    parameters = CURVES[function][0] if function in CURVES else INTENSITIES[function]
    radius = torch.tensor([0.05, 0.8, 1.0, 2.9, 7.0, 31.0], dtype=torch.float64)
    arguments = [t.clone().requires_grad_() for t in (radius, *f64(*parameters))]
    assert torch.autograd.gradcheck(function, arguments, eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("function", [*CURVES, *INTENSITIES])
def test_derivatives_are_finite_at_the_centre_and_far_out_in_float32(function):
    parameters = CURVES[function][0] if function in CURVES else INTENSITIES[function]
    arguments = [torch.tensor([p], requires_grad=True) for p in parameters]
    function(torch.tensor([0.0, 1e-6, 3.0, 1e4]), *arguments).sum().backward()
    assert all(a.grad.isfinite().all() for a in arguments)


def test_radial_gives_each_galaxy_its_own_parameters():
    curve = Radial(rotation_velocity, (torch.tensor([100.0, 300.0]), torch.tensor([1.0, 2.0])))
    velocity = curve(torch.tensor([1.0, 2.0]).view(2, 1, 1).expand(2, 3, 4))
    assert velocity.shape == (2, 3, 4)
    assert torch.allclose(velocity[:, 0, 0], torch.tensor([50.0, 150.0]))
