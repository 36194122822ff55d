"""Synthetic discs with everything that limits real stamps, and their labels for free: of all kinds, or like a survey's own.

Discs come from our own decoder at parameters drawn over the network's ranges, then get what real stamps have (`settings.Stream`): a
beam, other rotation curves, a bulge or a hole, a centre and a position angle that are a little off, brightness clumps, a field of
view, faint edges, gaps, noise that grows outwards, and a systemic velocity that is not quite removed. Discs like a survey's
(`stream_like`, a parametric bootstrap) take parameters near those found for its galaxies, and each galaxy's beam, mask and error maps.
What is *not* in either: warps, bars, radial flows, thick or pressure-supported gas.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tullyflow.conventions import FWHM_PER_SIGMA, STAMP
from tullyflow.disc.profiles import Radial, nearest_arctan, universal_velocity
from tullyflow.disc.projection import project_disc
from tullyflow.network.autoencoder import DiscAutoencoder, DiscParameters
from tullyflow.network.batch import Stamps
from tullyflow.network.drawing import (
    LIKE_PA_ERR,
    Draw,
    brightness_clumps,
    draw_near,
    draw_parameters,
    map_errors,
    native_noise,
    observe_maps,
    pixel_axes,
    reach_of,
    valid_pixels,
)

__all__ = ["SyntheticDiscs", "Templates", "draw_discs", "draw_like", "stream_discs", "stream_like"]

_HALF = STAMP / 2
_BULGE = (-0.5, 2.0)  # peak of the central light over the disc's, unsmeared; below 0 a hole
_BULGE_SIZE = (0.1, 0.4)  # its sigma, in scale lengths
_SHARPNESS = (0.8, 4.0)  # Courteau's gamma: about 1.3 for an exponential curve, 2.5 for a tanh
_OUTER = (-0.15, 0.3)  # his beta: curves that go on rising, and that fall


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


def _misplace(maps: Tensor, draw: Draw, pa_err_deg: float, centre_err: float) -> Tensor:
    """Turn and shift maps (galaxy, channel, y, x) by the errors of position angle and centre (pixels)."""
    if not pa_err_deg and not centre_err:
        return maps
    angle = torch.deg2rad(pa_err_deg * draw.normal())
    shift = draw.normal((2,)) * (centre_err / _HALF)
    cos, sin = angle.cos(), angle.sin()
    affine = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = torch.nn.functional.affine_grid(affine, list(maps.shape), align_corners=False)
    return torch.nn.functional.grid_sample(maps, grid, padding_mode="border", align_corners=False)


def _central_light(parameters: DiscParameters, beam: Tensor, share: float, draw: Draw) -> Tensor:
    """Return what a round bulge (or a hole) of so many discs adds to the smeared intensity, (galaxy, y, x), in units of its peak."""
    sigma = draw.uniform(*_BULGE_SIZE) * parameters.r_scale * _HALF
    smeared = sigma.square() + (beam / FWHM_PER_SIGMA).square()
    peak = draw.uniform(*_BULGE) * draw.chance(share) * sigma.square() / smeared
    x, y = pixel_axes(draw.device)
    return peak.view(-1, 1, 1) * torch.exp(-(x.square() + y.square()) / (2 * smeared.view(-1, 1, 1)))


def _curves(parameters: DiscParameters, draw: Draw) -> Radial:
    """Return a Courteau curve for each disc, with its turnover radius (in pixels), its asymptote 1."""
    r_turn = parameters.r_turn * _HALF
    return Radial(universal_velocity, (torch.ones_like(r_turn), r_turn, draw.log_uniform(*_SHARPNESS), draw.uniform(*_OUTER)))


def _true_maps(
    parameters: DiscParameters, beam: Tensor, pa_err_deg: float, model: DiscAutoencoder, draw: Draw
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
        curve = _curves(some, Draw(len(other), draw.generator, draw.device))
        disc = project_disc(*some.stack().unbind(-1), beam_fwhm=None if fwhm is None else fwhm[other], curve=curve, **fine)
        velocity = velocity.index_copy(0, other, disc.velocity)

        def labels(valid: Tensor) -> DiscParameters:
            low, high = (bound * _HALF for bound in network.ranges.r_turn)
            asymptote, r_turn = nearest_arctan(curve, reach_of(valid[other]), low, high)
            turn, v_max = parameters.r_turn.clone(), parameters.v_max_sini.clone()
            turn[other], v_max[other] = r_turn / _HALF, asymptote * some.v_max_sini
            return replace(parameters, r_turn=turn, v_max_sini=v_max)

    maps = _misplace(torch.stack([smooth.intensity, velocity], dim=1), draw, pa_err_deg, stream.centre_err)
    return maps[:, 0], maps[:, 1] + stream.v_sys_err * draw.normal().view(-1, 1, 1), labels


@torch.no_grad()
def draw_discs(n: int, model: DiscAutoencoder, generator: torch.Generator) -> SyntheticDiscs:
    """Draw ``n`` synthetic discs with their errors, masks and labels, on the model's device.

    ``generator`` is all the randomness: with one on the cpu a seed gives the same discs on every device, one on the device is faster.
    Every disc keeps at least the pixels within four of its centre.
    """
    draw, stream = Draw(n, generator, model.device), model.network.stream
    parameters = draw_parameters(model, draw)
    beam = draw.uniform(*stream.beam) * ~draw.chance(stream.no_beam)
    intensity, velocity, labels = _true_maps(parameters, beam, stream.pa_err, model, draw)
    intensity = (intensity + _central_light(parameters, beam, stream.central_light, draw)) * brightness_clumps(draw, stream.clumps)
    intensity = intensity / intensity.amax((1, 2), keepdim=True)
    intensity_err, velocity_err = map_errors(intensity.clamp(min=0), stream, draw)
    valid = valid_pixels(parameters, intensity, stream, draw)
    noise = draw.normal((STAMP, STAMP)), draw.normal((STAMP, STAMP))
    stamps = observe_maps((intensity, velocity), (intensity_err, velocity_err), noise, valid, beam, model)
    parameters = labels(valid)
    return SyntheticDiscs(stamps, model.outputs_of(parameters, stamps.norm), parameters)


def stream_discs(batch: int, model: DiscAutoencoder, generator: torch.Generator) -> Iterator[SyntheticDiscs]:
    """Yield batches of new discs without end."""
    while True:
        yield draw_discs(batch, model, generator)


@torch.no_grad()
def draw_like(templates: Templates, model: DiscAutoencoder, generator: torch.Generator) -> SyntheticDiscs:
    """Draw one disc like each of the templates: parameters near those found, its beam, mask and errors, noise drawn from them.

    ``generator`` is all the randomness. Masked pixels stay masked.
    """
    like = templates.stamps
    draw = Draw(len(like), generator, model.device)
    parameters = draw_near(templates.parameters, like.norm, model, draw)
    intensity, velocity, labels = _true_maps(parameters, like.beam, LIKE_PA_ERR, model, draw)
    intensity = intensity * torch.where(templates.clumpy.view(-1, 1, 1), brightness_clumps(draw, model.network.stream.clumps), 1)
    intensity = intensity / torch.where(like.valid, intensity, 0).amax((1, 2), keepdim=True).clamp(min=1e-9)
    noise = native_noise(templates.native_pixel, draw), native_noise(templates.native_pixel, draw)
    errors = like.intensity_err, like.velocity_err
    stamps = observe_maps((intensity, velocity), errors, noise, like.valid, like.beam, model)
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
