"""What all synthetic discs share: how numbers are drawn, and what a survey does to a map that is known.

Parameters over the network's ranges or near those of a galaxy, fields of view, gaps, clumps, errors and noise.
"""

import math

import torch
from torch import Tensor

from tullyflow.conventions import STAMP
from tullyflow.network.autoencoder import DiscAutoencoder, DiscParameters
from tullyflow.network.batch import Stamps, norm_of
from tullyflow.settings import Stream

__all__ = [
    "LIKE_PA_ERR", "Draw", "brightness_clumps", "draw_near", "draw_parameters", "map_errors", "native_noise", "observe_maps",
    "pixel_axes", "reach_of", "valid_pixels",
]  # fmt: skip

_HALF = STAMP / 2
_AT_THE_ENDS = 0.04  # share of the range added beyond it and cut: so many discs sit exactly at an end
_ERR_FLOOR = (0.2, 1.0)  # of the intensity's error at the peak, what is left of it where there is no light: 1 = the sky's noise alone
_ERR_SLOPE = (0.5, 1.0)  # the velocity's error grows as the intensity to minus this
_LARGEST_ERR = 60.0  # km/s: what real maps leave of it
_REACH = 0.4  # of the half-width: data reach at least so far along the major axis, since a stamp's width follows its data
LIKE_PA_ERR = 1.0  # deg, of discs like a survey's
_LIKE_INCLINATION = 4.0  # deg: how far they lie from the galaxy they are like
_LIKE_LN = (0.1, 0.3, 0.1)  # likewise, of ln r_scale, ln r_turn, ln V


class Draw:
    """Random numbers of one generator, drawn where it lives and moved to the device where they are used."""

    def __init__(self, n: int, generator: torch.Generator, device: torch.device):
        self.n, self.generator, self.device = n, generator, device

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()) -> Tensor:
        return (low + (high - low) * torch.rand((self.n, *shape), generator=self.generator, device=self.generator.device)).to(self.device)

    def log_uniform(self, low: float, high: float) -> Tensor:
        return self.uniform(math.log(low), math.log(high)).exp()

    def chance(self, share: float) -> Tensor:
        return self.uniform() < share

    def normal(self, shape: tuple[int, ...] = ()) -> Tensor:
        return torch.randn((self.n, *shape), generator=self.generator, device=self.generator.device).to(self.device)


def draw_parameters(model: DiscAutoencoder, draw: Draw) -> DiscParameters:
    """Draw parameters uniformly over the ranges as the network scales them: uniform in i, ends included."""
    outputs = draw.uniform(-1 - _AT_THE_ENDS, 1 + _AT_THE_ENDS, (4,))
    drawn = model.parameters_of(outputs, torch.ones(draw.n, device=draw.device))
    if model.network.velocity_norm != "percentile":
        return drawn
    return DiscParameters(drawn.inclination_deg, drawn.r_scale, drawn.r_turn, draw.log_uniform(*model.network.stream.v_max_sini))


def draw_near(found: DiscParameters, norm: Tensor, model: DiscAutoencoder, draw: Draw) -> DiscParameters:
    """Return parameters near those found, within the network's ranges; the inclination is reflected at its ends."""
    low, high = model.low[0].item(), model.high[0].item()
    tilted = found.inclination_deg + _LIKE_INCLINATION * draw.normal()
    inclination = high - (high - (low + (tilted - low).abs())).abs()
    others = found.stack()[:, 1:] * (draw.normal((3,)) * found.r_scale.new_tensor(_LIKE_LN)).exp()
    near = DiscParameters(inclination, *others.unbind(-1))
    return model.parameters_of(model.outputs_of(near, norm), norm)


