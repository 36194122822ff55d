"""Gaussian beams, one per galaxy: convolve I and I v, then divide (Dawson+2021 sections 3.1.2 and 4 name it as the next step).

A round beam is separable, so a convolution is two products with a matrix of cell integrals: exact flux bookkeeping, differentiable
in the width, and cheap for a whole batch. An elliptical one at any angle is a kernel, applied by Fourier transforms.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tullyflow.conventions import FWHM_PER_SIGMA

__all__ = ["Beam", "beam_kernel", "beam_matrix", "cell_grid", "central_means", "smear_maps", "smear_quadrant"]

_BEYOND = (2.0, 2.0, 4.0, 4.0)  # widths (pixels) of the cells outside the stamp whose flux the beam brings in
_SHARPEST = 1e-3  # sigma (pixels) that stands for no beam: its matrix is the identity to the last digit
_REACH = 3.5  # sigma
_FINE = 5  # points along a pixel's side
_NARROWEST = 0.12  # sigma (pixels): 5 points a pixel still follow it, and 3e-5 of the flux leaves the pixel


def cell_grid(half: int, beyond: bool, like: Tensor) -> Tensor:
    """Return the edges of the cells of a half axis, in pixels from the centre: ``half`` pixels, and 12 more in coarse cells."""
    edges = torch.arange(half + 1, dtype=like.dtype, device=like.device)
    if beyond:
        widths = torch.tensor(_BEYOND, dtype=like.dtype, device=like.device)
        edges = torch.cat([edges, half + widths.cumsum(0)])
    return edges


def central_means(edges: Tensor, half: int, split: int) -> tuple[Tensor, Tensor]:
    """Return where to sample a half axis (sample,), and the matrix (cell, sample) that makes the cells' means of the samples.

    The two innermost pixels get ``split`` samples each, since there a disc changes within a pixel. Every other pixel gets one, at
    its centre, and I + (its second difference)/24, the mean of a smooth function; the coarse cells beyond keep their centres' values.
    """
    fine = 2 * split
    inner = (torch.arange(fine, dtype=edges.dtype, device=edges.device) + 0.5) / split
    at = torch.cat([inner, ((edges[1:] + edges[:-1]) / 2)[2:]])
    means = torch.zeros((len(edges) - 1, len(at)), dtype=edges.dtype, device=edges.device)
    for pixel in (0, 1):
        means[pixel, pixel * split : (pixel + 1) * split] = 1 / split
    means[2:, fine:] = torch.eye(len(edges) - 3, dtype=edges.dtype, device=edges.device)
    bend = torch.zeros_like(means)
    bend[2 : half - 1] = (means[1 : half - 2] - 2 * means[2 : half - 1] + means[3:half]) / 24
    return at, means + bend


def beam_matrix(fwhm: Tensor, edges: Tensor, at: Tensor, cell_means: bool = False) -> Tensor:
    """Return the share of each cell's flux that a beam brings to each point, (galaxy, point, cell).

    ``fwhm`` (galaxy,) in the unit of ``edges`` (cell + 1,) and ``at`` (point,), cells of width 1. A cell's value stands for its
    centre, so the cell's own variance 1/12 is taken off the beam's; below a FWHM of 0.68 the beam is none. If cells hold the means
    over their width (``cell_means``) another 1/12 is taken off; below a FWHM of 0.96 the beam is none.
    """
    variance = (fwhm / FWHM_PER_SIGMA).square() - (1 + cell_means) / 12
    sigma = variance.clamp(min=_SHARPEST**2).sqrt().view(-1, 1, 1)
    cumulative = torch.erf((edges.view(1, 1, -1) - at.view(1, -1, 1)) / (sigma * math.sqrt(2)))
    return cumulative.diff(dim=-1) / 2


def smear_quadrant(
    intensity: Tensor, velocity: Tensor, fwhm: Tensor, edges: Tensor, half: int, cut_velocity: bool = False, means: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Smear a quadrant (galaxy, cell, cell) given beyond the stamp, and return it on the stamp (galaxy, half, half).

    Intensity is even in x and y, velocity odd in x: the other quadrants enter through the mirrored beam.
    ``cut_velocity`` keeps the velocity's gradient off the intensity. With ``means`` of `central_means` the quadrant is given at
    its samples (galaxy, sample, sample).
    """
    at = (edges[1 : half + 1] + edges[:half]) / 2
    near, far = (beam_matrix(fwhm, edges, points, means is not None) for points in (at, -at))
    even, odd = near + far, near - far
    if means is not None:
        even, odd = even @ means, odd @ means
    smeared = even @ intensity @ even.mT
    flux = intensity.detach() if cut_velocity else intensity
    total = smeared.detach() if cut_velocity else smeared
    return smeared, even @ (flux * velocity) @ odd.mT / total.clamp(min=torch.finfo(total.dtype).tiny)


