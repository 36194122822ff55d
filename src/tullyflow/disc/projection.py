"""Project a thick exponential disc on the sky: intensity and line-of-sight velocity maps.

The network's decoder: exponential light, arctan rotation, a round beam, axis along x.
mom0 = int I dl and mom1 = int I V(R) sin i x/R dl / mom0 over the sight lines of `disc.sight_lines`.
Both maps are even in y, intensity is even and velocity odd in x: only the quadrant x, y > 0 is integrated.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tullyflow.conventions import STAMP
from tullyflow.disc.beam import cell_grid, central_means, smear_quadrant
from tullyflow.disc.profiles import Radial, rotation_velocity
from tullyflow.disc.sight_lines import EDGE, sight_lines
from tullyflow.errors import ModelError

__all__ = ["DiscMaps", "project_disc", "unfold"]


@dataclass(frozen=True)
class DiscMaps:
    """``intensity`` (peak 1) and ``velocity`` (unit of ``v_max_sini``), both (galaxy, y, x)."""

    intensity: Tensor
    velocity: Tensor

    def __iter__(self):
        return iter((self.intensity, self.velocity))


def _quadrant(
    inclination_deg: Tensor,
    r_scale: Tensor,
    r_turn: Tensor,
    r_z: float,
    centres: Tensor,
    nodes: int,
    cut_velocity: bool,
    curve: Radial | None,
) -> tuple[Tensor, Tensor]:
    """Return mom0 (unnormalised) and mom1 / V_max sin i on the cells ``centres`` x ``centres``; lengths in pixels."""
    angle = torch.deg2rad(inclination_deg).view(-1, 1, 1, 1)
    cos, sin = angle.cos().clamp(min=EDGE), angle.sin().clamp(min=EDGE)
    scale = r_scale.view(-1, 1, 1, 1)
    in_plane, height, log_weight = sight_lines(cos, sin, scale, torch.as_tensor(r_z), centres.view(1, 1, -1, 1), nodes)
    x = centres.view(1, 1, 1, -1)
    radius = torch.sqrt(in_plane.square() + x.square())  # (galaxy, node, y, x)
    weight = torch.exp((log_weight - height / r_z) - radius / scale)
    intensity = weight.sum(dim=1)
    if cut_velocity:
        radius, weight = radius.detach(), weight.detach()
    turning = curve(radius) if curve else rotation_velocity(radius, 1.0, r_turn.view(-1, 1, 1, 1))
    towards = weight * turning / radius
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
    central_cells: int = 1,
    curve: Radial | None = None,
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
    central_cells : int
        Samples along the side of the pixels within two of either axis, before the beam smears them. Without a beam it changes nothing.
    curve : Radial, optional
        Another rotation curve V(R)/V_max of the radius in pixels; ``r_turn`` then does nothing.

    Raises `ModelError` for an odd size. NaN parameters give NaN maps. Differentiable in all parameters and the beam.
    """
    if size % 2 or size < 2:
        raise ModelError(f"project_disc: size {size} must be even, so that the centre lies between pixels.")
    half = size // 2
    edges = cell_grid(half, beyond=beam_fwhm is not None, like=inclination_deg)
    centres, means = (edges[1:] + edges[:-1]) / 2, None
    if central_cells > 1 and beam_fwhm is not None:
        centres, means = central_means(edges, half, central_cells)
    intensity, velocity = _quadrant(inclination_deg, r_scale * half, r_turn * half, thickness, centres, nodes, cut_velocity, curve)
    intensity = intensity / intensity[:, :1, :1].detach()  # keeps the sums below near 1; divided out again after
    if beam_fwhm is not None:
        intensity, velocity = smear_quadrant(intensity, velocity, beam_fwhm, edges, half, cut_velocity, means)
    velocity = velocity * v_max_sini.view(-1, 1, 1)
    peak = intensity[:, :1, :1]  # both profiles fall outwards: the innermost pixel is the maximum
    return DiscMaps(unfold(intensity / peak, odd=False), unfold(velocity, odd=True))