def brightness_clumps(draw: Draw, rms: float) -> Tensor:
    """Return brightness factors (galaxy, y, x), smooth over a few pixels; half of the discs have none."""
    coarse = draw.normal((1, STAMP // 4, STAMP // 4))
    field = torch.nn.functional.interpolate(coarse, size=(STAMP, STAMP), mode="bilinear", align_corners=False).squeeze(1)
    return (draw.uniform(-rms, rms).clamp(min=0).view(-1, 1, 1) * field).exp()


def pixel_axes(device: torch.device) -> tuple[Tensor, Tensor]:
    axis = torch.arange(STAMP, device=device) - (STAMP - 1) / 2
    return axis.view(1, 1, -1), axis.view(1, -1, 1)


def _field_of_view(draw: Draw, x: Tensor, y: Tensor) -> Tensor:
    """Return the pixels inside a circle or a hexagon of any orientation that fills 55-100 % of the half-width."""
    reach = draw.uniform(0.55, 1.0).view(-1, 1, 1) * _HALF
    turn = draw.uniform(0, math.pi / 3).view(-1, 1, 1)
    radius, angle = torch.hypot(x, y), torch.atan2(y, x)
    sector = torch.remainder(angle - turn, math.pi / 3) - math.pi / 6
    hexagon = radius * sector.cos() <= reach * math.cos(math.pi / 6)
    whole = draw.chance(0.2).view(-1, 1, 1)
    circle = draw.chance(0.5).view(-1, 1, 1)
    return whole | torch.where(circle, radius <= reach, hexagon)


def _gaps(draw: Draw, x: Tensor, y: Tensor, holes: int = 3) -> Tensor:
    """Return the pixels lost in up to three round holes and, in half of the discs, up to 15 % at random."""
    lost = torch.zeros((draw.n, STAMP, STAMP), dtype=torch.bool, device=draw.device)
    for _ in range(holes):
        centre = draw.uniform(-0.9 * _HALF, 0.9 * _HALF, (2,))
        radius = draw.uniform(-6, 6).clamp(min=0).view(-1, 1, 1)
        lost |= (x - centre[:, 0].view(-1, 1, 1)).square() + (y - centre[:, 1].view(-1, 1, 1)).square() < radius.square()
    return lost | (draw.uniform(shape=(STAMP, STAMP)) < draw.uniform(-0.15, 0.15).view(-1, 1, 1))


def valid_pixels(parameters: DiscParameters, intensity: Tensor, stream: Stream, draw: Draw) -> Tensor:
    x, y = pixel_axes(draw.device)
    valid = torch.ones_like(intensity, dtype=torch.bool)
    if stream.faintest:
        valid = intensity > torch.minimum(draw.log_uniform(*stream.faintest), torch.exp(-_REACH / parameters.r_scale)).view(-1, 1, 1)
    if stream.gaps:
        valid = valid & _field_of_view(draw, x, y) & ~_gaps(draw, x, y)
    return valid | (torch.hypot(x, y) < 4)


def map_errors(light: Tensor, stream: Stream, draw: Draw) -> tuple[Tensor, Tensor]:
    """Return the errors (galaxy, y, x) of intensity and velocity where the intensity, its peak at 1, is ``light``."""
    floor, slope = draw.uniform(*_ERR_FLOOR).view(-1, 1, 1), draw.uniform(*_ERR_SLOPE).view(-1, 1, 1)
    intensity_err = (floor + (1 - floor) * light.sqrt()) / draw.log_uniform(*stream.snr).view(-1, 1, 1)
    velocity_err = (draw.log_uniform(*stream.velocity_err).view(-1, 1, 1) * light.clamp(min=1e-3) ** -slope).clamp(max=_LARGEST_ERR)
    return intensity_err, velocity_err


def native_noise(native_pixel: Tensor, draw: Draw) -> Tensor:
    """Return noise (galaxy, y, x) of unit variance in the survey's own pixels, resampled bilinearly to the stamp as the data are."""
    affine = torch.zeros((draw.n, 2, 3), device=draw.device)
    affine[:, 0, 0] = affine[:, 1, 1] = 1 / native_pixel.clamp(min=1)
    white = draw.normal((1, STAMP, STAMP))
    grid = torch.nn.functional.affine_grid(affine, list(white.shape), align_corners=False)
    return torch.nn.functional.grid_sample(white, grid, padding_mode="border", align_corners=False).squeeze(1)


def reach_of(valid: Tensor) -> Tensor:
    """Return how far (pixels) the valid pixels reach along the major axis, (galaxy,)."""
    x, y = pixel_axes(valid.device)
    return torch.where(valid & (y.abs() < 4), x.abs(), 0).amax((1, 2)).clamp(min=4)


def observe_maps(
    maps: tuple[Tensor, Tensor],
    errors: tuple[Tensor, Tensor],
    noise: tuple[Tensor, Tensor],
    valid: Tensor,
    beam: Tensor,
    model: DiscAutoencoder,
) -> Stamps:
    """Add ``noise`` (in units of ``errors``) to intensity and velocity, mask, and normalise as real stamps are."""
    intensity, velocity = (torch.where(valid, m + e * n, 0) for m, e, n in zip(maps, errors, noise, strict=True))
    peak = intensity.amax((1, 2), keepdim=True)
    norm = norm_of(velocity, valid, model.network.velocity_norm)
    return Stamps(intensity / peak, errors[0] / peak, velocity, errors[1], valid, beam, norm)