@dataclass(frozen=True)
class Beam:
    """Elliptical Gaussian beams, each (galaxy,): FWHM along both axes in pixels, and where the major axis points.

    ``axis_deg`` is counter-clockwise from +x, period 180; `conventions.sky_to_image_angle` makes it of a beam's position angle.
    """

    major: Tensor
    minor: Tensor
    axis_deg: Tensor

    @classmethod
    def round(cls, fwhm: Tensor) -> "Beam":
        """Return circular beams of ``fwhm`` pixels, (galaxy,)."""
        return cls(fwhm, fwhm, torch.zeros_like(fwhm))

    def reach(self) -> int:
        """Return how many pixels from its centre the widest of these beams is followed: 3.5 sigma (0.2 % of its flux is beyond)."""
        widest = torch.nan_to_num(torch.maximum(self.major, self.minor)).max().item()
        return math.ceil(_REACH * widest / FWHM_PER_SIGMA)


def beam_kernel(beam: Beam, reach: int, cell_means: bool = False) -> Tensor:
    """Return the share of a pixel's flux that a beam brings to its neighbours, (galaxy, 2 reach + 1, 2 reach + 1), sum 1.

    The Gaussian exp(-q C^-1 q / 2) summed over 5 x 5 points of each pixel. As in `beam_matrix` a pixel's value stands for its centre:
    1/12 is taken off the variances, so that the kernel's own are the beam's; an axis narrower than a FWHM of 0.75 is as good as none.
    For ``cell_means``, pixels that hold the mean over their area, another 1/12 is taken off: the smeared map is the same.
    """
    axis = torch.deg2rad(beam.axis_deg).view(-1, 1, 1)
    cos, sin = axis.cos(), axis.sin()
    fine = (2 * reach + 1) * _FINE
    at = (torch.arange(fine, dtype=axis.dtype, device=axis.device) - (fine - 1) / 2) / _FINE
    x, y = at.view(1, 1, -1), at.view(1, -1, 1)
    exponent = torch.zeros_like(axis)
    for fwhm, along in ((beam.major, x * cos + y * sin), (beam.minor, y * cos - x * sin)):
        variance = (fwhm / FWHM_PER_SIGMA).square() - (1 + cell_means) / 12
        exponent = exponent - along.square() / (2 * variance.clamp(min=_NARROWEST**2).view(-1, 1, 1))
    kernel = torch.nn.functional.avg_pool2d(exponent.exp().unsqueeze(1), _FINE).squeeze(1)
    return kernel / kernel.sum((1, 2), keepdim=True)


def smear_maps(maps: Tensor, beam: Beam, reach: int, cell_means: bool = False) -> Tensor:
    """Convolve maps (galaxy, map, y, x) with each galaxy's beam and cut off the border of ``reach`` pixels that lacks its surroundings.

    For fluxes, not for velocities: smear I and I v, then divide. ``maps`` hold values at the pixels' centres or, ``cell_means``, means
    over the pixels; what is returned are values at centres. By Fourier transforms, in float64 where the device has it, so that
    what is left of the light far out keeps its digits: the error is 1e-15 of the brightest pixel. NaN stays in its galaxy.
    """
    work = torch.float32 if maps.device.type == "mps" else torch.float64
    size = maps.shape[-2:]
    kernel = beam_kernel(Beam(beam.major.to(work), beam.minor.to(work), beam.axis_deg.to(work)), reach, cell_means)
    smeared = torch.fft.irfft2(torch.fft.rfft2(maps.to(work)) * torch.fft.rfft2(kernel, s=size).unsqueeze(1), s=size)
    return smeared[..., 2 * reach :, 2 * reach :].to(maps)
