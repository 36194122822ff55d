"""Discs that do more than turn: bars, ovals, lopsided rotation, radial flows and warps, as a beam sees them.

In the plane of the disc, theta from the receding major axis, the velocity along the line of sight over sin i is

    V(R) [1 + e cos(theta - theta_1)] cos(theta) + w V(R) sin(theta) - V_2t cos(2 theta_b) cos(theta) - V_2r sin(2 theta_b) sin(theta),

theta_b = theta - phi_b: the rotation curve, one side faster than the other, a flow in or out, and the bisymmetric flow of a bar
(Spekkens & Sellwood 2007 eq. 5), whose amplitudes go as (R/R_b) exp((1 - R^2/R_b^2)/2). It is weighed by the light along the sight
lines of `disc.sight_lines` and by the beam. A warp moves axis and inclination linearly with radius beyond some radius: each sight line
looks at the flat disc where the tilted ring through it would lie, to first order in the disc's thickness, and the velocity goes as the
sine of the ring's inclination.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tullyflow.conventions import STAMP
from tullyflow.disc.beam import beam_matrix, cell_grid
from tullyflow.disc.profiles import Radial
from tullyflow.disc.sight_lines import EDGE, sight_lines

__all__ = ["Disturbance", "DisturbedMaps", "disturbed_disc"]

_RADII, _FARTHEST = 1024, 256.0  # of the table a rotation curve is read from; pixels
_NEAR = 1e-3  # pixels: the least distance from the axes
_EDGE_ON = 0.1  # cos i, in quadrature: a ring is never thinner, as a disc of some thickness is not
_FAINTEST = -80.0  # ln of the light: below, processors are slow
_RINGS = 8  # iterations for the radius of the ring seen


@dataclass(frozen=True)
class Disturbance:
    """What a disc does beyond turning, each (galaxy,); all 0 for nothing.

    ``bar_tangential`` and ``bar_radial`` are the largest V_2t sin i and V_2r sin i, at ``bar_radius`` (pixels), ``bar_angle`` phi_b (rad);
    ``lopsided`` e and its angle theta_1 (rad); ``radial`` w; beyond ``warp_radius`` (pixels) the axis turns by ``warp_axis`` deg and
    the inclination grows by ``warp_inclination`` deg with every ``warp_length`` pixels.
    """

    bar_tangential: Tensor
    bar_radial: Tensor
    bar_radius: Tensor
    bar_angle: Tensor
    lopsided: Tensor
    lopsided_angle: Tensor
    radial: Tensor
    warp_radius: Tensor
    warp_length: Tensor
    warp_axis: Tensor
    warp_inclination: Tensor


@dataclass(frozen=True)
class DisturbedMaps:
    """``intensity`` and ``smooth``, that of the exponential disc alone (peaks 1), and ``velocity`` (unit of the curve), (galaxy, y, x)."""

    intensity: Tensor
    smooth: Tensor
    velocity: Tensor


def _read(curve: Radial, radius: Tensor) -> Tensor:
    """Return the curve at ``radius`` (galaxy, ...) by linear interpolation in a table, finer towards the centre."""
    nodes = torch.linspace(0, 1, _RADII + 1, dtype=radius.dtype, device=radius.device)
    table = curve(_FARTHEST * nodes.square().unsqueeze(0))
    at = (radius.flatten(1) * (_RADII**2 / _FARTHEST)).sqrt_().clamp_(max=_RADII - 1e-3)
    below = at.nan_to_num().long()
    return torch.addcmul(table.gather(1, below), table.diff(dim=1).gather(1, below), at.frac_()).view_as(radius)


def _soft(cos: Tensor) -> Tensor:
    return torch.sqrt(cos.square() + _EDGE_ON**2)


def _warped(x: Tensor, y: Tensor, angle: Tensor, warp: Disturbance) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return where on the flat disc's sky the tilted rings at ``x``, ``y`` (galaxy, cell) lie, how much brighter and faster they are."""
    start, length, turn, tilt = (
        p.unsqueeze(1) for p in (warp.warp_radius, warp.warp_length, torch.deg2rad(warp.warp_axis), torch.deg2rad(warp.warp_inclination))
    )
    flat = _soft(angle.cos())
    at_x, at_y = x, y
    for _ in range(_RINGS):
        beyond = (torch.hypot(at_x, at_y / flat) - start).clamp(min=0) / length
        turned, ring = turn * beyond, angle + tilt * beyond
        stretch = flat / _soft(ring.cos())
        at_x = x * turned.cos() + y * turned.sin()
        at_y = (y * turned.cos() - x * turned.sin()) * stretch
    return at_x, at_y, stretch, (ring.sin() / angle.sin().clamp(min=EDGE)).clamp(0, 3)


