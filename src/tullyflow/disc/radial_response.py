"""How a disc's velocity map answers to its rotation curve, radius by radius: the map is linear in V(R).

With F = int I dl along a sight line (`disc.gradients`) and a curve given at radii R_k, linear in between, the map is

    v(x, y) = v_sys + sum_k V(R_k) sin i A_k(x, y),   A_k = beam * [x int I h_k(R)/R dl] / beam * F,

where h_k is the hat function of R_k. Once the A_k are known, any curve at all is a product with a short vector: a fit of a curve is
one of the K values V(R_k), not of the map.
"""

import torch
from torch import Tensor

from tullyflow.conventions import STAMP
from tullyflow.disc.beam import beam_matrix, cell_grid
from tullyflow.disc.sight_lines import EDGE, sight_lines

__all__ = ["KNOTS", "radial_response"]

_FIRST, _LAST = 0.4, 72.0  # stamp pixels: the outermost is seen only where x/R is small
_KNOTS = 27  # neighbours a fifth apart: linear pieces are within 0.1 % of an arctan
KNOTS = tuple(torch.logspace(0, 1, _KNOTS, base=_LAST / _FIRST, dtype=torch.float64).mul(_FIRST).tolist())
_NEAR = 1e-4  # pixels, added to radii in quadrature


def _towards(x: Tensor, y: Tensor, angle: Tensor, r_scale: Tensor, r_z: float, nodes: int) -> tuple[Tensor, Tensor]:
    """Return F (galaxy, point) and x int I h_k/R dl (galaxy, knot, point) at ``x``, ``y`` (galaxy, point) on the disc's axes, pixels."""
    cos, sin = (part.clamp(min=EDGE).view(-1, 1, 1, 1) for part in (angle.cos(), angle.sin()))
    across = y.abs().clamp(min=1e-3).unsqueeze(1).unsqueeze(-1)
    points = sight_lines(cos, sin, r_scale.view(-1, 1, 1, 1), torch.as_tensor(r_z), across, nodes)
    q, z, log_length = (part.squeeze(-1) for part in points)
    radius = torch.sqrt(q.square() + x.unsqueeze(1).square() + _NEAR**2)  # (galaxy, node, point)
    weight = torch.exp(log_length - z / r_z - radius / r_scale.view(-1, 1, 1))
    knots = torch.tensor((0.0, *KNOTS), dtype=x.dtype, device=x.device)
    inside = radius.clamp(max=_LAST * (1 - 1e-6))
    above = torch.bucketize(inside, knots, right=True).clamp(1, _KNOTS)
    low = knots[above - 1]
    share = (inside - low) / (knots[above] - low)
    weight_per_radius = weight / radius
    found = x.new_zeros((len(x), _KNOTS + 1, x.shape[1]))
    found.scatter_add_(1, above, weight_per_radius * share)
    found.scatter_add_(1, above - 1, weight_per_radius * (1 - share))
    return weight.sum(1), found[:, 1:] * x.unsqueeze(1)


def radial_response(parameters: Tensor, beam_fwhm: Tensor | None, nodes: int = 4, size: int = STAMP, thickness: float = 1.0) -> Tensor:
    """Return A_k (galaxy, knot, y, x): what the velocity map gains from 1 km/s of V sin i at each of `KNOTS` (stamp pixels).

    ``parameters`` (galaxy, 9), ``beam_fwhm`` and the rest as `disc.gradients.disc_gradients` takes them; of the parameters only
    inclination, r_scale, axis and centre matter. At radius 0 the curve is 0, beyond the last knot it stays what it is there. NaN stays
    in its galaxy.
    """
    half = size // 2
    inclination, r_scale, axis, x0, y0 = (parameters[:, k] for k in (0, 1, 4, 5, 6))
    edges = cell_grid(half, beyond=beam_fwhm is not None, like=parameters)
    edges = torch.cat([-edges.flip(0), edges[1:]])
    centres = (edges[1:] + edges[:-1]) / 2
    first = (len(centres) - size) // 2
    sky_y, sky_x = (part.flatten().unsqueeze(0) for part in torch.meshgrid(centres, centres, indexing="ij"))
    cos, sin = (part.unsqueeze(-1) for part in (torch.deg2rad(axis).cos(), torch.deg2rad(axis).sin()))
    dx, dy = sky_x - x0.unsqueeze(-1), sky_y - y0.unsqueeze(-1)
    light, towards = _towards(cos * dx + sin * dy, cos * dy - sin * dx, torch.deg2rad(inclination), r_scale * half, thickness, nodes)
    stacked = torch.cat([light.unsqueeze(1), towards], dim=1).unflatten(-1, (len(centres), len(centres)))
    if beam_fwhm is not None:
        share = beam_matrix(beam_fwhm, edges, centres[first : first + size]).unsqueeze(1)
        stacked = share @ stacked @ share.mT
    return stacked[:, 1:] / stacked[:, :1].clamp(min=torch.finfo(stacked.dtype).tiny)
