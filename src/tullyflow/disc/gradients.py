"""The maps of `disc.projection` anywhere on the stamp, with their derivatives by every parameter, written out by hand.

Along a sight line at (x, y), in the frame of the disc's axes, a point at depth l has the in-plane coordinate q = y cos i + l sin i, the
height z = l cos i - y sin i and the radius R = sqrt(x^2 + q^2). At fixed l

    dq/di = z,   dz/di = -q,   dq/dy = cos i,   dz/dy = -sin i,

so the derivatives of F = int exp(-|z|/r_z - R/r_scale) dl and P = x int exp(...) T(R) dl, T = (2/pi) arctan(R/r_turn) / R, are
integrals over the same points as F and P themselves: eleven maps for the price of some three. The beam smears them all; then
v = V sin i P/F and dv = V sin i (dP - (P/F) dF) / F. For the other curves of `disc.curve_shapes` T is theirs.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tullyflow.conventions import STAMP
from tullyflow.disc.beam import beam_matrix, cell_grid
from tullyflow.disc.curve_shapes import OUTER_SLOPE, CurveShape, check_curve, pinned, turning
from tullyflow.disc.sight_lines import EDGE, sight_lines

__all__ = ["NAMES", "DiscGradients", "disc_gradients", "names_of"]

NAMES = ("inclination_deg", "r_scale", "r_turn", "v_max_sini", "axis_deg", "centre_x", "centre_y", "v_sys", "brightness")
_OFF_AXIS = 1e-3  # pixels: the least distance from the major axis; the maps are even about it
_NEAR = 1e-4  # pixels, added to radii in quadrature


@dataclass(frozen=True)
class DiscGradients:
    """Maps (galaxy, y, x) and how they change (galaxy, parameter, y, x) with each of `names_of` the curve.

    Inclination and axis in deg, lengths and V_max sin i in ln, the centre in pixels, v_sys in the unit of the velocity, the brightness
    as the factor on a peak of 1.
    """

    intensity: Tensor
    velocity: Tensor
    by_intensity: Tensor
    by_velocity: Tensor


def names_of(curve: CurveShape) -> tuple[str, ...]:
    """Return the parameters of a disc with this curve: `NAMES`, and ``outer_slope`` for "slope"."""
    check_curve(curve)
    return (*NAMES, OUTER_SLOPE) if curve == "slope" else NAMES


def _sums(weight: Tensor, *factors: Tensor) -> list[Tensor]:
    return [(weight * factor).sum(1) for factor in factors]


def _integrals(
    x: Tensor, y: Tensor, angle: Tensor, r_scale: Tensor, r_turn: Tensor, outer: Tensor | None, curve: CurveShape, r_z: float, nodes: int
) -> list[Tensor]:
    """Return F, F_i, F_s, F_x, F_y, P, P_i, P_s, P_x, P_y, P_t (galaxy, point) at ``x``, ``y`` (galaxy, point), in pixels and rad.

    With an ``outer`` slope, P by it comes last.
    """
    cos, sin = (part.clamp(min=EDGE).view(-1, 1, 1, 1) for part in (angle.cos(), angle.sin()))
    across = y.abs().clamp(min=_OFF_AXIS).unsqueeze(1).unsqueeze(-1)
    points = sight_lines(cos, sin, r_scale.view(-1, 1, 1, 1), torch.as_tensor(r_z), across, nodes)
    q, z, log_length = (part.squeeze(-1) for part in points)  # magnitudes of the in-plane coordinate and the height
    cos, sin, scale, turn, x = cos.squeeze(-1), sin.squeeze(-1), r_scale.view(-1, 1, 1), r_turn.view(-1, 1, 1), x.unsqueeze(1)
    panel = torch.arange(3 * nodes, device=x.device).view(1, -1, 1) // nodes
    above, both = (torch.where(panel == k, p, m).to(x) for k, p, m in ((0, 1.0, -1.0), (1, -1.0, 1.0)))  # signs of z and of q z
    ahead = above * both  # of q
    radius = torch.sqrt(q.square() + x.square() + _NEAR**2)
    weight = torch.exp(log_length - z / r_z - radius / scale)
    beta = None if outer is None else outer.view(-1, 1, 1)
    speed, slope, growth = turning(curve, radius, turn, beta, scale)  # T, dV/dR = -dT/d ln r_turn, d ln T/d beta
    bend = (slope - speed) / radius  # dT/dR
    tilt = both * q * z / radius  # dR/di
    by_i = both * q / r_z - tilt / scale
    level = ahead * q * cos / radius  # dR/dy
    by_y = above * sin / r_z - level / scale
    by_s = radius / scale
    f, f_i, f_s, f_y = _sums(weight, torch.ones_like(q), by_i, by_s, by_y)
    p, p_i, p_s, p_y, p_t = _sums(weight, speed, speed * by_i + bend * tilt, speed * by_s, speed * by_y + bend * level, -slope)
    x = x.squeeze(1)
    f_x = -x / r_scale.view(-1, 1) * (weight / radius).sum(1)
    p_x = p + x.square() * (weight * (bend - speed / scale) / radius).sum(1)
    side = torch.where(y < 0, -1.0, 1.0).to(x)
    extra = []
    if growth is not None:
        extra = [x * (weight * speed * growth).sum(1)]
        held = pinned(outer, r_turn, r_scale).unsqueeze(-1) * p
        p_t, p_s = p_t + held, p_s - held
    return [f, f_i, f_s, f_x, f_y * side, x * p, x * p_i, x * p_s, p_x, x * p_y * side, x * p_t, *extra]


def disc_gradients(
    parameters: Tensor,
    beam_fwhm: Tensor | None,
    nodes: int = 4,
    size: int = STAMP,
    thickness: float = 1.0,
    curve: CurveShape = "arctan",
    cells: int = 1,
) -> DiscGradients:
    """Return the maps of discs anywhere on the stamp and their derivatives.

    Parameters
    ----------
    parameters : Tensor, (galaxy, 9), or (galaxy, 10) for the curve "slope"
        `NAMES`: inclination (deg), r_scale and r_turn (fractions of the half-width), V_max sin i, the direction of the receding major
        axis (deg, counter-clockwise from +x), the centre (pixels from the map's middle), v_sys, the intensity's peak; the outer slope.
    beam_fwhm : Tensor, (galaxy,), or None
        Round Gaussian beam, pixels.
    nodes, size, thickness
        As in `disc.projection.project_disc`, whose maps these are where axis, centre and v_sys are 0.
    curve : "arctan", "tanh" or "slope"
        Which of `disc.curve_shapes`. Raises `ModelError` for another.
    cells : int
        Samples along a pixel's side, before the beam smears them: 2 where the disc is thinner than a pixel on the sky.

    The peak is that of the brightest pixel, whatever the lengths, the inclination and the centre are.
    """
    half = size // 2
    check_curve(curve)
    inclination, r_scale, r_turn, v_max_sini, axis, x0, y0, v_sys, brightness, *outer = parameters.unbind(-1)
    edges = cell_grid(half * cells, beyond=beam_fwhm is not None, like=parameters) / cells
    edges = torch.cat([-edges.flip(0), edges[1:]])
    centres = (edges[1:] + edges[:-1]) / 2
    at = torch.arange(size, dtype=edges.dtype, device=edges.device) - (size - 1) / 2
    sky_y, sky_x = (part.flatten().unsqueeze(0) for part in torch.meshgrid(centres, centres, indexing="ij"))
    turned = torch.deg2rad(axis).unsqueeze(-1)
    cos, sin = turned.cos(), turned.sin()
    dx, dy = sky_x - x0.unsqueeze(-1), sky_y - y0.unsqueeze(-1)
    x, y = cos * dx + sin * dy, cos * dy - sin * dx
    outer = outer[0] if curve == "slope" else None
    f, f_i, f_s, f_x, f_y, p, p_i, p_s, p_x, p_y, p_t, *p_b = _integrals(
        x, y, torch.deg2rad(inclination), r_scale * half, r_turn * half, outer, curve, thickness, nodes
    )
    degree = math.pi / 180
    maps = [f, p, f_i * degree, p_i * degree, f_s, p_s, p_t]
    for by_x, by_y in ((f_x, f_y), (p_x, p_y)):
        maps += [(by_x * y - by_y * x) * degree, by_y * sin - by_x * cos, -by_x * sin - by_y * cos]
    stacked = torch.stack([*maps, *p_b], dim=1).unflatten(-1, (len(centres), len(centres)))
    if beam_fwhm is not None:
        share = beam_matrix(beam_fwhm * cells, edges * cells, at * cells).unsqueeze(1)
        stacked = share @ stacked @ share.mT
    f, p, f_i, p_i, f_s, p_s, p_t, f_a, f_u, f_w, p_a, p_u, p_w, *p_b = stacked.unbind(1)
    total = f.clamp(min=torch.finfo(f.dtype).tiny)
    peak = f.amax((1, 2), keepdim=True)
    shape, v = brightness.view(-1, 1, 1) / peak, v_max_sini.view(-1, 1, 1)
    mean = p / total
    zero, one = torch.zeros_like(f), torch.ones_like(f)

    def of_velocity(dp, df):
        return v * (dp - mean * df) / total

    by_intensity = [f_i * shape, f_s * shape, zero, zero, f_a * shape, f_u * shape, f_w * shape, zero, f / peak, *(zero for _ in p_b)]
    by_velocity = [of_velocity(p_i, f_i), of_velocity(p_s, f_s), v * p_t / total, v * mean,
                   of_velocity(p_a, f_a), of_velocity(p_u, f_u), of_velocity(p_w, f_w), one, zero,
                   *(v * p / total for p in p_b)]  # fmt: skip
    seen, by_intensity = f * shape, torch.stack(by_intensity, 1)
    brightest = f.flatten(1).argmax(1).view(-1, 1, 1)
    of_peak = by_intensity.flatten(2).gather(2, brightest.expand(-1, by_intensity.shape[1], 1)).unsqueeze(-1)
    of_peak[:, NAMES.index("brightness")] = 0
    by_intensity = by_intensity - of_peak * (f / peak).unsqueeze(1)
    return DiscGradients(seen, v * mean + v_sys.view(-1, 1, 1), by_intensity, torch.stack(by_velocity, 1))
