"""Discs that do more than turn: each disturbance does what its equation says, and none of it leaves the plain disc."""

import math
from dataclasses import replace

import pytest
import torch

from tullyflow.disc.disturbed import Disturbance, disturbed_disc
from tullyflow.disc.gradients import disc_gradients
from tullyflow.disc.profiles import Radial, rotation_velocity

HALF = 32


def column(*values):
    return torch.tensor(values, dtype=torch.float64)


def nothing(n=1):
    zero, some = torch.zeros(n, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    return Disturbance(zero, zero, 5 * some, zero, zero, zero, zero, 1e3 * some, some, zero, zero)


def disc(extra, inclination=35.0, axis=0.0, centre=(0.0, 0.0), thickness=0.02, beam=None, light=None, streams=None):
    """A thin disc of r_scale 10 pixels with V sin i 100 arctan, seen sharply."""
    curve = Radial(rotation_velocity, (column(100.0), column(3.0)))
    return disturbed_disc(
        column(inclination), column(10.0), curve, extra, light=light, streams=streams, axis_deg=column(axis),
        centre=tuple(column(c) for c in centre), thickness=column(thickness), beam_fwhm=beam and column(beam),
    )  # fmt: skip


def plane(inclination=35.0):
    """In-plane R, cos(theta) and sin(theta) of the pixels."""
    at = torch.arange(64, dtype=torch.float64) - 31.5
    x, y = at.view(1, -1), at.view(-1, 1) / math.cos(math.radians(inclination))
    radius = torch.hypot(x, y)
    return radius, x / radius, y / radius


def test_an_undisturbed_disc_is_the_model_wherever_it_lies():
    p = torch.tensor([
        [35.0, 0.3, 0.2, 140.0, 12.0, 1.3, -0.7, 0.0, 1.0],
        [86.0, 0.15, 0.05, 90.0, -50.0, -2.2, 3.1, 0.0, 1.0],
        [8.0, 0.5, 0.6, 60.0, 170.0, 0.0, 0.4, 0.0, 1.0],
    ], dtype=torch.float64)  # fmt: skip
    beam = column(3.0, 6.0, 1.0)
    expected = disc_gradients(p, beam)
    curve = Radial(rotation_velocity, (p[:, 3], p[:, 2] * HALF))
    maps = disturbed_disc(
        p[:, 0], p[:, 1] * HALF, curve, nothing(3), axis_deg=p[:, 4], centre=(p[:, 5], p[:, 6]), thickness=column(1, 1, 1), beam_fwhm=beam
    )
    assert torch.allclose(maps.intensity, expected.intensity, atol=1e-6) and torch.equal(maps.intensity, maps.smooth)
    assert ((maps.velocity - expected.velocity).abs() / p[:, 3].view(-1, 1, 1)).max() < 1e-4


def test_a_bar_streams_as_spekkens_and_sellwood_say():
    extra = replace(nothing(), bar_tangential=column(12.0), bar_radial=column(7.0), bar_radius=column(6.0), bar_angle=column(0.6))
    streaming = (disc(extra).velocity - disc(nothing()).velocity)[0]
    radius, c, s = plane()
    theta_b = torch.atan2(s, c) - 0.6
    amplitude = radius / 6 * torch.exp((1 - (radius / 6) ** 2) / 2)
    expected = -amplitude * (12 * torch.cos(2 * theta_b) * c + 7 * torch.sin(2 * theta_b) * s)
    outside = radius > 2
    assert (streaming - expected)[outside].abs().max() < 0.15
    assert amplitude.max() == pytest.approx(1, abs=0.02) and streaming[radius > 20].abs().max() < 0.3


def test_lopsided_rotation_is_faster_on_one_side_and_radial_flows_cross_the_minor_axis():
    radius, c, s = plane()
    turning = 200 / math.pi * torch.atan(radius / 3)
    lopsided = disc(replace(nothing(), lopsided=column(0.05), lopsided_angle=column(0.0))).velocity[0]
    assert torch.allclose(lopsided, turning * c * (1 + 0.05 * c), atol=0.3)
    assert (lopsided[31:33, 60] / -lopsided[31:33, 3]).mean().item() == pytest.approx(1.05 / 0.95, rel=1e-3)
    radial = disc(replace(nothing(), radial=column(0.1))).velocity[0]
    assert torch.allclose(radial, turning * (c + 0.1 * s), atol=0.3)


def test_a_warp_turns_and_tilts_the_rings_beyond_its_radius_alone():
    extra = replace(nothing(), warp_radius=column(14.0), warp_length=column(10.0), warp_axis=column(20.0), warp_inclination=column(6.0))
    warped, flat = disc(extra), disc(nothing())
    radius, *_ = plane()
    inside = radius < 13.9
    assert torch.allclose(warped.velocity[0][inside], flat.velocity[0][inside], atol=1e-9)
    for ring in (20.0, 28.0):
        axis, inclination = 2 * (ring - 14), 35 + 0.6 * (ring - 14)
        at = torch.linspace(-60, 60, 241, dtype=torch.float64).deg2rad()
        cos = torch.tensor(math.cos(math.radians(inclination)))
        a = math.radians(axis)
        x = ring * (at.cos() * math.cos(a) - cos * at.sin() * math.sin(a))
        y = ring * (at.cos() * math.sin(a) + cos * at.sin() * math.cos(a))
        grid = torch.stack([(x + 0.5) / 32 - 1 / 64, (y + 0.5) / 32 - 1 / 64], -1).view(1, 1, -1, 2)
        seen = torch.nn.functional.grid_sample(warped.velocity.unsqueeze(1), grid, align_corners=False).flatten()
        known = grid.abs().amax(-1).flatten() < 0.97
        expected = 200 / math.pi * math.atan(ring / 3) * math.sin(math.radians(inclination)) / math.sin(math.radians(35)) * at.cos()
        assert (seen - expected)[known].abs().max() < 1.5


def test_light_weighs_the_velocities_only_where_the_beam_mixes_them():
    def one_sided(x, y):
        return torch.where(x > 0, 4.0, 1.0) * torch.where(y > 0, 1.0, 2.0)

    sharp, plain = disc(nothing(), light=one_sided), disc(nothing())
    assert torch.allclose(sharp.velocity, plain.velocity)
    smeared, plain = disc(nothing(), beam=6.0, light=one_sided), disc(nothing(), beam=6.0)
    assert (smeared.velocity - plain.velocity)[0, 31:33, 31:33].mean() > 5
    assert torch.equal(smeared.smooth, plain.smooth) and smeared.intensity[0, 31, 40] > 1.5 * smeared.intensity[0, 31, 23]


def test_streams_are_added_where_they_flow():
    plane_x, streams = plane()[0] * plane()[1], disc(nothing(), centre=(2.0, 0.0), streams=lambda x, y: 0.5 * x + 0.25 * y).velocity[0]
    plane_y = plane()[0] * plane()[2]
    added = streams - disc(nothing(), centre=(2.0, 0.0)).velocity[0]
    near = plane()[0] < 25
    assert torch.allclose(added[near], (0.5 * (plane_x - 2) + 0.25 * plane_y)[near], atol=0.1)


def test_nan_stays_in_its_galaxy():
    curve = Radial(rotation_velocity, (column(100.0, 100.0), column(3.0, 3.0)))
    maps = disturbed_disc(
        column(math.nan, 50.0), column(10.0, 10.0), curve, nothing(2), axis_deg=column(0.0, 0.0),
        centre=(column(0.0, 0.0), column(0.0, 0.0)), thickness=column(1.0, 1.0), beam_fwhm=column(2.0, 2.0),
    )  # fmt: skip
    assert maps.velocity[0].isnan().all() and maps.velocity[1].isfinite().all() and maps.intensity[1].isfinite().all()
