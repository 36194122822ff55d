"""The projected disc against sums, limits, symmetries and derivatives that owe nothing to its quadrature."""

import numpy as np
import pytest
import torch

from tullyflow.disc.profiles import rotation_velocity
from tullyflow.disc.projection import project_disc
from tullyflow.errors import ModelError


def discs(*rows, dtype=torch.float64):
    """Parameters (inclination, r_scale, r_turn, v_max sin i) of several discs, as project_disc takes them."""
    return torch.tensor(rows, dtype=dtype).unbind(-1)


def sum_sight_line(x, y, inclination_deg, r_scale, r_turn, r_z=1.0, points=40_001):
    """Integral of intensity and its mean velocity along one sight line (pixels), on an even grid of depths."""
    cos, sin = np.cos(np.radians(inclination_deg)), np.sin(np.radians(inclination_deg))
    cusps = y * sin / cos, -y * cos / sin
    margin = 45 / (cos / r_z + sin / r_scale)
    depth = np.linspace(min(cusps) - margin, max(cusps) + margin, points)
    radius = np.hypot(x, y * cos + depth * sin)
    intensity = np.exp(-radius / r_scale - np.abs(depth * cos - y * sin) / r_z)
    velocity = 2 / np.pi * np.arctan(radius / r_turn) * x / radius
    return intensity.sum() * (depth[1] - depth[0]), (intensity * velocity).sum() / intensity.sum()


def test_four_nodes_agree_with_forty_thousand_points():
    """0.15 % of the peak everywhere; 0.5 % of V_max where a thousandth of the peak is left, up to 82 deg; 2.5 % beyond."""
    rng = np.random.default_rng(1)
    n = 150
    inclination, r_scale = rng.uniform(5, 89.9, n), rng.uniform(0.05, 0.8, n)
    r_turn, at = 10 ** rng.uniform(-2, 0, n), rng.integers(0, 32, (n, 2))
    maps = project_disc(*(torch.tensor(p) for p in (inclination, r_scale, r_turn, np.ones(n))))
    for k in range(n):
        args = inclination[k], 32 * r_scale[k], 32 * r_turn[k]
        peak, _ = sum_sight_line(0.5, 0.5, *args)
        intensity, velocity = sum_sight_line(at[k, 0] + 0.5, at[k, 1] + 0.5, *args)
        pixel = (k, 32 + at[k, 1], 32 + at[k, 0])
        assert abs(maps.intensity[pixel] - intensity / peak) < 1.5e-3
        if intensity / peak > 1e-3:
            assert abs(maps.velocity[pixel] - velocity) < (5e-3 if inclination[k] < 82 else 2.5e-2), (args, at[k])


def test_face_on_disc_is_its_radial_profile():
    maps = project_disc(*discs((0.0, 0.3, 0.1, 200.0)))
    axis = torch.arange(64, dtype=torch.float64) - 31.5
    radius = torch.hypot(axis[None, :], axis[:, None])
    profile = torch.exp(-radius / (0.3 * 32))
    assert torch.allclose(maps.intensity[0], profile / profile.max(), rtol=2e-3)
    expected = rotation_velocity(radius, 200.0, 0.1 * 32) * axis[None, :] / radius
    assert torch.allclose(maps.velocity[0], expected, atol=0.5)


def test_edge_on_disc_falls_by_its_scale_height():
    maps = project_disc(*discs((90.0, 0.3, 0.1, 200.0)), thickness=2.0)
    ratio = maps.intensity[0, 41, 40] / maps.intensity[0, 40, 40]
    assert ratio == pytest.approx(np.exp(-1 / 2.0), rel=1e-6)
    assert torch.allclose(maps.velocity[0, 33], maps.velocity[0, 50], rtol=1e-6)


def test_slow_turnover_is_a_rigid_disc():
    """V = w R projects to w sin i x exactly, whatever the thickness and inclination."""
    maps = project_disc(*discs((65.0, 0.3, 1000.0, 1000.0)), thickness=3.0)
    axis = torch.arange(64, dtype=torch.float64) - 31.5
    slope = 2 / np.pi * 1000 / (1000 * 32)
    assert torch.allclose(maps.velocity[0], (slope * axis).expand(64, 64), rtol=1e-4)


