"""Synthetic discs that are deliberately not the model, and everything that is true of them: what errors are calibrated on.

As the network's stream (`network.synthetic`) these discs have its ranges, beams, fields, gaps and errors, or those of a survey's
galaxies. Beyond it, each with a share of the discs:

- curve: arctan, tanh or Courteau's, rising or falling outside.
- bar: bisymmetric streaming (`disc.disturbed`) of 5-20 % of V_2.2 that ends with the bar, and the bar's light. Flows of more than
  15 km/s are found in 12 of 37 discs (Holmes+2015), nearly all of them barred; amplitudes are theirs and Spekkens & Sellwood's (2007).
  Every other disc has an oval of up to 5 %: 4.5 % of V is the mean of all harmonics in THINGS (Trachternach+2008).
- warp: beyond 2-4 scale lengths, axis 6 deg and inclination 3 deg (1 sigma) per scale length. Discs are flat inside the optical
  radius, 3 to 4 scale lengths (Briggs 1990).
- lopsided: the sides differ by up to 5 % of V each way (van Eymeren+2011), and radial: a flow of up to 5 % of V.
- streams: a random field of motions, smooth over 0.5-1.5 scale lengths, of 2.5-10 % of V_2.2 (rms before the beam). With it the
  residuals of discs like 221 regular MaNGA fields, averaged over 7 pixels, are 3.1 % of V sin i (median);
  those of the fields are 3.7 %, and without streams 1.8 %.
- bulge, hole, break, spiral, clumps: of the light, which weighs the velocities.
- thick: a scale height of 0.05-0.25 scale lengths, not a pixel.
- beam: another than the one stated, by 10 %.
- errors: stated errors wrong by a factor of 0.7-1.5; correlated: noise correlated over native pixels and part of the beam.

The truth is that of the main disc: its inclination inside the warp, its scale length without break and bulge, its axis, centre and
v_sys, V(R) without streaming. Where the curve is no arctan, r_turn and V_max are those of the nearest one over the reach of the data.
"""

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from tullyflow.conventions import HALF_WIDTH, SCALE_LENGTHS_OF_V_22, STAMP
from tullyflow.disc.beam import beam_matrix
from tullyflow.disc.disturbed import Disturbance, disturbed_disc
from tullyflow.disc.profiles import (
    Radial,
    broken_exponential_intensity,
    nearest_arctan,
    rotation_velocity,
    tanh_velocity,
    universal_velocity,
)
from tullyflow.network.autoencoder import DiscAutoencoder, DiscParameters
from tullyflow.network.batch import Stamps
from tullyflow.network.drawing import (
    LIKE_PA_ERR,
    Draw,
    draw_near,
    draw_parameters,
    map_errors,
    native_noise,
    observe_maps,
    reach_of,
    valid_pixels,
)
from tullyflow.network.synthetic import Templates

__all__ = ["CURVE_RADII", "KINDS", "MismatchedDiscs", "draw_mismatched"]

CURVE_RADII = (0.5, 1.0, 1.5, SCALE_LENGTHS_OF_V_22, 3.0, 4.0)  # scale lengths
KINDS = {  # the share of the discs that has it
    "curve": 0.7, "bar": 0.3, "warp": 0.3, "lopsided": 0.3, "radial": 0.2, "streams": 0.9, "bulge": 0.3, "hole": 0.1, "break": 0.3,
    "spiral": 0.4, "clumps": 0.5, "thick": 0.3, "beam": 0.3, "errors": 0.5, "correlated": 0.5,
}  # fmt: skip
_AT_A_TIME = 16
_SHARPNESS, _OUTER = (0.8, 4.0), (-0.2, 0.2)  # Courteau's gamma and beta
_BAR, _OVAL = (0.05, 0.2), (0.0, 0.05)  # V_2t over V_2.2; V_2r is 0.5-1.3 of it
_BAR_RADIUS = (0.25, 0.8)  # scale lengths: the flow's largest amplitude; it is 45 % there at twice the radius, the bar's end (Erwin 2005)
_WARP_RADIUS, _WARP_AXIS, _WARP_INCLINATION = (2.0, 4.0), 6.0, 3.0  # scale lengths; deg per scale length, 1 sigma
_LOPSIDED, _RADIAL = 0.05, 0.05
_STREAMS, _STREAM_SIZE = (0.025, 0.1), (0.5, 1.5)  # of V_2.2, rms before the beam; scale lengths between independent motions
_THICKNESS, _THINNEST = (0.05, 0.25), 0.3  # scale lengths; pixels
_KNOTS = 16  # of the random field, along a side
_FARTHEST = 12.0  # scale lengths: where structure of the light ends
_BEAM_ERR, _ERRORS = 0.1, (0.7, 1.5)
_NATIVE_PIXEL = (1.0, 3.0)  # stamp pixels
_OF_BEAM = (0.2, 0.8)  # the width over which noise is correlated, in beams


