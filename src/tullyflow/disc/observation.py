"""Any thick axisymmetric disc as a telescope sees it: intensity, velocity and dispersion maps.

The light of a disc is I(R, z) = S(R) exp(-|z| / r_z) / (2 r_z), its gas turns with V(R) and has a local dispersion s(R). Along the
sight lines of `disc.sight_lines`, with v = V(R) sin i x/R (Dawson+2021 section 2.4):

    F = int I dl,  P = int I v dl,  Q = int I (v^2 + s^2) dl.

The beam smears the three fluxes; then velocity = P/F and dispersion = sqrt(Q/F - (P/F)^2): the mean and the standard deviation
of the line, so that beam smearing and thickness are in both (SCIENCE: moments of paper eqs 1-2).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tullyflow.conventions import STAMP
from tullyflow.disc.beam import Beam, smear_maps
from tullyflow.disc.profiles import (
    Radial,
    broken_exponential_intensity,
    exponential_intensity,
    ring_intensity,
    sersic_intensity,
)
from tullyflow.disc.sight_lines import EDGE, sight_lines
from tullyflow.errors import ModelError

__all__ = ["Accuracy", "ObservedMaps", "observe_disc"]

_SOFT = 1e-4  # pixels added in quadrature to distances from the axes, so that no derivative is 0/0

_DECAY_LENGTHS = {  # what the quadrature's nodes are placed by, measured to serve every shape in its range
    exponential_intensity: lambda r_scale: r_scale,
    sersic_intensity: lambda r_e, n: r_e * (0.35 + 0.4 * n),
    ring_intensity: lambda r_ring, width: 0.6 * (r_ring + width),
    broken_exponential_intensity: lambda r_scale, r_break, r_outer, *_: torch.maximum(r_scale, r_outer),
}


@dataclass(frozen=True)
class Accuracy:
    """How finely a disc is integrated: ``nodes`` per panel of a sight line (three panels), and points along a pixel's side.

    Largest errors for discs with V = 1, 5 <= i <= 82 deg, thickness 0.5 and 1.5 pixels, scales of 2-15 pixels, against 64 nodes: of the
    intensity over its peak, and of velocity and dispersion where a thousandth of the peak is left:

    ======================  ===================  ===================  ===================
    light                   8 nodes              12 nodes             16 nodes
    ======================  ===================  ===================  ===================
    exponential             0.0003 0.001 0.005   0.0001 0.001 0.003   0.0001 0.000 0.002
    Sersic (n = 2.5)        0.0013 0.005 0.017   0.0005 0.003 0.012   0.0003 0.002 0.010
    broken exponential      0.0010 0.006 0.023   0.0007 0.003 0.012   0.0005 0.001 0.005
    ring (width 4 at 15)    0.0056 0.065 0.060   0.0040 0.014 0.045   0.0031 0.012 0.018
    ======================  ===================  ===================  ===================

    Maps hold values at pixel centres. What a beam brings there is a sum over pixels; with ``subpixels`` s > 1 the pixels within
    ``core`` of the map's middle enter with their mean over s x s points. With a beam of 2 pixels, r_scale 3.2 and r_turn 0.3 pixels,
    1, 3 and 5 points leave 1.6, 0.9 and 0.7 % of V sin i. A disc nearly edge-on needs a ``core`` of the whole map: its strip is thin
    everywhere. Without a beam ``subpixels`` changes nothing.
    """

    nodes: int = 8
    subpixels: int = 1
    core: int = 4


@dataclass(frozen=True)
class ObservedMaps:
    """``intensity`` (unit of S: face-on and unsmeared it is S itself), ``velocity`` and ``dispersion`` (unit of V), (galaxy, y, x)."""

    intensity: Tensor
    velocity: Tensor
    dispersion: Tensor


def _fluxes(x: Tensor, y: Tensor, inclination: Tensor, r_z: Tensor, length: Tensor, light: Radial, curve: Radial, sigma, nodes: int):
    """Return F, P and Q (galaxy, 3, point) of the sight lines at ``x`` along and ``y`` across the major axis, (galaxy, point)."""
    angle = inclination.view(-1, 1, 1, 1)
    cos, sin = angle.cos().clamp(min=EDGE), angle.sin().clamp(min=EDGE)
    scale_height = r_z.view(-1, 1, 1, 1)
    across = torch.sqrt(y.square() + _SOFT**2).unsqueeze(1).unsqueeze(-1)  # (galaxy, 1, point, 1)
    points = sight_lines(cos, sin, length.view(-1, 1, 1, 1), scale_height, across, nodes)
    in_plane, height, log_weight = (p.squeeze(-1) for p in points)  # (galaxy, node, point)
    radius = torch.sqrt(in_plane.square() + x.square().unsqueeze(1) + _SOFT**2)
    scale_height = scale_height.squeeze(-1)
    weight = torch.exp(log_weight - height / scale_height) * light(radius) / (2 * scale_height)
    velocity = curve(radius) * (angle.sin().squeeze(-1) * x.unsqueeze(1) / radius)
    local = sigma(radius) if isinstance(sigma, Radial) else sigma.view(-1, 1, 1)
    return torch.stack([weight.sum(1), (weight * velocity).sum(1), (weight * (velocity.square() + local.square())).sum(1)], dim=1)


def _means(maps: Tensor, core: Tensor) -> Tensor:
    """Return the means over the pixels of maps (galaxy, map, y, x) that hold values at centres; those of the core are given.

    Elsewhere the mean of a smooth function, I + (its second differences)/24.
    """
    around = torch.nn.functional.pad(maps, (1, 1, 1, 1), mode="replicate")
    across = around[..., 1:-1, 2:] + around[..., 1:-1, :-2] + around[..., 2:, 1:-1] + around[..., :-2, 1:-1]
    first, side = (maps.shape[-1] - core.shape[-1]) // 2, core.shape[-1]
    border = [first, maps.shape[-1] - first - side] * 2
    inside = torch.nn.functional.pad(torch.ones_like(core[:1, :1], dtype=torch.bool), border)
    return torch.where(inside, torch.nn.functional.pad(core, border), maps + (across - 4 * maps) / 24)


def observe_disc(
    inclination_deg: Tensor,
    light: Radial,
    curve: Radial,
    *,
    axis_deg: Tensor | float = 0.0,
    centre: tuple[Tensor | float, Tensor | float] = (0.0, 0.0),
    thickness: Tensor | float = 1.0,
    v_sys: Tensor | float = 0.0,
    dispersion: Radial | Tensor | float = 0.0,
    beam: Beam | None = None,
    accuracy: Accuracy = Accuracy(),
    decay_length: Tensor | None = None,
    size: int = STAMP,
) -> ObservedMaps:
    """Return what is seen of discs of any light profile and rotation curve. All lengths are in pixels, here and in the profiles.

    Parameters
    ----------
    inclination_deg : Tensor, (galaxy,)
        0-90, 0 = face-on. Its dtype and device are those of the maps.
    light, curve : Radial
        Surface brightness S(R) face-on, and rotation velocity V(R) in the plane (not times sin i), R in pixels.
    axis_deg, centre : (galaxy,) or number
        Direction of the receding half of the major axis, counter-clockwise from +x; (x, y) of the centre from the map's middle.
    thickness : (galaxy,) or number
        Scale height r_z > 0; 0.003 is a thin disc.
    v_sys, dispersion : (galaxy,) or number
        Added to the velocity; local dispersion of the gas, which may also be a `Radial` of R.
    beam : Beam, optional
        Elliptical Gaussian beams. Light from as far outside the map as the widest beam of the batch reaches is brought in.
    decay_length : Tensor, (galaxy,), optional
        About how far S(R) falls by e, to place the quadrature's nodes; known for the profiles of `disc.profiles`.
    size : int
        Pixels along a side.

    Raises `ModelError` where the light's decay length is not known. NaN parameters give NaN maps of that galaxy alone. Velocity
    and dispersion tend to v_sys and 0 where no light is. Differentiable in all parameters; the derivative of a dispersion of 0 is 0.
    """
    if decay_length is None:
        if light.function not in _DECAY_LENGTHS:
            raise ModelError(f"observe_disc: the decay length of {light.function.__name__} is not known; give decay_length (pixels).")
        decay_length = _DECAY_LENGTHS[light.function](*light.parameters)

    def each(value: Tensor | float) -> Tensor:
        return torch.as_tensor(value, dtype=inclination_deg.dtype, device=inclination_deg.device).expand_as(inclination_deg)

    axis = torch.deg2rad(each(axis_deg)).view(-1, 1)
    x0, y0 = (each(c).view(-1, 1) for c in centre)
    sigma = dispersion if isinstance(dispersion, Radial) else each(dispersion)
    r_z, inclination = each(thickness), torch.deg2rad(inclination_deg)

    def fluxes(side: int, subpixels: int) -> Tensor:
        at = (torch.arange(side * subpixels, dtype=axis.dtype, device=axis.device) + 0.5) / subpixels - side / 2
        dx, dy = at.repeat(len(at)) - x0, at.repeat_interleave(len(at)) - y0  # (galaxy, point)
        along, across = dx * axis.cos() + dy * axis.sin(), dy * axis.cos() - dx * axis.sin()
        flat = _fluxes(along, across, inclination, r_z, decay_length, light, curve, sigma, accuracy.nodes)
        return torch.nn.functional.avg_pool2d(flat.unflatten(-1, (len(at), len(at))), subpixels)

    reach = 0 if beam is None else beam.reach()
    maps = fluxes(size + 2 * reach, 1)  # (galaxy, 3, y, x)
    faintest = torch.finfo(maps.dtype).tiny
    if beam is not None:
        if accuracy.subpixels > 1:
            core = min(2 * accuracy.core + size % 2, size)
            maps = _means(maps, fluxes(core, accuracy.subpixels))
        maps = smear_maps(maps, beam, reach, cell_means=accuracy.subpixels > 1)
        faintest = 1e-12 * maps[:, 0].detach().amax((1, 2), keepdim=True)  # what the transforms leave of no light is below
    flux = maps[:, 0].clamp(min=faintest)
    velocity, square = maps[:, 1] / flux, maps[:, 2] / flux
    variance = square - velocity.square()
    some = variance > 4 * torch.finfo(maps.dtype).eps * square
    spread = torch.where(some, torch.where(some, variance, 1).sqrt(), variance * 0)
    return ObservedMaps(maps[:, 0], velocity + each(v_sys).view(-1, 1, 1), spread)