def test_fast_turnover_is_flat_on_the_major_axis_of_a_thin_disc():
    maps = project_disc(*discs((50.0, 0.3, 1e-5, 150.0)), thickness=0.05)
    assert torch.allclose(maps.velocity[0, 32, 40:], torch.full((24,), 150.0, dtype=torch.float64), rtol=5e-3)


def test_receding_side_is_at_positive_x():
    maps = project_disc(*discs((50.0, 0.3, 0.1, 150.0)))
    assert (maps.velocity[0, :, 32:] > 0).all()


def test_velocity_is_odd_in_x_and_intensity_even():
    maps = project_disc(*discs((50.0, 0.3, 0.1, 150.0), (85.0, 0.1, 0.5, 50.0)), beam_fwhm=torch.tensor([3.0, 6.0], dtype=torch.float64))
    assert torch.equal(maps.velocity, -maps.velocity.flip(-1))
    assert torch.equal(maps.intensity, maps.intensity.flip(-1))
    assert torch.equal(maps.intensity, maps.intensity.flip(-2))


def test_peak_is_one_and_velocity_scales_with_v_max():
    one, two = (project_disc(*discs((60.0, 0.2, 0.1, v))) for v in (1.0, 37.0))
    assert one.intensity.max() == 1 and one.intensity.amin() >= 0
    assert torch.allclose(37 * one.velocity, two.velocity)


@pytest.mark.parametrize("inclination", [0.0, 5.0, 45.0, 89.99, 90.0])
def test_ends_of_the_ranges_are_finite_in_float32(inclination):
    rows = [(inclination, r_scale, r_turn, 1.0) for r_scale in (0.05, 0.8) for r_turn in (0.01, 1.0)]
    parameters = [p.requires_grad_() for p in discs(*rows, dtype=torch.float32)]
    maps = project_disc(*parameters)
    (maps.intensity.sum() + maps.velocity.square().sum()).backward()
    assert maps.intensity.isfinite().all() and maps.velocity.abs().max() <= 1
    assert all(p.grad.isfinite().all() for p in parameters)


@pytest.mark.parametrize(("beam", "central_cells"), [(None, 1), (4.0, 1), (4.0, 3)])
def test_gradients_agree_with_finite_differences(beam, central_cells):
    rows = discs((40.0, 0.25, 0.15, 1.5), (72.0, 0.12, 0.5, 0.8))
    fwhm = None if beam is None else torch.full((2,), beam, dtype=torch.float64)

    def maps(*parameters):
        return tuple(project_disc(*parameters, size=12, beam_fwhm=fwhm, central_cells=central_cells))

    assert torch.autograd.gradcheck(maps, tuple(p.clone().requires_grad_() for p in rows), eps=1e-5, atol=1e-5, rtol=1e-3)


def test_cut_velocity_has_no_gradient_to_inclination_and_scale_length():
    parameters = [p.clone().requires_grad_() for p in discs((40.0, 0.25, 0.15, 1.5))]
    whole = project_disc(*parameters, beam_fwhm=torch.tensor([5.0], dtype=torch.float64))
    cut = project_disc(*parameters, beam_fwhm=torch.tensor([5.0], dtype=torch.float64), cut_velocity=True)
    assert torch.equal(whole.velocity, cut.velocity)
    gradients = torch.autograd.grad(cut.velocity.square().sum(), parameters, allow_unused=True)
    assert gradients[0] is None and gradients[1] is None
    expected = torch.autograd.grad(whole.velocity.square().sum(), parameters[2:])
    assert all(torch.allclose(a, b) for a, b in zip(gradients[2:], expected, strict=True))


def test_odd_size_is_refused():
    with pytest.raises(ModelError, match="size 63 must be even"):
        project_disc(*discs((40.0, 0.25, 0.15, 1.5)), size=63)
