"""What a disc leaves of its maps: residuals and derivatives over the errors, robust weights, and what they sum up to.

Residuals are weighed by the errors given and, beyond ``clip`` of them, by Huber's loss: a bar or a bad spaxel pulls no more than its
sign. Priors weigh as their errors say against so many pixels as make one independent measurement: thousands of correlated ones would
outvote them.

A bulge or a hole would drag the scale length and with it the inclination. With ``central_light`` the intensity has a round Gaussian in
the middle, sigma^2 = (beam / 2.355)^2 + (r_scale / 5)^2, of an amplitude of either sign that is solved for at every step and taken out
of residuals and derivatives alike (variable projection, Golub & Pereyra 1973, in Kaufman's approximation).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tullyflow.conventions import FWHM_PER_SIGMA
from tullyflow.disc.coordinates import physical
from tullyflow.disc.curve_shapes import CurveShape
from tullyflow.disc.gradients import disc_gradients
from tullyflow.disc.levenberg import State
from tullyflow.disc.sandwich import MapScores, sandwich

__all__ = ["DiscData", "Loss", "Prior"]

_CENTRAL_SIZE = 0.2  # sigma of the central light without the beam, in scale lengths


@dataclass(frozen=True)
class DiscData:
    """Stamps (galaxy, y, x) with 1 sigma of each pixel, which pixels count, and the beam's FWHM (galaxy,) in pixels, or None."""

    intensity: Tensor
    intensity_err: Tensor
    velocity: Tensor
    velocity_err: Tensor
    valid: Tensor
    beam: Tensor | None

    def select(self, rows: Tensor) -> "DiscData":
        beam = None if self.beam is None else self.beam[rows]
        maps = (self.intensity, self.intensity_err, self.velocity, self.velocity_err, self.valid)
        return DiscData(*(part[rows] for part in maps), beam)


@dataclass(frozen=True)
class Prior:
    """Normal priors about ``at`` (galaxy, 9), which weigh ``precision`` (galaxy, 9), 0 where there is none, and pull with ``variance``."""

    at: Tensor
    precision: Tensor
    variance: Tensor

    def select(self, rows: Tensor) -> "Prior":
        return Prior(self.at[rows], self.precision[rows], self.variance[rows])


def _huber(residual: Tensor, clip: float) -> Tensor:
    return clip / residual.abs().clamp(min=clip)


def _without_centre(residual: Tensor, by: Tensor, inverse: Tensor, parameters: Tensor, data: DiscData, width: float, clip: float):
    """Take central light of normal amplitude, 0 +- ``width`` of the peak, out of the intensity's residual and derivatives."""
    half = residual.shape[-1] / 2
    at = torch.arange(residual.shape[-1], device=residual.device, dtype=residual.dtype) - half + 0.5
    r_scale, x, y = (parameters[:, k].view(-1, 1, 1) for k in (1, 5, 6))
    variance = (_CENTRAL_SIZE * half * r_scale).square()
    if data.beam is not None:
        variance = variance + (data.beam / FWHM_PER_SIGMA).square().view(-1, 1, 1)
    light = torch.exp(-((at.view(1, 1, -1) - x).square() + (at.view(1, -1, 1) - y).square()) / (2 * variance)) * inverse
    weighted = (light * _huber(residual, clip)).flatten(1).unsqueeze(-1)
    norm = light.flatten(1).unsqueeze(1) @ weighted + width**-2
    amplitude = (residual.flatten(1).unsqueeze(1) @ weighted) / norm
    residual, by = residual - amplitude * light, by - (by.flatten(2) @ weighted / norm).unsqueeze(-1) * light.unsqueeze(1)
    return residual, _huber(residual, clip), by


@dataclass(frozen=True)
class Loss:
    """The loss of discs seen as ``data``; ``nodes`` and ``cells`` as in `disc.gradients.disc_gradients`.

    Parameters are `disc.coordinates.scaled` ones, (galaxy, 9) or (galaxy, 10).
    """

    data: DiscData
    prior: Prior
    use_intensity: bool
    clip: float
    curve: CurveShape
    central_light: float
    nodes: int
    cells: int = 1

    def select(self, rows: Tensor) -> "Loss":
        return replace(self, data=self.data.select(rows), prior=self.prior.select(rows))

    def terms(self, scaled: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield for each map the residual over its error, Huber's weight, and the derivatives over the error (galaxy, 9, y, x)."""
        data, parameters = self.data, physical(scaled).to(self.data.velocity)
        model = disc_gradients(parameters, data.beam, self.nodes, curve=self.curve, cells=self.cells)
        maps = [(data.velocity, data.velocity_err, model.velocity, model.by_velocity)]
        if self.use_intensity:
            maps.append((data.intensity, data.intensity_err, model.intensity, model.by_intensity))
        for seen, error, expected, changes in maps:
            inverse = torch.where(data.valid, error.reciprocal(), 0)
            residual, by = torch.where(data.valid, seen - expected, 0) * inverse, changes * inverse.unsqueeze(1)
            if self.central_light and seen is data.intensity:
                yield _without_centre(residual, by, inverse, parameters, data, self.central_light, self.clip)
            else:
                yield residual, _huber(residual, self.clip), by

    def state(self, scaled: Tensor) -> State:
        """Return the loss, and how it changes, at ``scaled``."""
        prior, clip = self.prior, self.clip
        off = scaled - prior.at
        cost, gradient = (prior.precision * off.square()).sum(1) / 2, -prior.precision * off
        curvature = torch.diag_embed(prior.precision)
        for residual, weight, by in self.terms(scaled):
            size = residual.abs()
            cost = cost + torch.where(size < clip, size.square() / 2, clip * (size - clip / 2)).double().sum((1, 2))
            weighted, flat = (by * weight.unsqueeze(1)).flatten(2), by.flatten(2)
            gradient = gradient + (weighted @ residual.flatten(1).unsqueeze(-1)).squeeze(-1).double()
            curvature = curvature + (weighted @ flat.mT).double()
        return State(cost, gradient, curvature)

    def covariance(self, scaled: Tensor, free: list[int], block: Tensor) -> Tensor:
        """Return the covariance (galaxy, free, free) of `disc.sandwich`, inf where the maps do not fix the parameters."""
        maps = [MapScores(by[:, free], residual, weight, residual.abs() < self.clip) for residual, weight, by in self.terms(scaled)]
        return sandwich(maps, self.prior.precision[:, free], self.prior.variance[:, free], self.data.valid, block)
