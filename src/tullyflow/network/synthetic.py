"""Synthetic discs with everything that limits real stamps, and their labels for free: of all kinds, or like a survey's own.

Discs come from our own decoder at parameters drawn over the network's ranges, then get what real stamps have (`settings.Stream`): a
beam, other rotation curves, a bulge or a hole, a centre and a position angle that are a little off, brightness clumps, a field of
view, faint edges, gaps, noise that grows outwards, and a systemic velocity that is not quite removed. Discs like a survey's
(`stream_like`, a parametric bootstrap) take parameters near those found for its galaxies, and each galaxy's beam, mask and error maps.
What is *not* in either: warps, bars, radial flows, thick or pressure-supported gas.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tullyflow.conventions import FWHM_PER_SIGMA, STAMP
from tullyflow.disc.profiles import Radial, nearest_arctan, universal_velocity
from tullyflow.disc.projection import project_disc
from tullyflow.network.autoencoder import DiscAutoencoder, DiscParameters
from tullyflow.network.batch import Stamps, norm_of
from tullyflow.settings import Stream

__all__ = ["SyntheticDiscs", "Templates", "draw_discs", "draw_like", "stream_discs", "stream_like"]

_HALF = STAMP / 2
_AT_THE_ENDS = 0.04  # share of the range added beyond it and cut: so many discs sit exactly at an end
_ERR_FLOOR = (0.2, 1.0)  # of the intensity's error at the peak, what is left of it where there is no light: 1 = the sky's noise alone
_ERR_SLOPE = (0.5, 1.0)  # the velocity's error grows as the intensity to minus this
_LARGEST_ERR = 60.0  # km/s: what real maps leave of it
_REACH = 0.4  # of the half-width: data reach at least so far along the major axis, since a stamp's width follows its data
_BULGE = (-0.5, 2.0)  # peak of the central light over the disc's, unsmeared; below 0 a hole
_BULGE_SIZE = (0.1, 0.4)  # its sigma, in scale lengths
_SHARPNESS = (0.8, 4.0)  # Courteau's gamma: about 1.3 for an exponential curve, 2.5 for a tanh
_OUTER = (-0.15, 0.3)  # his beta: curves that go on rising, and that fall
_LIKE_PA_ERR = 1.0  # deg, of discs like a survey's
_LIKE_INCLINATION = 4.0  # deg: how far they lie from the galaxy they are like
_LIKE_LN = (0.1, 0.3, 0.1)  # likewise, of ln r_scale, ln r_turn, ln V


@dataclass(frozen=True)
class SyntheticDiscs:
    """Stamps, their outputs to learn (galaxy, 4) in [-1, 1], and the true parameters; velocities in km/s."""

    stamps: Stamps
    labels: Tensor
    parameters: DiscParameters


@dataclass(frozen=True)
class Templates:
    """Galaxies to draw like discs from: their stamps and the parameters found for them (galaxy,).

    ``native_pixel`` (galaxy,) is the size of the survey's own pixel in stamp pixels: noise is independent from one to the next.
    ``clumpy`` (galaxy,) is false where the intensity stamp is the smooth disc the photometry describes.
    """

    stamps: Stamps
    parameters: DiscParameters
    native_pixel: Tensor
    clumpy: Tensor

    def __len__(self) -> int:
        return len(self.stamps)

    def select(self, index: Tensor) -> "Templates":
        """Return the galaxies of an index; one may come more than once."""
        parameters = DiscParameters(*self.parameters.stack()[index].unbind(-1))
        return Templates(self.stamps.select(index), parameters, self.native_pixel[index], self.clumpy[index])


class _Draw:
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


def _parameters(model: DiscAutoencoder, draw: _Draw) -> DiscParameters:
    """Draw parameters uniformly over the ranges as the network scales them: uniform in i, ends included."""
    outputs = draw.uniform(-1 - _AT_THE_ENDS, 1 + _AT_THE_ENDS, (4,))
    drawn = model.parameters_of(outputs, torch.ones(draw.n, device=draw.device))
    if model.network.velocity_norm != "percentile":
        return drawn
    return DiscParameters(drawn.inclination_deg, drawn.r_scale, drawn.r_turn, draw.log_uniform(*model.network.stream.v_max_sini))


def _misplace(maps: Tensor, draw: _Draw, pa_err_deg: float, centre_err: float) -> Tensor:
    """Turn and shift maps (galaxy, channel, y, x) by the errors of position angle and centre (pixels)."""
    if not pa_err_deg and not centre_err:
        return maps
    angle = torch.deg2rad(pa_err_deg * draw.normal())
    shift = draw.normal((2,)) * (centre_err / _HALF)
    cos, sin = angle.cos(), angle.sin()
    affine = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = torch.nn.functional.affine_grid(affine, list(maps.shape), align_corners=False)
    return torch.nn.functional.grid_sample(maps, grid, padding_mode="border", align_corners=False)


def _clumps(draw: _Draw, rms: float) -> Tensor:
    """Return brightness factors (galaxy, y, x), smooth over a few pixels; half of the discs have none."""
    coarse = draw.normal((1, STAMP // 4, STAMP // 4))
    field = torch.nn.functional.interpolate(coarse, size=(STAMP, STAMP), mode="bilinear", align_corners=False).squeeze(1)
    return (draw.uniform(-rms, rms).clamp(min=0).view(-1, 1, 1) * field).exp()


def _central_light(parameters: DiscParameters, beam: Tensor, share: float, draw: _Draw) -> Tensor:
    """Return what a round bulge (or a hole) of so many discs adds to the smeared intensity, (galaxy, y, x), in units of its peak."""
    sigma = draw.uniform(*_BULGE_SIZE) * parameters.r_scale * _HALF
    smeared = sigma.square() + (beam / FWHM_PER_SIGMA).square()
    peak = draw.uniform(*_BULGE) * draw.chance(share) * sigma.square() / smeared
    x, y = _axes(draw.device)
    return peak.view(-1, 1, 1) * torch.exp(-(x.square() + y.square()) / (2 * smeared.view(-1, 1, 1)))


def _axes(device: torch.device) -> tuple[Tensor, Tensor]:
    axis = torch.arange(STAMP, device=device) - (STAMP - 1) / 2
    return axis.view(1, 1, -1), axis.view(1, -1, 1)


def _field_of_view(draw: _Draw, x: Tensor, y: Tensor) -> Tensor:
    """Return the pixels inside a circle or a hexagon of any orientation that fills 55-100 % of the half-width."""
    reach = draw.uniform(0.55, 1.0).view(-1, 1, 1) * _HALF
    turn = draw.uniform(0, math.pi / 3).view(-1, 1, 1)
    radius, angle = torch.hypot(x, y), torch.atan2(y, x)
    sector = torch.remainder(angle - turn, math.pi / 3) - math.pi / 6
    hexagon = radius * sector.cos() <= reach * math.cos(math.pi / 6)
    whole = draw.chance(0.2).view(-1, 1, 1)
    circle = draw.chance(0.5).view(-1, 1, 1)
    return whole | torch.where(circle, radius <= reach, hexagon)


def _gaps(draw: _Draw, x: Tensor, y: Tensor, holes: int = 3) -> Tensor:
    """Return the pixels lost in up to three round holes and, in half of the discs, up to 15 % at random."""
    lost = torch.zeros((draw.n, STAMP, STAMP), dtype=torch.bool, device=draw.device)
    for _ in range(holes):
        centre = draw.uniform(-0.9 * _HALF, 0.9 * _HALF, (2,))
        radius = draw.uniform(-6, 6).clamp(min=0).view(-1, 1, 1)
        lost |= (x - centre[:, 0].view(-1, 1, 1)).square() + (y - centre[:, 1].view(-1, 1, 1)).square() < radius.square()
    return lost | (draw.uniform(shape=(STAMP, STAMP)) < draw.uniform(-0.15, 0.15).view(-1, 1, 1))


def _curves(parameters: DiscParameters, draw: _Draw) -> Radial:
    """Return a Courteau curve for each disc, with its turnover radius (in pixels), its asymptote 1."""
    r_turn = parameters.r_turn * _HALF
    return Radial(universal_velocity, (torch.ones_like(r_turn), r_turn, draw.log_uniform(*_SHARPNESS), draw.uniform(*_OUTER)))


def _reach(valid: Tensor) -> Tensor:
    """Return how far (pixels) the valid pixels reach along the major axis, (galaxy,)."""
    x, y = _axes(valid.device)
    return torch.where(valid & (y.abs() < 4), x.abs(), 0).amax((1, 2)).clamp(min=4)


def _true_maps(
    parameters: DiscParameters, beam: Tensor, pa_err_deg: float, model: DiscAutoencoder, draw: _Draw
) -> tuple[Tensor, Tensor, Callable[[Tensor], DiscParameters]]:
    """Return misplaced maps (galaxy, y, x) without noise, smooth intensity and velocity, and what gives their labels.

    The labels of discs whose curve is no arctan are those of the nearest one as far as the valid pixels reach.
    """
    network = model.network
    stream, fwhm = network.stream, beam if network.beam else None
    fine = {"nodes": network.quadrature_nodes, "central_cells": network.central_cells}
    smooth = project_disc(*parameters.stack().unbind(-1), beam_fwhm=fwhm, **fine)
    velocity, labels = smooth.velocity, lambda valid: parameters
    other = draw.chance(stream.other_curves).nonzero().squeeze(1)
    if len(other):
        some = DiscParameters(*parameters.stack()[other].unbind(-1))
        curve = _curves(some, _Draw(len(other), draw.generator, draw.device))
        disc = project_disc(*some.stack().unbind(-1), beam_fwhm=None if fwhm is None else fwhm[other], curve=curve, **fine)
        velocity = velocity.index_copy(0, other, disc.velocity)

        def labels(valid: Tensor) -> DiscParameters:
            low, high = (bound * _HALF for bound in network.ranges.r_turn)
            asymptote, r_turn = nearest_arctan(curve, _reach(valid[other]), low, high)
            turn, v_max = parameters.r_turn.clone(), parameters.v_max_sini.clone()
            turn[other], v_max[other] = r_turn / _HALF, asymptote * some.v_max_sini
            return replace(parameters, r_turn=turn, v_max_sini=v_max)

    maps = _misplace(torch.stack([smooth.intensity, velocity], dim=1), draw, pa_err_deg, stream.centre_err)
    return maps[:, 0], maps[:, 1] + stream.v_sys_err * draw.normal().view(-1, 1, 1), labels


def _observe(
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


@torch.no_grad()
def draw_discs(n: int, model: DiscAutoencoder, generator: torch.Generator) -> SyntheticDiscs:
    """Draw ``n`` synthetic discs with their errors, masks and labels, on the model's device.

    ``generator`` is all the randomness: with one on the cpu a seed gives the same discs on every device, one on the device is faster.
    Every disc keeps at least the pixels within four of its centre.
    """
    draw, stream = _Draw(n, generator, model.device), model.network.stream
    parameters = _parameters(model, draw)
    beam = draw.uniform(*stream.beam) * ~draw.chance(stream.no_beam)
    intensity, velocity, labels = _true_maps(parameters, beam, stream.pa_err, model, draw)
    intensity = (intensity + _central_light(parameters, beam, stream.central_light, draw)) * _clumps(draw, stream.clumps)
    intensity = intensity / intensity.amax((1, 2), keepdim=True)
    light = intensity.clamp(min=0)
    floor, slope = draw.uniform(*_ERR_FLOOR).view(-1, 1, 1), draw.uniform(*_ERR_SLOPE).view(-1, 1, 1)
    intensity_err = (floor + (1 - floor) * light.sqrt()) / draw.log_uniform(*stream.snr).view(-1, 1, 1)
    velocity_err = (draw.log_uniform(*stream.velocity_err).view(-1, 1, 1) * light.clamp(min=1e-3) ** -slope).clamp(max=_LARGEST_ERR)
    valid = _valid(parameters, intensity, stream, draw)
    noise = draw.normal((STAMP, STAMP)), draw.normal((STAMP, STAMP))
    stamps = _observe((intensity, velocity), (intensity_err, velocity_err), noise, valid, beam, model)
    parameters = labels(valid)
    return SyntheticDiscs(stamps, model.outputs_of(parameters, stamps.norm), parameters)


def _valid(parameters: DiscParameters, intensity: Tensor, stream: Stream, draw: _Draw) -> Tensor:
    x, y = _axes(draw.device)
    valid = torch.ones_like(intensity, dtype=torch.bool)
    if stream.faintest:
        valid = intensity > torch.minimum(draw.log_uniform(*stream.faintest), torch.exp(-_REACH / parameters.r_scale)).view(-1, 1, 1)
    if stream.gaps:
        valid = valid & _field_of_view(draw, x, y) & ~_gaps(draw, x, y)
    return valid | (torch.hypot(x, y) < 4)


def stream_discs(batch: int, model: DiscAutoencoder, generator: torch.Generator) -> Iterator[SyntheticDiscs]:
    """Yield batches of new discs without end."""
    while True:
        yield draw_discs(batch, model, generator)


def _near(found: DiscParameters, norm: Tensor, model: DiscAutoencoder, draw: _Draw) -> DiscParameters:
    """Return parameters near those found, within the network's ranges; the inclination is reflected at its ends."""
    low, high = model.low[0].item(), model.high[0].item()
    tilted = found.inclination_deg + _LIKE_INCLINATION * draw.normal()
    inclination = high - (high - (low + (tilted - low).abs())).abs()
    others = found.stack()[:, 1:] * (draw.normal((3,)) * found.r_scale.new_tensor(_LIKE_LN)).exp()
    near = DiscParameters(inclination, *others.unbind(-1))
    return model.parameters_of(model.outputs_of(near, norm), norm)


