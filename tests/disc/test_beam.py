"""The beam: flux is kept, widths add, and an independent simulator sees the same smeared disc."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from tullyflow.disc.beam import Beam, beam_kernel, beam_matrix, smear_maps
from tullyflow.disc.projection import project_disc

AXIS = torch.arange(64, dtype=torch.float64) - 31.5
PER_SIGMA = 2 * math.sqrt(2 * math.log(2))


def blob(x, y, sigma):
    """A round Gaussian off the centre, far from the edges, (1, 1, 64, 64)."""
    return torch.exp(-((AXIS[None, :] - x) ** 2 + (AXIS[:, None] - y) ** 2) / (2 * sigma**2))[None, None]


def fwhm(value):
    return torch.tensor([value], dtype=torch.float64)


def ellipse(major, minor, axis_deg):
    return Beam(fwhm(major), fwhm(minor), fwhm(axis_deg))


def smear(maps, beam):
    """Smear whole maps as if nothing were around them."""
    reach = beam.reach()
    return smear_maps(torch.nn.functional.pad(maps, [reach] * 4), beam, reach)


def covariance(image):
    """Centroid (x, y) and covariance (xx, xy, yy) of an image (y, x)."""
    share = image / image.sum()
    x, y = (share * AXIS).sum(), (share * AXIS[:, None]).sum()
    dx, dy = AXIS[None, :] - x, AXIS[:, None] - y
    return x.item(), y.item(), [(share * d).sum().item() for d in (dx * dx, dx * dy, dy * dy)]


def test_no_beam_is_the_identity():
    smeared = smear(blob(-7, 4, 3.0), ellipse(0.0, 0.0, 0.0))
    assert smeared.shape == (1, 1, 64, 64)
    assert torch.allclose(smeared, blob(-7, 4, 3.0), atol=1e-4)


@pytest.mark.parametrize(("major", "minor", "axis_deg"), [(6.0, 6.0, 0.0), (9.0, 3.0, 0.0), (9.0, 4.0, 25.0), (8.0, 2.0, 110.0)])
def test_flux_is_conserved_and_covariances_add(major, minor, axis_deg):
    """0.5 % of the variance lies beyond the reach of 3.5 sigma."""
    smeared = smear(blob(-3, 4, 3.0), ellipse(major, minor, axis_deg))[0, 0]
    assert smeared.sum() == pytest.approx(blob(-3, 4, 3.0).sum().item(), rel=1e-6)
    x, y, (xx, xy, yy) = covariance(smeared)
    assert (x, y) == (pytest.approx(-3, abs=1e-6), pytest.approx(4, abs=1e-6))
    large, small, cos, sin = (major / PER_SIGMA) ** 2, (minor / PER_SIGMA) ** 2, *(f(math.radians(axis_deg)) for f in (math.cos, math.sin))
    assert xx == pytest.approx(9 + large * cos**2 + small * sin**2, rel=3e-3)
    assert yy == pytest.approx(9 + large * sin**2 + small * cos**2, rel=3e-3)
    assert xy == pytest.approx((large - small) * sin * cos, abs=0.02)


def test_round_kernel_is_the_separable_one():
    edges = torch.arange(16, dtype=torch.float64) - 7.5
    column = beam_matrix(fwhm(4.0), edges, torch.zeros(1, dtype=torch.float64))[0, 0]
    kernel = beam_kernel(Beam.round(fwhm(4.0)), 7)[0]
    assert torch.allclose(kernel, torch.outer(column, column), atol=1e-4)


def test_means_over_pixels_smear_to_the_same_map():
    """A narrow blob's means and its values at the centres differ by a tenth of the peak; smeared they agree to 0.1 %."""
    narrow = blob(0.3, -0.2, 1.0)
    fine = (torch.arange(640, dtype=torch.float64) + 0.5) / 10 - 32
    means = torch.exp(-((fine[None, :] - 0.3) ** 2 + (fine[:, None] + 0.2) ** 2) / 2).reshape(1, 64, 10, 64, 10).mean((2, 4))
    assert (means - narrow).abs().max() > 0.03
    beam = ellipse(4.0, 3.0, 40.0)
    reach = beam.reach()
    border = [reach] * 4
    smeared = smear_maps(torch.nn.functional.pad(means[None], border), beam, reach, cell_means=True)
    assert torch.allclose(smeared, smear(narrow, beam), atol=1e-3 * smeared.max().item())


def test_velocity_is_weighted_by_flux():
    """A bright patch at 100 km/s beside a faint one at 0: what is seen between them leans to the bright one."""
    bright, faint = blob(-4, 0, 2.0), 0.1 * blob(4, 0, 2.0)
    light, momentum = smear(torch.cat([bright + faint, 100 * bright], dim=1), ellipse(5.0, 5.0, 0.0))[0]
    expected = 100 * gaussian_filter(bright[0, 0].numpy(), 5 / 2.35482) / gaussian_filter((bright + faint)[0, 0].numpy(), 5 / 2.35482)
    assert (momentum / light)[32, 32].item() == pytest.approx(expected[32, 32], rel=5e-3)
    assert (momentum / light)[32, 32] > 80


def test_each_galaxy_has_its_own_beam_and_nan_stays_in_its_galaxy():
    three = blob(3, -5, 2.0).repeat(3, 1, 1, 1)
    three[2, 0, 5, 5] = math.nan
    beam = Beam(*(torch.tensor(v, dtype=torch.float64) for v in ([0.0, 8.0, 8.0], [0.0, 2.0, 2.0], [0.0, 90.0, 90.0])))
    smeared = smear(three, beam)
    assert torch.allclose(smeared[0], three[0], atol=1e-4)
    _, _, (xx, _, yy) = covariance(smeared[1, 0])
    assert yy > 2 * xx
    assert smeared[:2].isfinite().all() and smeared[2].isnan().all()


def test_derivatives_of_the_smeared_map_agree_with_finite_differences():
    maps = torch.rand((1, 2, 10, 10), dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    widths = [fwhm(v).requires_grad_() for v in (3.0, 2.0, 25.0)]

    def smeared(maps, *beam):
        return smear_maps(maps, Beam(*beam), 3)

    assert torch.autograd.gradcheck(smeared, (maps, *widths))


@pytest.mark.parametrize("width", [2.0, 6.0, 12.0])
def test_smeared_disc_gets_the_flux_from_outside_its_stamp(width):
    """Against the same disc on a stamp twice as wide, smeared whole: 1 % of the peak and of V_max to the very edge."""
    parameters = torch.tensor([[60.0, 0.7, 0.3, 1.0]], dtype=torch.float64)
    seen = project_disc(*parameters.unbind(-1), beam_fwhm=fwhm(width))
    wide = parameters.clone()
    wide[:, 1:3] /= 2
    large = project_disc(*wide.unbind(-1), size=128)
    reach = 32
    fluxes = torch.stack([large.intensity, large.intensity * large.velocity], dim=1)
    intensity, momentum = smear_maps(fluxes, Beam.round(fwhm(width)), reach).unbind(1)
    velocity = momentum / intensity
    assert torch.allclose(seen.intensity, intensity / intensity.max(), atol=0.01)
    assert torch.allclose(seen.velocity, velocity, atol=0.01)


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