@dataclass(frozen=True)
class MismatchedDiscs:
    """Stamps and what is true of them, (galaxy, ...).

    ``parameters`` those of the nearest model (module docstring), r_scale and r_turn in half-widths, velocities in km/s; ``placing`` (4):
    axis (deg, counter-clockwise from +x), centre x and y (stamp pixels from the middle), v_sys (km/s), as `disc.fit` finds them;
    ``v_22_sini`` true V(2.2 r_scale) sin i, ``curve_sini`` (galaxy, radius) at `CURVE_RADII`; ``kinds`` (galaxy, kind) which of `KINDS`
    each has; ``streaming`` the largest V_2t over V_2.2.
    """

    stamps: Stamps
    parameters: DiscParameters
    placing: Tensor
    v_22_sini: Tensor
    curve_sini: Tensor
    kinds: Tensor
    streaming: Tensor

    def __len__(self) -> int:
        return len(self.stamps)

    @classmethod
    def joined(cls, parts: "list[MismatchedDiscs]") -> "MismatchedDiscs":
        """Return the discs of all parts, in order."""
        parameters = torch.cat([part.parameters.stack() for part in parts])
        others = {f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)[2:]}
        return cls(Stamps.joined([part.stamps for part in parts]), DiscParameters(*parameters.unbind(-1)), **others)


def _any_curve(radius: Tensor, v_max: Tensor, r_turn: Tensor, which: Tensor, sharpness: Tensor, outer: Tensor) -> Tensor:
    others = torch.where(which == 1, tanh_velocity(radius, v_max, r_turn), universal_velocity(radius, v_max, r_turn, sharpness, outer))
    return torch.where(which == 0, rotation_velocity(radius, v_max, r_turn), others)


def _curve(parameters: DiscParameters, has: dict[str, Tensor], draw: Draw) -> Radial:
    """Return V(R) sin i of each disc, R in pixels: an arctan (0), or one time in four a tanh (1), or Courteau's (2)."""
    which = has["curve"] * torch.where(draw.chance(0.25), 1, 2)
    shape = draw.log_uniform(*_SHARPNESS), draw.uniform(*_OUTER)
    return Radial(_any_curve, (parameters.v_max_sini, parameters.r_turn * HALF_WIDTH, which, *shape))


def _disturbance(parameters: DiscParameters, v_22: Tensor, has: dict[str, Tensor], draw: Draw) -> Disturbance:
    scale = parameters.r_scale * HALF_WIDTH
    streaming = torch.where(has["bar"], draw.uniform(*_BAR), draw.uniform(*_OVAL)) * v_22
    return Disturbance(
        bar_tangential=streaming,
        bar_radial=streaming * draw.uniform(0.5, 1.3),
        bar_radius=scale * draw.uniform(*_BAR_RADIUS),
        bar_angle=draw.uniform(0, math.pi),
        lopsided=_LOPSIDED * has["lopsided"] * draw.uniform(),
        lopsided_angle=draw.uniform(0, 2 * math.pi),
        radial=_RADIAL * has["radial"] * draw.uniform(-1, 1),
        warp_radius=scale * draw.uniform(*_WARP_RADIUS),
        warp_length=scale,
        warp_axis=_WARP_AXIS * has["warp"] * draw.normal(),
        warp_inclination=_WARP_INCLINATION * has["warp"] * draw.normal(),
    )


