"""Project a thick exponential disc on the sky: intensity and line-of-sight velocity maps.

A sight line at sky position (x along the receding major axis, y along the minor axis) meets, at depth l, the point with
in-plane coordinates (x, y' = y cos i + l sin i) and height z = l cos i - y sin i (Dawson+2021 section 2.4, thesis eqs 4.1-4.2;
this sign choice is ours). Then mom0 = int I dl and mom1 = int I V(R) sin i x/R dl / mom0.

Along l the integrand has two cusps, at z = 0 and at y' = 0. Each of the three panels they bound gets Gauss-Legendre nodes after
an exponential map with the panel's own decay rate: cos i/r_z + sin i/r_scale outside, their difference between the cusps.
Both maps are even in y, intensity is even and velocity odd in x: only the quadrant x, y > 0 is integrated.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from tullyflow.conventions import STAMP
from tullyflow.disc.beam import cell_grid, smear_quadrant
from tullyflow.disc.profiles import rotation_velocity
from tullyflow.errors import ModelError

__all__ = ["DiscMaps", "project_disc", "unfold"]

_EDGE = 1e-4  # smallest sin i and cos i: both maps have converged long before


@dataclass(frozen=True)
class DiscMaps:
    """``intensity`` (peak 1) and ``velocity`` (unit of ``v_max_sini``), both (galaxy, y, x)."""

    intensity: Tensor
    velocity: Tensor

    def __iter__(self):
        return iter((self.intensity, self.velocity))


@lru_cache
def _gauss_legendre(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return (points + 1) / 2, weights / 2


def _sight_lines(cos: Tensor, sin: Tensor, r_scale: Tensor, r_z: Tensor, y: Tensor, nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return in-plane y', |z| and log weights of the 3 x nodes points, each (galaxy, node, y, 1). Inputs (galaxy, 1, 1, 1)."""
    points, weights = _gauss_legendre(nodes)
    u = torch.as_tensor(points, dtype=y.dtype, device=y.device).view(1, -1, 1, 1)
    w = torch.as_tensor(weights, dtype=y.dtype, device=y.device).view(1, -1, 1, 1)
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


def _quadrant(
    inclination_deg: Tensor, r_scale: Tensor, r_turn: Tensor, r_z: float, centres: Tensor, nodes: int, cut_velocity: bool
) -> tuple[Tensor, Tensor]:
    """Return mom0 (unnormalised) and mom1 / V_max sin i on the cells ``centres`` x ``centres``; lengths in pixels."""
    angle = torch.deg2rad(inclination_deg).view(-1, 1, 1, 1)
    cos, sin = angle.cos().clamp(min=_EDGE), angle.sin().clamp(min=_EDGE)
    scale = r_scale.view(-1, 1, 1, 1)
    in_plane, height, log_weight = _sight_lines(cos, sin, scale, torch.as_tensor(r_z), centres.view(1, 1, -1, 1), nodes)
    x = centres.view(1, 1, 1, -1)
    radius = torch.sqrt(in_plane.square() + x.square())  # (galaxy, node, y, x)
    weight = torch.exp((log_weight - height / r_z) - radius / scale)
    intensity = weight.sum(dim=1)
    if cut_velocity:
        radius, weight = radius.detach(), weight.detach()
    towards = weight * rotation_velocity(radius, 1.0, r_turn.view(-1, 1, 1, 1)) / radius
    total = intensity.detach() if cut_velocity else intensity
    return intensity, x.squeeze(1) * towards.sum(dim=1) / total.clamp(min=torch.finfo(total.dtype).tiny)


def unfold(quadrant: Tensor, odd: bool) -> Tensor:
    """Complete the quadrant x, y > 0 (galaxy, y, x) to the whole map; ``odd`` flips the sign at x < 0."""
    half = torch.cat([quadrant.flip(-2), quadrant], dim=-2)
    mirrored = half.flip(-1)
    return torch.cat([-mirrored if odd else mirrored, half], dim=-1)


def project_disc(
    inclination_deg: Tensor,
    r_scale: Tensor,
    r_turn: Tensor,
    v_max_sini: Tensor,
    nodes: int = 4,
    size: int = STAMP,
    thickness: float = 1.0,
    beam_fwhm: Tensor | None = None,
    cut_velocity: bool = False,
) -> DiscMaps:
    """Return the intensity and velocity maps of discs with their receding side at +x.

    Parameters
    ----------
    inclination_deg, r_scale, r_turn, v_max_sini : Tensor, (galaxy,)
        Inclination 0-90 (0 = face-on); scale length and turnover radius as fractions of the map's half-width;
        asymptotic velocity times sin i, in the unit the velocity map gets. Dtype and device of the output are theirs.
    nodes : int
        Gauss-Legendre nodes per panel; 4 is within 0.15 % of the peak intensity, and 0.5 % of V_max up to i = 82 deg.
    size : int
        Pixels along a side, even (centre between the middle pixels).
    thickness : float
        Scale height r_z in pixels.
    beam_fwhm : Tensor, (galaxy,), optional
        Circular Gaussian beam in pixels; the velocity is flux-weighted. Without it the maps are unsmeared.
    cut_velocity : bool
        Let no gradient of the velocity reach inclination and scale length (as in the code published with Dawson+2021).

    Raises `ModelError` for an odd size. NaN parameters give NaN maps. Differentiable in all parameters and the beam.
    """
    if size % 2 or size < 2:
        raise ModelError(f"project_disc: size {size} must be even, so that the centre lies between pixels.")
    half = size // 2
    edges = cell_grid(half, beyond=beam_fwhm is not None, like=inclination_deg)
    centres = (edges[1:] + edges[:-1]) / 2
    intensity, velocity = _quadrant(inclination_deg, r_scale * half, r_turn * half, thickness, centres, nodes, cut_velocity)
    intensity = intensity / intensity[:, :1, :1].detach()  # keeps the sums below near 1; divided out again after
    if beam_fwhm is not None:
        intensity, velocity = smear_quadrant(intensity, velocity, beam_fwhm, edges, half, cut_velocity)
    velocity = velocity * v_max_sini.view(-1, 1, 1)
    peak = intensity[:, :1, :1]  # both profiles fall outwards: the innermost pixel is the maximum
    return DiscMaps(unfold(intensity / peak, odd=False), unfold(velocity, odd=True))