def _fluxes(x: Tensor, y: Tensor, angle: Tensor, r_scale: Tensor, r_z: Tensor, curve: Radial, extra: Disturbance, nodes: int):
    """Return F and P (galaxy, cell) of the exponential disc at ``x``, ``y`` from its centre, along and across its major axis."""
    cos, sin = (part.clamp(min=EDGE).view(-1, 1, 1, 1) for part in (angle.cos(), angle.sin()))
    scale, height = r_scale.view(-1, 1, 1, 1), r_z.view(-1, 1, 1, 1)
    across = y.abs().clamp(min=_NEAR).unsqueeze(1).unsqueeze(-1)
    q, z, log_length = (part.squeeze(-1) for part in sight_lines(cos, sin, scale, height, across, nodes))
    x = x.unsqueeze(1)
    radius = torch.addcmul(x.square() + _NEAR**2, q, q).sqrt_()
    weight = torch.addcmul(log_length, radius, -1 / scale.squeeze(-1)).addcmul_(z, -1 / height.squeeze(-1)).clamp_(min=_FAINTEST).exp_()
    c, s = x / radius, q / radius
    s[:, 2 * nodes :] *= -1  # the third panel lies behind the axis
    s *= torch.where(y < 0, -1.0, 1.0).to(x).unsqueeze(1)

    def each(value: Tensor) -> Tensor:
        return value.view(-1, 1, 1)

    side = (each(extra.lopsided * part) for part in (extra.lopsided_angle.cos(), extra.lopsided_angle.sin()))
    velocity = torch.addcmul(next(side) * c, s, next(side)).add_(1).mul_(c).addcmul_(s, each(extra.radial)).mul_(_read(curve, radius))
    if extra.bar_tangential.any() or extra.bar_radial.any():
        twice_c, twice_s = 2 * c * c - 1, 2 * c * s
        bar_c, bar_s = each((2 * extra.bar_angle).cos()), each((2 * extra.bar_angle).sin())
        flow = torch.addcmul(twice_c * bar_c, twice_s, bar_s).mul_(c).mul_(each(extra.bar_tangential))
        flow += torch.addcmul(twice_s * bar_c, twice_c, -bar_s).mul_(s).mul_(each(extra.bar_radial))
        out = radius / each(extra.bar_radius)
        velocity -= flow.mul_(out).mul_(((1 - out * out) / 2).exp_())
    return weight.sum(1), velocity.mul_(weight).sum(1)


def disturbed_disc(
    inclination_deg: Tensor,
    r_scale: Tensor,
    curve: Radial,
    extra: Disturbance,
    *,
    light: Callable[[Tensor, Tensor], Tensor] | None = None,
    streams: Callable[[Tensor, Tensor], Tensor] | None = None,
    axis_deg: Tensor,
    centre: tuple[Tensor, Tensor],
    thickness: Tensor,
    beam_fwhm: Tensor | None = None,
    nodes: int = 4,
    size: int = STAMP,
) -> DisturbedMaps:
    """Return the maps of discs, v_sys 0; lengths in pixels, parameters (galaxy,).

    Parameters
    ----------
    inclination_deg, r_scale, thickness
        Of the exponential disc, inside its warp.
    curve : Radial
        V(R) sin i of the radius in pixels; read from a table up to 256 pixels.
    light : callable, optional
        Factor on the disc's brightness, > 0, (galaxy, cell) of the in-plane x and y (pixels, x along the receding major axis) of the
        cells of `beam.cell_grid`, both halves. It weighs the velocities.
    streams : callable, optional
        Likewise velocities to add, along the line of sight, in the curve's unit.
    axis_deg, centre
        Direction of the receding major axis, counter-clockwise from +x, and (x, y) from the map's middle, as in `disc.gradients`.
    beam_fwhm : Tensor, optional
        Round Gaussian beams.
    nodes : int
        As in `disc.projection.project_disc`, whose maps these are where nothing is extra and nothing is off.

    NaN stays in its galaxy.
    """
    half = size // 2
    edges = cell_grid(half, beyond=beam_fwhm is not None, like=inclination_deg)
    edges = torch.cat([-edges.flip(0), edges[1:]])
    centres = (edges[1:] + edges[:-1]) / 2
    sky_y, sky_x = (part.flatten().unsqueeze(0) for part in torch.meshgrid(centres, centres, indexing="ij"))
    angle, turned = torch.deg2rad(inclination_deg).unsqueeze(1), torch.deg2rad(axis_deg).unsqueeze(1)
    dx, dy = sky_x - centre[0].unsqueeze(1), sky_y - centre[1].unsqueeze(1)
    x, y = turned.cos() * dx + turned.sin() * dy, turned.cos() * dy - turned.sin() * dx
    brighter = faster = None
    if extra.warp_axis.any() or extra.warp_inclination.any():
        x, y, brighter, faster = _warped(x, y, angle, extra)
    smooth, momentum = _fluxes(x, y, angle.squeeze(1), r_scale, thickness, curve, extra, nodes)
    if brighter is not None:
        smooth, momentum = smooth * brighter, momentum * brighter * faster
    y = y / _soft(angle.cos())
    if streams is not None:
        momentum = torch.addcmul(momentum, smooth, streams(x, y))
    factor = torch.ones_like(smooth) if light is None else light(x, y)
    maps = torch.stack([smooth, smooth * factor, momentum * factor], dim=1).unflatten(-1, (len(centres), len(centres)))
    if beam_fwhm is not None:
        first = (len(centres) - size) // 2
        share = beam_matrix(beam_fwhm, edges, centres[first : first + size]).unsqueeze(1)
        maps = share @ maps @ share.mT
    smooth, flux, momentum = maps.unbind(1)
    velocity = momentum / flux.clamp(min=torch.finfo(flux.dtype).tiny)
    return DisturbedMaps(*(m / m.amax((1, 2), keepdim=True) for m in (flux, smooth)), velocity)