def _light(scale: Tensor, extra: Disturbance, has: dict[str, Tensor], largest_clumps: float, draw: Draw):
    """Return the factor on the brightness of the exponential disc, a function of the in-plane x and y (galaxy, cell), pixels."""

    def each(value: Tensor) -> Tensor:
        return value.unsqueeze(1)

    r_break, r_outer = each(scale * draw.uniform(1.5, 3.0)), each(scale * draw.uniform(0.4, 1.5))
    central = each(torch.where(has["bulge"], draw.uniform(0.3, 3.0), -draw.uniform(0.2, 0.9) * has["hole"]))
    size, bar_light = each(scale * draw.uniform(0.1, 0.4)), each(draw.uniform(0.2, 1.5) * has["bar"])
    arms, phase = each(draw.uniform(0.1, 0.6) * has["spiral"]), each(draw.uniform(0, 2 * math.pi))
    winding = each(2 / torch.deg2rad(draw.uniform(10, 35)).tan() * torch.where(draw.chance(0.5), 1, -1))
    rms, field = each(draw.uniform(0, largest_clumps) * has["clumps"]), draw.normal((1, STAMP // 4, STAMP // 4))
    along, across, length, scale = each(extra.bar_angle.cos()), each(extra.bar_angle.sin()), each(extra.bar_radius), each(scale)

    def factor(x: Tensor, y: Tensor) -> Tensor:
        radius = torch.hypot(x, y).clamp(min=0.1).minimum(_FARTHEST * scale)
        disc = torch.exp(-radius / scale)
        broken = broken_exponential_intensity(radius, scale, r_break, r_outer.minimum(10 * scale)) / disc
        light = torch.where(each(has["break"]), broken, 1.0)
        light = light + central * torch.exp(-(radius / size).square() / 2) / disc
        bar_x, bar_y = x * along + y * across, y * along - x * across
        light = light + bar_light * torch.exp(-((bar_x / length).square() + (bar_y / (0.3 * length)).square()) / 2)
        angle = 2 * torch.atan2(y, x) - winding * torch.log(radius / scale) - phase
        light = light * torch.exp(arms * (1 - torch.exp(-(radius / scale).square())) * angle.cos())
        side = math.isqrt(x.shape[1])
        clumps = torch.nn.functional.interpolate(field, size=(side, side), mode="bilinear", align_corners=False).flatten(1)
        return light.clamp(min=1e-3) * torch.exp(rms * clumps)

    return factor


def _streams(scale: Tensor, rms: Tensor, draw: Draw):
    """Return a random velocity field, a function of the in-plane x and y (galaxy, cell), pixels; ``rms`` (galaxy,) in its unit."""
    reach = (scale * draw.uniform(*_STREAM_SIZE) * _KNOTS / 2).unsqueeze(1)
    field = draw.normal((1, _KNOTS, _KNOTS))
    field = field / torch.nn.functional.interpolate(field, scale_factor=8, mode="bicubic").std((2, 3), keepdim=True) * rms.view(-1, 1, 1, 1)

    def velocity(x: Tensor, y: Tensor) -> Tensor:
        at = torch.stack([x / reach, y / reach], dim=-1).unsqueeze(1)
        sampled = torch.nn.functional.grid_sample(field, at, mode="bicubic", padding_mode="reflection", align_corners=False)
        return sampled.flatten(1)

    return velocity


def _correlated(noise: Tensor, width: Tensor) -> Tensor:
    """Return noise (galaxy, y, x) smoothed by Gaussians of FWHM ``width`` (galaxy,), pixels, with the variance it had."""
    edges = torch.arange(STAMP + 1, device=noise.device).to(noise) - STAMP / 2
    share = beam_matrix(width, edges, (edges[1:] + edges[:-1]) / 2)
    share = share / share.square().sum(-1, keepdim=True).sqrt()
    return share @ noise @ share.mT


def _noise(native_pixel: Tensor, beam: Tensor, has: dict[str, Tensor], draw: Draw) -> tuple[Tensor, Tensor]:
    """Return the noise of intensity and velocity in units of the errors stated."""
    width = draw.uniform(*_OF_BEAM) * beam * has["correlated"]
    wrong = torch.where(has["errors"], draw.log_uniform(*_ERRORS), 1.0), torch.where(has["errors"], draw.log_uniform(*_ERRORS), 1.0)
    return tuple(_correlated(native_noise(native_pixel, draw), width) * factor.view(-1, 1, 1) for factor in wrong)


def _labels(parameters: DiscParameters, curve: Radial, arctan: Tensor, valid: Tensor, model: DiscAutoencoder) -> DiscParameters:
    low, high = (bound * HALF_WIDTH for bound in model.network.ranges.r_turn)
    v_max, r_turn = nearest_arctan(curve, reach_of(valid), low, high)
    v_max, r_turn = torch.where(arctan, parameters.v_max_sini, v_max), torch.where(arctan, parameters.r_turn, r_turn / HALF_WIDTH)
    return replace(parameters, r_turn=r_turn, v_max_sini=v_max)


def _draw(n: int, model: DiscAutoencoder, generator: torch.Generator, like: Templates | None) -> MismatchedDiscs:
    draw, network = Draw(n, generator, model.device), model.network
    stream = network.stream
    has = {kind: draw.chance(share) for kind, share in KINDS.items()}
    has["hole"] &= ~has["bulge"]
    if like is None:
        parameters, pa_err = draw_parameters(model, draw), stream.pa_err
        stated = draw.uniform(*stream.beam) * ~draw.chance(stream.no_beam)
        native_pixel = torch.where(has["correlated"], draw.uniform(*_NATIVE_PIXEL), 1.0)
    else:
        parameters, pa_err = draw_near(like.parameters, like.stamps.norm, model, draw), LIKE_PA_ERR
        stated, native_pixel = like.stamps.beam, like.native_pixel
    beam = stated * torch.where(has["beam"], 1 + _BEAM_ERR * draw.normal(), 1.0).clamp(min=0.5)
    axis, shift = pa_err * draw.normal(), stream.centre_err * draw.normal((2,))
    placing = torch.stack([axis, *shift.unbind(1), stream.v_sys_err * draw.normal()], dim=1)
    scale = parameters.r_scale * HALF_WIDTH
    curve = _curve(parameters, has, draw)
    true_curve = curve(scale.unsqueeze(1) * scale.new_tensor(CURVE_RADII))
    v_22 = true_curve[:, CURVE_RADII.index(SCALE_LENGTHS_OF_V_22)]
    extra = _disturbance(parameters, v_22, has, draw)
    thickness = torch.where(has["thick"], (scale * draw.uniform(*_THICKNESS)).clamp(min=_THINNEST), 1.0)
    streams = _streams(scale, v_22 * has["streams"] * draw.uniform(*_STREAMS), draw)
    maps = disturbed_disc(
        parameters.inclination_deg, scale, curve, extra, light=_light(scale, extra, has, stream.clumps, draw), streams=streams,
        axis_deg=axis, centre=(shift[:, 0], shift[:, 1]), thickness=thickness, beam_fwhm=beam if network.beam else None,
        nodes=network.quadrature_nodes,
    )  # fmt: skip
    velocity = maps.velocity + placing[:, 3].view(-1, 1, 1)
    if like is None:
        intensity, errors = maps.intensity, map_errors(maps.intensity, stream, draw)
        valid = valid_pixels(parameters, intensity, stream, draw)
    else:
        intensity, valid = torch.where(like.clumpy.view(-1, 1, 1), maps.intensity, maps.smooth), like.stamps.valid
        intensity = intensity / torch.where(valid, intensity, 0).amax((1, 2), keepdim=True).clamp(min=1e-9)
        errors = like.stamps.intensity_err, like.stamps.velocity_err
    stamps = observe_maps((intensity, velocity), errors, _noise(native_pixel, stated, has, draw), valid, stated, model)
    kinds = torch.stack([has[kind] for kind in KINDS], dim=1)
    labels = _labels(parameters, curve, ~has["curve"], valid, model)
    return MismatchedDiscs(stamps, labels, placing, v_22, true_curve, kinds, extra.bar_tangential / v_22)


@torch.no_grad()
def draw_mismatched(n: int, model: DiscAutoencoder, generator: torch.Generator, like: Templates | None = None) -> MismatchedDiscs:
    """Draw ``n`` discs that differ from the model, over the network's ranges or, in turn, like the galaxies of ``like``.

    ``generator`` is all the randomness. Discs like a survey's keep its beams, masks, errors and native pixels; where its intensity is
    the smooth disc of the photometry, theirs is too, and only the velocities know of the structure.
    """
    parts = []
    for start in range(0, n, _AT_A_TIME):
        index = torch.arange(start, min(start + _AT_A_TIME, n), device=model.device)
        parts.append(_draw(len(index), model, generator, like and like.select(index % len(like))))
    return MismatchedDiscs.joined(parts)