def _native_noise(native_pixel: Tensor, draw: _Draw) -> Tensor:
    """Return noise (galaxy, y, x) of unit variance in the survey's own pixels, resampled bilinearly to the stamp as the data are."""
    affine = torch.zeros((draw.n, 2, 3), device=draw.device)
    affine[:, 0, 0] = affine[:, 1, 1] = 1 / native_pixel.clamp(min=1)
    white = draw.normal((1, STAMP, STAMP))
    grid = torch.nn.functional.affine_grid(affine, list(white.shape), align_corners=False)
    return torch.nn.functional.grid_sample(white, grid, padding_mode="border", align_corners=False).squeeze(1)


@torch.no_grad()
def draw_like(templates: Templates, model: DiscAutoencoder, generator: torch.Generator) -> SyntheticDiscs:
    """Draw one disc like each of the templates: parameters near those found, its beam, mask and errors, noise drawn from them.

    ``generator`` is all the randomness. Masked pixels stay masked.
    """
    like = templates.stamps
    draw = _Draw(len(like), generator, model.device)
    parameters = _near(templates.parameters, like.norm, model, draw)
    intensity, velocity, labels = _true_maps(parameters, like.beam, _LIKE_PA_ERR, model, draw)
    intensity = intensity * torch.where(templates.clumpy.view(-1, 1, 1), _clumps(draw, model.network.stream.clumps), 1)
    intensity = intensity / torch.where(like.valid, intensity, 0).amax((1, 2), keepdim=True).clamp(min=1e-9)
    noise = _native_noise(templates.native_pixel, draw), _native_noise(templates.native_pixel, draw)
    errors = like.intensity_err, like.velocity_err
    stamps = _observe((intensity, velocity), errors, noise, like.valid, like.beam, model)
    parameters = labels(like.valid)
    return SyntheticDiscs(stamps, model.outputs_of(parameters, stamps.norm), parameters)


def stream_like(templates: Templates, batch: int, model: DiscAutoencoder, generator: torch.Generator) -> Iterator[SyntheticDiscs]:
    """Yield batches of discs like the templates without end: every galaxy in turn, in a new order each round."""
    waiting = torch.empty(0, dtype=torch.long, device=generator.device)
    while True:
        while len(waiting) < batch:
            waiting = torch.cat([waiting, torch.randperm(len(templates), generator=generator, device=generator.device)])
        index, waiting = waiting[:batch], waiting[batch:]
        yield draw_like(templates.select(index.to(model.device)), model, generator)
