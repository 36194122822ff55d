"""Points along the sight lines through a thick disc, and the weights that integrate over them.

A sight line at sky position (x along the receding major axis, y along the minor axis) meets, at depth l, the point with
in-plane coordinates (x, y' = y cos i + l sin i) and height z = l cos i - y sin i (Dawson+2021 section 2.4, thesis eqs 4.1-4.2;
this sign choice is ours).

Along l the light has two cusps, at z = 0 and at y' = 0. Each of the three panels they bound gets Gauss-Legendre nodes after
an exponential map with the panel's own decay rate: cos i/r_z + sin i/r_scale outside, their difference between the cusps.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

__all__ = ["EDGE", "gauss_legendre", "sight_lines"]

EDGE = 1e-4  # smallest sin i and cos i: the maps have converged long before


@lru_cache
def _legendre_roots(nodes: int) -> tuple[list[float], list[float]]:
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return ((points + 1) / 2).tolist(), (weights / 2).tolist()


def gauss_legendre(nodes: int) -> tuple[list[float], list[float]]:
    """Return the points and weights of a Gauss-Legendre rule on 0-1; a compiler may take them for constants."""
    return _legendre_roots(nodes)


def sight_lines(cos: Tensor, sin: Tensor, r_scale: Tensor, r_z: Tensor, y: Tensor, nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return in-plane y', |z| and the log of the weights (lengths) of the 3 x ``nodes`` points, each (galaxy, node, y, 1).

    ``cos`` and ``sin`` of the inclination, both at least `EDGE`, the disc's decay length ``r_scale`` and its scale height ``r_z`` > 0
    are (galaxy, 1, 1, 1) or scalar, ``y`` > 0 is (galaxy or 1, 1, y, 1); lengths in one unit. ``r_scale`` only places the nodes:
    the weights hold no light.
    """
    points, weights = gauss_legendre(nodes)
    u = torch.tensor(points, dtype=y.dtype, device=y.device).view(1, -1, 1, 1)
    w = torch.tensor(weights, dtype=y.dtype, device=y.device).view(1, -1, 1, 1)
    plane, height = y / cos, y / sin  # y' where z = 0, and |z| where y' = 0
    outer = cos / r_z + sin / r_scale
    t = -torch.log1p(-u) / outer  # depth beyond a cusp
    log_w = torch.log(w / (outer * (1 - u))).expand(-1, -1, y.shape[2], -1)
    inner = cos / r_z - sin / r_scale
    from_midplane = inner >= 0  # which cusp is the brighter end of the middle panel
    rate = inner.abs().clamp(min=1e-6 / r_z)
    span = -torch.expm1(-rate * y / (sin * cos))
    s = -torch.log1p(-u * span) / rate  # depth from the brighter end
    log_w_inner = torch.log(w * span / (rate * (1 - u * span)))
    y_inner = torch.where(from_midplane, plane - s * sin, s * sin)
    z_inner = torch.where(from_midplane, s * cos, height - s * cos)
    in_plane = torch.cat([plane + t * sin, y_inner, (t * sin).expand_as(y_inner)], dim=1)
    heights = torch.cat([(t * cos).expand_as(y_inner), z_inner, height + t * cos], dim=1)
    return in_plane, heights, torch.cat([log_w, log_w_inner, log_w], dim=1)
