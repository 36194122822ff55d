"""Errors of a fit from what its residuals are, not from what the noise was said to be: the spatial sandwich.

With g(x) = J^T W r of a pixel (its share of the gradient, Huber's weight in it), the covariance of a fit is

    C = H^-1 M H^-1,   M = sum over pairs of pixels of K(x - x') g(x) g(x')^T

(Huber 1967; White 1980; with a kernel over the plane Conley 1999). K is a Gaussian whose integral is the area of one independent
measurement, a square of ``width`` pixels, wider than the beam: noise correlated by beam and resampling and mismatch of the model on
such scales are in the errors. A galaxy with few such areas says little of M itself, whose k^2 elements come from B areas; M is then
drawn towards the one-number estimate per map

    M_0 = sum over maps of t H_map,   t = sum of K r r' / sum of r'r  (times the mean square of r),

as M_w = (B M + k M_0) / (B + k). Both are multiplied by B / (B - k) at most `_LARGEST_BOOST`, for what the fit took from its residuals.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["MapScores", "design_effect", "sandwich"]

_LARGEST_BOOST = 3.0  # of the variance; reached where there are 1.5 measurements a parameter
_SINGULAR = 1e-10  # smallest eigenvalue of the scaled curvature: below it the maps do not fix the parameters
_SIGMA_PER_WIDTH = 1 / math.sqrt(2 * math.pi)  # a Gaussian of this sigma covers as much as a square of width 1


@dataclass(frozen=True)
class MapScores:
    """One map at the optimum: ``by`` (galaxy, k, y, x) and ``residual`` (galaxy, y, x), both over the error, 0 where invalid.

    ``weight`` (galaxy, y, x) is that of the robust loss; ``inside`` (galaxy, y, x) where the loss is still quadratic.
    """

    by: Tensor
    residual: Tensor
    weight: Tensor
    inside: Tensor


def _smooth(maps: Tensor, width: Tensor) -> Tensor:
    """Return maps (galaxy, k, y, x) convolved with each galaxy's kernel, whose value at 0 is 1; nothing lies outside the map."""
    at = torch.arange(maps.shape[-1], device=maps.device, dtype=maps.dtype)
    sigma = (width * _SIGMA_PER_WIDTH).to(maps).view(-1, 1, 1)
    kernel = torch.exp(-(at.view(-1, 1) - at).square() / (2 * sigma.square())).unsqueeze(1)
    return kernel @ maps @ kernel


def design_effect(residual: Tensor, valid: Tensor, width: Tensor) -> Tensor:
    """Return how many pixels make one independent measurement, (galaxy,), of residuals (galaxy, y, x): from 1 to ``width`` squared.

    The ratio of the summed products of neighbours, by the kernel, to the sum of squares (Kish 1965).
    """
    known = torch.where(valid, residual, 0)
    near = (_smooth(known.unsqueeze(1), width).squeeze(1) * known).sum((1, 2))
    ratio = (near / known.square().sum((1, 2))).nan_to_num(1.0)
    return torch.minimum(ratio.clamp(min=1.0), width.to(ratio).square().clamp(min=1.0)).double()


def sandwich(maps: Sequence[MapScores], prior_weight: Tensor, prior_variance: Tensor, valid: Tensor, width: Tensor) -> Tensor:
    """Return the covariance (galaxy, k, k), float64; inf where the maps do not fix the parameters.

    Parameters
    ----------
    maps : sequence of MapScores
        The maps that were fitted, at the optimum.
    prior_weight, prior_variance : Tensor, (galaxy, k)
        What normal priors add to H and to M: both are their precision where a pixel is one measurement.
    valid : Tensor, (galaxy, y, x)
        Pixels that count.
    width : Tensor, (galaxy,)
        Side of the area of one independent measurement, pixels.

    NaN of one galaxy gives it inf and stays there.
    """
    k = prior_weight.shape[1]
    bread, simple, score = torch.diag_embed(prior_weight), 0, 0
    areas = valid.sum((1, 2)) / width.square()
    for each in maps:
        flat = (each.by * each.inside.unsqueeze(1)).flatten(2)
        curvature = (flat @ each.by.flatten(2).mT).double()
        pulled = each.residual * each.weight
        correlated = (_smooth(pulled.unsqueeze(1), width).squeeze(1) * pulled).sum((1, 2)).double()
        number = each.inside.logical_and(valid).sum((1, 2)).clamp(min=1)
        bread = bread + curvature
        simple = simple + curvature * (correlated / number).view(-1, 1, 1)
        score = score + each.by * pulled.unsqueeze(1)
    meat = (_smooth(score, width).flatten(2) @ score.flatten(2).mT).double()
    share = (areas / (areas + k)).view(-1, 1, 1)
    boost = (areas / (areas - k).clamp(min=1e-9)).clamp(max=_LARGEST_BOOST).view(-1, 1, 1)
    meat = (share * meat + (1 - share) * simple) * boost + torch.diag_embed(prior_variance)  # priors have no residuals
    usable = (bread.isfinite() & meat.isfinite()).all(-1).all(-1) & (areas > 1)
    diagonal = bread.diagonal(dim1=1, dim2=2)
    usable = usable & (diagonal > 0).all(-1)
    unit = torch.eye(k, dtype=bread.dtype, device=bread.device)
    root = torch.where(usable.unsqueeze(-1), diagonal, 1).sqrt()
    scale = root.unsqueeze(1) * root.unsqueeze(2)
    scaled = torch.where(usable.view(-1, 1, 1), bread / scale, unit)
    usable = usable & (torch.linalg.eigvalsh(scaled)[:, 0] > _SINGULAR)
    inverse = torch.linalg.inv(torch.where(usable.view(-1, 1, 1), scaled, unit))
    covariance = inverse @ torch.where(usable.view(-1, 1, 1), meat / scale, unit) @ inverse / scale
    return torch.where(usable.view(-1, 1, 1), covariance, torch.inf)
