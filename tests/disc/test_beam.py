"""The beam: flux is kept, widths add, and an independent simulator sees the same smeared disc."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from tullyflow.disc.beam import convolve_beam
from tullyflow.disc.projection import project_disc

AXIS = torch.arange(64, dtype=torch.float64) - 31.5


def blob(x, y, sigma):
    """A round Gaussian off the centre, far from the edges."""
    return torch.exp(-((AXIS[None, :] - x) ** 2 + (AXIS[:, None] - y) ** 2) / (2 * sigma**2))[None]


def fwhm(value):
    return torch.tensor([value], dtype=torch.float64)


def test_no_beam_is_the_identity():
    intensity, velocity = blob(-7, 4, 3.0), 10 * AXIS.expand(1, 64, 64)
    smeared, mean = convolve_beam(intensity, velocity, fwhm(0.0))
    assert torch.equal(smeared, intensity)
    assert torch.allclose(mean[intensity > 1e-9], velocity[intensity > 1e-9])


def test_flux_is_conserved_and_widths_add_in_quadrature():
    smeared, _ = convolve_beam(blob(-7, 4, 3.0), torch.ones(1, 64, 64, dtype=torch.float64), fwhm(6.0))
    assert smeared.sum() == pytest.approx(blob(-7, 4, 3.0).sum().item(), rel=1e-6)
    x = (smeared * AXIS).sum() / smeared.sum()
    width = (smeared * (AXIS - x) ** 2).sum() / smeared.sum()
    assert x.item() == pytest.approx(-7, abs=1e-6)
    assert width.item() == pytest.approx(3.0**2 + (6.0 / 2.3548) ** 2, rel=1e-4)


def test_velocity_is_weighted_by_flux():
    """A bright patch at 100 km/s beside a faint one at 0: what is seen between them leans to the bright one."""
    bright, faint = blob(-4, 0, 2.0), 0.1 * blob(4, 0, 2.0)
    velocity = 100 * bright / (bright + faint)
    _, mean = convolve_beam(bright + faint, velocity, fwhm(5.0))
    expected = 100 * gaussian_filter(bright[0].numpy(), 5 / 2.35482) / gaussian_filter((bright + faint)[0].numpy(), 5 / 2.35482)
    assert mean[0, 32, 32].item() == pytest.approx(expected[32, 32], rel=5e-3)
    assert mean[0, 32, 32] > 80


def test_each_galaxy_has_its_own_beam():
    both = blob(3, -5, 2.0).repeat(2, 1, 1)
    smeared, _ = convolve_beam(both, torch.ones_like(both), torch.tensor([0.0, 8.0], dtype=torch.float64))
    assert torch.equal(smeared[0], both[0])
    assert smeared[1].max() < 0.4


@pytest.mark.parametrize("width", [2.0, 6.0, 12.0])
def test_smeared_disc_gets_the_flux_from_outside_its_stamp(width):
    """Against the same disc on a stamp twice as wide, smeared whole: 1 % of the peak and of V_max to the very edge."""
    parameters = torch.tensor([[60.0, 0.7, 0.3, 1.0]], dtype=torch.float64)
    seen = project_disc(*parameters.unbind(-1), beam_fwhm=fwhm(width))
    wide = parameters.clone()
    wide[:, 1:3] /= 2
    large = project_disc(*wide.unbind(-1), size=128)
    intensity, velocity = convolve_beam(large.intensity, large.velocity, fwhm(width))
    inside = (slice(None), slice(32, 96), slice(32, 96))
    assert torch.allclose(seen.intensity, intensity[inside] / intensity[inside].max(), atol=0.01)
    assert torch.allclose(seen.velocity, velocity[inside], atol=0.01)


@pytest.mark.parametrize(("inclination", "r_scale", "r_turn", "beam"), [(40.0, 0.2, 0.1, 5.0), (70.0, 0.3, 0.3, 8.0)])
def test_kinms_sees_the_same_moments(inclination, r_scale, r_turn, beam):
    """KinMS throws cloudlets into a cube and smears each channel: an independent way to the same two maps."""
    from kinms import KinMS

    radius = np.arange(0, 64, 0.1)
    velocity = 2 / np.pi * 150.0 * np.arctan(radius / (32 * r_turn)) / np.sin(np.radians(inclination))
    cube = KinMS(
        64, 64, 400.0, cellSize=1.0, dv=10.0, beamSize=[beam, beam, 0.0], nSamps=2_000_000, verbose=False,
    ).model_cube(
        inclination, 270.0, sbProf=np.exp(-radius / (32 * r_scale)), sbRad=radius, velRad=radius, velProf=velocity,
        phaseCent=[-0.5, -0.5],
    )  # fmt: skip
    channels = (np.arange(cube.shape[2]) - cube.shape[2] / 2) * 10.0  # its velocity 0 is channel 20, its centre pixel 32
    mom0 = cube.sum(axis=2).T
    mom1 = (cube * channels).sum(axis=2).T / mom0
    parameters = torch.tensor([inclination, r_scale, r_turn, 150.0], dtype=torch.float64)
    maps = project_disc(*(p.view(1) for p in parameters), thickness=0.1, beam_fwhm=fwhm(beam))
    compared = maps.intensity[0].numpy() > 0.03
    edge = int(beam)  # a cube brings no flux in from outside it
    compared[:, :edge] = compared[:, -edge:] = False
    assert np.abs(mom0 / mom0.max() - maps.intensity[0].numpy())[compared].max() < 0.015
    difference = (mom1 - maps.velocity[0].numpy())[compared]
    assert abs(np.median(difference)) < 0.3
    assert np.abs(difference).max() < 3
