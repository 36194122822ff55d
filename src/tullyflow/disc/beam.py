"""A circular Gaussian beam: convolve I and I v, then divide (Dawson+2021 sections 3.1.2 and 4 name it as the next step).

The beam is separable, so a convolution is two products with a matrix of cell integrals: exact flux bookkeeping, differentiable
in the width, and cheap for a whole batch with a beam per galaxy.
"""

import math

import torch
from torch import Tensor

from tullyflow.conventions import FWHM_PER_SIGMA

__all__ = ["beam_matrix", "cell_grid", "convolve_beam", "smear_quadrant"]

_BEYOND = (2.0, 2.0, 4.0, 4.0)  # widths (pixels) of the cells outside the stamp whose flux the beam brings in
_SHARPEST = 1e-3  # sigma (pixels) that stands for no beam: its matrix is the identity to the last digit


def cell_grid(half: int, beyond: bool, like: Tensor) -> Tensor:
    """Return the edges of the cells of a half axis, in pixels from the centre: ``half`` pixels, and 12 more in coarse cells."""
    edges = torch.arange(half + 1, dtype=like.dtype, device=like.device)
    if beyond:
        widths = torch.tensor(_BEYOND, dtype=like.dtype, device=like.device)
        edges = torch.cat([edges, half + widths.cumsum(0)])
    return edges


def beam_matrix(fwhm: Tensor, edges: Tensor, at: Tensor) -> Tensor:
    """Return the share of each cell's flux that a beam brings to each point, (galaxy, point, cell).

    ``fwhm`` (galaxy,) in the unit of ``edges`` (cell + 1,) and ``at`` (point,), cells of width 1. A cell's value stands for its
    centre, so the cell's own variance 1/12 is taken off the beam's; below a FWHM of 0.68 the beam is none.
    """
    variance = (fwhm / FWHM_PER_SIGMA).square() - 1 / 12
    sigma = variance.clamp(min=_SHARPEST**2).sqrt().view(-1, 1, 1)
    cumulative = torch.erf((edges.view(1, 1, -1) - at.view(1, -1, 1)) / (sigma * math.sqrt(2)))
    return cumulative.diff(dim=-1) / 2


def smear_quadrant(
    intensity: Tensor, velocity: Tensor, fwhm: Tensor, edges: Tensor, half: int, cut_velocity: bool = False
) -> tuple[Tensor, Tensor]:
    """Smear a quadrant (galaxy, cell, cell) given beyond the stamp, and return it on the stamp (galaxy, half, half).

    Intensity is even in x and y, velocity odd in x: the other quadrants enter through the mirrored beam.
    ``cut_velocity`` keeps the velocity's gradient off the intensity.
    """
    at = (edges[1 : half + 1] + edges[:half]) / 2
    near, far = beam_matrix(fwhm, edges, at), beam_matrix(fwhm, edges, -at)
    even, odd = near + far, near - far
    smeared = even @ intensity @ even.mT
    flux = intensity.detach() if cut_velocity else intensity
    total = smeared.detach() if cut_velocity else smeared
    return smeared, even @ (flux * velocity) @ odd.mT / total.clamp(min=torch.finfo(total.dtype).tiny)


def convolve_beam(intensity: Tensor, velocity: Tensor, fwhm: Tensor) -> tuple[Tensor, Tensor]:
    """Convolve whole maps (galaxy, y, x) with a beam of ``fwhm`` pixels (galaxy,) each; the velocity is flux-weighted.

    Flux that leaves the map is lost and none comes in from outside it. NaN spreads: fill masked pixels with zero flux first.
    Returns (intensity, velocity); velocity is 0 where no flux arrives.
    """
    size_y, size_x = intensity.shape[-2:]
    by = {n: torch.arange(n + 1, dtype=intensity.dtype, device=intensity.device) for n in {size_y, size_x}}
    along = {n: beam_matrix(fwhm, edges, (edges[1:] + edges[:-1]) / 2) for n, edges in by.items()}
    smeared = along[size_y] @ intensity @ along[size_x].mT
    momentum = along[size_y] @ (intensity * velocity) @ along[size_x].mT
    return smeared, momentum / smeared.clamp(min=torch.finfo(smeared.dtype).tiny)
