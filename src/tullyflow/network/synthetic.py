"""An endless stream of synthetic discs with everything that limits real stamps, and their labels for free.

Discs come from our own decoder at parameters drawn over the network's ranges, then get what real stamps have: a beam, a centre and a
position angle that are a little off, brightness clumps, a field of view, faint edges, gaps, noise that grows outwards, and a systemic
velocity that is not quite removed. What is *not* in it: warps, bars, bulges, radial flows, thick or pressure-supported gas.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tullyflow.conventions import STAMP
from tullyflow.disc.projection import project_disc
from tullyflow.network.autoencoder import DiscAutoencoder, DiscParameters
from tullyflow.network.batch import Stamps, percentile_norm

__all__ = ["SyntheticDiscs", "draw_discs", "stream_discs"]

_HALF = STAMP / 2
_AT_THE_ENDS = 0.04  # share of the range added beyond it and cut: so many discs sit exactly at an end
_BEAM_MAX = 18.0  # stamp pixels: MaNGA's 2.5 arcsec on the half-width of its smallest bundles, and some more
_NO_BEAM = 0.1  # share of discs without a beam
_PA_ERR = 2.0  # deg
_CENTRE_ERR = 0.5  # stamp pixels
_SYSTEMIC_ERR = 2.0  # km/s
_V_SINI = (15.0, 400.0)  # km/s, where the norm is each map's own
_NOISE_V = (0.3, 8.0)  # km/s at the peak
_NOISE_I = (0.002, 0.03)  # of the peak
_REACH = 0.4  # of the half-width: data reach at least so far along the major axis, since a stamp's width follows its data
_CLUMPS = 0.35  # largest rms of ln intensity


@dataclass(frozen=True)
class SyntheticDiscs:
    """Stamps, their outputs to learn (galaxy, 4) in [-1, 1], and the true parameters; velocities in km/s."""

    stamps: Stamps
    labels: Tensor
    parameters: DiscParameters


class _Draw:
    """Random numbers of one generator, moved to the device where they are used."""

    def __init__(self, n: int, generator: torch.Generator, device: torch.device):
        self.n, self.generator, self.device = n, generator, device

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()) -> Tensor:
        return (low + (high - low) * torch.rand((self.n, *shape), generator=self.generator)).to(self.device)

    def log_uniform(self, low: float, high: float) -> Tensor:
        return self.uniform(math.log(low), math.log(high)).exp()

    def normal(self, shape: tuple[int, ...] = ()) -> Tensor:
        return torch.randn((self.n, *shape), generator=self.generator).to(self.device)


def _parameters(model: DiscAutoencoder, draw: _Draw) -> DiscParameters:
    """Draw parameters uniformly over the ranges as the network scales them: uniform in i, ends included."""
    outputs = draw.uniform(-1 - _AT_THE_ENDS, 1 + _AT_THE_ENDS, (4,))
    drawn = model.parameters_of(outputs, torch.ones(draw.n, device=draw.device))
    if model.network.velocity_norm != "percentile":
        return drawn
    return DiscParameters(drawn.inclination_deg, drawn.r_scale, drawn.r_turn, draw.log_uniform(*_V_SINI))


def _misplace(maps: Tensor, draw: _Draw) -> Tensor:
    """Turn and shift maps (galaxy, channel, y, x) by the errors of position angle and centre."""
    angle = torch.deg2rad(_PA_ERR * draw.normal())
    shift = draw.normal((2,)) * (_CENTRE_ERR / _HALF)
    cos, sin = angle.cos(), angle.sin()
    affine = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = torch.nn.functional.affine_grid(affine, list(maps.shape), align_corners=False)
    return torch.nn.functional.grid_sample(maps, grid, padding_mode="border", align_corners=False)


def _clumps(draw: _Draw) -> Tensor:
    """Return brightness factors (galaxy, y, x), smooth over a few pixels; half of the discs have none."""
    coarse = draw.normal((1, STAMP // 4, STAMP // 4))
    field = torch.nn.functional.interpolate(coarse, size=(STAMP, STAMP), mode="bilinear", align_corners=False).squeeze(1)
    rms = draw.uniform(-_CLUMPS, _CLUMPS).clamp(min=0)
    return (rms.view(-1, 1, 1) * field).exp()


def _field_of_view(draw: _Draw, x: Tensor, y: Tensor) -> Tensor:
    """Return the pixels inside a circle or a hexagon of any orientation that fills 55-100 % of the half-width."""
    reach = draw.uniform(0.55, 1.0).view(-1, 1, 1) * _HALF
    turn = draw.uniform(0, math.pi / 3).view(-1, 1, 1)
    radius, angle = torch.hypot(x, y), torch.atan2(y, x)
    sector = torch.remainder(angle - turn, math.pi / 3) - math.pi / 6
    hexagon = radius * sector.cos() <= reach * math.cos(math.pi / 6)
    whole = (draw.uniform() < 0.2).view(-1, 1, 1)
    circle = (draw.uniform() < 0.5).view(-1, 1, 1)
    return whole | torch.where(circle, radius <= reach, hexagon)


def _gaps(draw: _Draw, x: Tensor, y: Tensor, holes: int = 3) -> Tensor:
    """Return the pixels lost in up to three round holes and, in half of the discs, up to 15 % at random."""
    lost = torch.zeros((draw.n, STAMP, STAMP), dtype=torch.bool, device=draw.device)
    for _ in range(holes):
        centre = draw.uniform(-0.9 * _HALF, 0.9 * _HALF, (2,))
        radius = draw.uniform(-6, 6).clamp(min=0).view(-1, 1, 1)
        lost |= (x - centre[:, 0].view(-1, 1, 1)).square() + (y - centre[:, 1].view(-1, 1, 1)).square() < radius.square()
    return lost | (draw.uniform(shape=(STAMP, STAMP)) < draw.uniform(-0.15, 0.15).view(-1, 1, 1))


@torch.no_grad()
def draw_discs(n: int, model: DiscAutoencoder, generator: torch.Generator) -> SyntheticDiscs:
    """Draw ``n`` synthetic discs with their errors, masks and labels, on the model's device.

    ``generator`` (on the cpu) is all the randomness, so a seed gives the same discs on every device. Every disc keeps at least the
    pixels within four of its centre.
    """
    draw = _Draw(n, generator, model.device)
    parameters = _parameters(model, draw)
    beam = draw.uniform(0, _BEAM_MAX) * (draw.uniform() > _NO_BEAM)
    disc = project_disc(*parameters.stack().unbind(-1), nodes=4, beam_fwhm=beam if model.network.beam else None)
    clean = _misplace(torch.stack([disc.intensity, disc.velocity], dim=1), draw)
    intensity, velocity = clean[:, 0] * _clumps(draw), clean[:, 1] + _SYSTEMIC_ERR * draw.normal().view(-1, 1, 1)
    axis = torch.arange(STAMP, device=draw.device) - (STAMP - 1) / 2
    x, y = axis.view(1, 1, -1), axis.view(1, -1, 1)
    peak = intensity.amax((1, 2), keepdim=True)
    intensity = intensity / peak
    intensity_err = draw.log_uniform(*_NOISE_I).view(-1, 1, 1) * (0.3 + 0.7 * intensity.clamp(min=0).sqrt())
    velocity_err = draw.log_uniform(*_NOISE_V).view(-1, 1, 1) * intensity.clamp(min=1e-3).rsqrt().clamp(max=8)
    faintest = torch.minimum(draw.log_uniform(1e-3, 0.2), torch.exp(-_REACH / parameters.r_scale)).view(-1, 1, 1)
    valid = (intensity > faintest) & _field_of_view(draw, x, y) & ~_gaps(draw, x, y)
    valid = valid | (torch.hypot(x, y) < 4)
    intensity = torch.where(valid, intensity + intensity_err * draw.normal((STAMP, STAMP)), 0)
    velocity = torch.where(valid, velocity + velocity_err * draw.normal((STAMP, STAMP)), 0)
    peak = intensity.amax((1, 2), keepdim=True)
    setting = model.network.velocity_norm
    norm = percentile_norm(velocity, valid) if setting == "percentile" else torch.full_like(beam, float(setting))
    stamps = Stamps(intensity / peak, intensity_err / peak, velocity, velocity_err, valid, beam, norm)
    return SyntheticDiscs(stamps, model.outputs_of(parameters, norm), parameters)


def stream_discs(batch: int, model: DiscAutoencoder, generator: torch.Generator) -> Iterator[SyntheticDiscs]:
    """Yield batches of new discs without end."""
    while True:
        yield draw_discs(batch, model, generator)
