"""Fit a curve of `disc.curve_shapes` to what a map says of V(R): Levenberg-Marquardt on a few numbers per galaxy, all at once."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tullyflow.conventions import HALF_WIDTH
from tullyflow.disc.curve_shapes import CurveShape, pinned, turning
from tullyflow.disc.radial_response import KNOTS

__all__ = ["MOVES", "FittedShape", "MapNumbers", "curve_derivatives", "fit_shape"]

MOVES = 4  # v_sys, centre x, centre y, axis
_STEPS = 40
_TURN_PRIOR, _SLOPE_PRIOR = 1.5, 0.5  # 1 sigma of normal priors on ln r_turn about its start, on the outer slope about 0
_LOW, _HIGH = (math.log(1e-3), math.log(3.0), -1.5), (math.log(10.0), math.log(5000.0), 1.5)
_LONGEST = (0.7, 0.4, 0.4)
_LARGEST_BOOST = 3.0  # of the variance, for what a fit takes from its residuals
_CONVERGED = 1e-3  # of the chi2 of one measurement: the longest step left


@dataclass(frozen=True)
class MapNumbers:
    """chi2 = c - 2 b u + u G u of a map (galaxy,), for u (galaxy, knot + 4) = V sin i at the knots and the four moves."""

    c: Tensor
    b: Tensor
    g: Tensor

    def chi2(self, u: Tensor) -> Tensor:
        return self.c - 2 * (self.b * u).sum(1) + torch.einsum("gk,gkl,gl->g", u, self.g, u)


@dataclass(frozen=True)
class FittedShape:
    """A fit: ``parameters`` (galaxy, 3) r_turn, V sin i and outer slope; u, its Jacobian (galaxy, knot + 4, free) and the curvature.

    ``prior`` (galaxy, free) is the priors' precision, ``unit`` (galaxy,) the chi2 of one measurement.
    """

    parameters: Tensor
    u: Tensor
    jacobian: Tensor
    curvature: Tensor
    prior: Tensor
    unit: Tensor
    chi2: Tensor
    converged: Tensor

    def covariance(self, score: Tensor, blocks: Tensor) -> Tensor:
        """Return the sandwich covariance (galaxy, 3, 3) of ln r_turn, ln V and the outer slope (0 where it is not free).

        ``score`` (galaxy, knot + 4, block) sums the weighed residuals times the design over blocks; ``blocks`` (galaxy,) counts those
        that hold any. inf where the curvature is singular. What few blocks say is drawn towards ``unit`` times the curvature, and the
        priors enter, as in `disc.sandwich`.
        """
        free = self.jacobian.shape[2]
        scores = self.jacobian.mT @ score
        share, unit = (blocks / (blocks + free)).view(-1, 1, 1), self.unit.view(-1, 1, 1)
        simple = (self.curvature - torch.diag_embed(self.prior)) * unit
        meat = share * (scores @ scores.mT) + (1 - share) * simple
        meat = meat * (blocks / (blocks - free).clamp(min=1)).view(-1, 1, 1).clamp(max=_LARGEST_BOOST) + torch.diag_embed(self.prior) * unit
        root = self.curvature.diagonal(dim1=1, dim2=2).clamp(min=1e-300).sqrt()
        scale = root.unsqueeze(1) * root.unsqueeze(2)
        inverse, failed = torch.linalg.inv_ex(self.curvature / scale)
        inverse = inverse / scale
        found = (inverse @ meat @ inverse)[:, : free - MOVES, : free - MOVES]
        sound = (failed == 0) & found.isfinite().all(-1).all(-1)
        whole = torch.zeros((len(found), 3, 3), dtype=found.dtype, device=found.device)
        whole[:, : free - MOVES, : free - MOVES] = torch.where(sound.view(-1, 1, 1), found, torch.inf)
        return whole


def curve_derivatives(curve: CurveShape, radius: Tensor, parameters: Tensor, r_scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return V for V = 1, d ln V/d ln R (galaxy, radius), and d ln V/d (ln r_turn, ln V, outer slope) (galaxy, radius, 3).

    ``radius`` (galaxy, radius) > 0, ``parameters`` (galaxy, 3) of r_turn, V, outer slope, ``r_scale`` (galaxy,), lengths in one unit.
    """
    turn, beta, scale = parameters[:, :1], parameters[:, 2:], r_scale.unsqueeze(1)
    per_radius, slope, growth = turning(curve, radius, turn, beta, scale)
    steep = slope / per_radius
    if growth is None:
        return radius * per_radius, steep, torch.stack([-steep, torch.ones_like(steep), torch.zeros_like(steep)], dim=-1)
    return radius * per_radius, steep, torch.stack([pinned(beta, turn, scale) - steep, torch.ones_like(steep), growth], dim=-1)


def fit_shape(
    curve: CurveShape, numbers: MapNumbers, start: Tensor, about: Tensor, r_scale: Tensor, unit: Tensor
) -> FittedShape:
    """Fit a curve, with the moves, from ``start`` (galaxy, 3): r_turn (half-widths), V sin i and outer slope.

    ``about`` (galaxy,) is the r_turn its prior is about, ``unit`` (galaxy,) the chi2 of one measurement, by which the priors weigh.
    Galaxies with NaN anywhere keep it to themselves.
    """
    shapes = 3 if curve == "slope" else 2
    knots = torch.tensor(KNOTS, dtype=torch.float64, device=start.device).expand(len(start), -1) / HALF_WIDTH
    unbound = (math.inf,) * MOVES
    low = start.new_tensor((*_LOW[:shapes], *(-m for m in unbound)))
    high, longest = start.new_tensor((*_HIGH[:shapes], *unbound)), start.new_tensor((*_LONGEST[:shapes], *unbound))
    scaled = torch.cat([start[:, :2].log(), start[:, 2:shapes], start.new_zeros((len(start), MOVES))], dim=1).clamp(low, high)
    prior, expected = torch.zeros_like(scaled), torch.zeros_like(scaled)
    prior[:, 0], expected[:, 0] = unit / _TURN_PRIOR**2, about.log()
    prior[:, 2:shapes] = (unit / _SLOPE_PRIOR**2).unsqueeze(1)

    def state(scaled: Tensor) -> tuple[Tensor, ...]:
        shape = torch.cat([scaled[:, :2].exp(), scaled[:, 2:shapes], scaled.new_zeros((len(scaled), 3 - shapes))], dim=1)
        value, _, by = curve_derivatives(curve, knots, shape, r_scale)
        speed = shape[:, 1:2] * value
        jacobian = torch.nn.functional.pad(speed.unsqueeze(-1) * by[..., :shapes], (0, MOVES, 0, MOVES))
        jacobian[:, range(-MOVES, 0), range(-MOVES, 0)] = 1
        u = torch.cat([speed, scaled[:, shapes:]], dim=1)
        off, across = prior * (scaled - expected), numbers.g @ jacobian
        gradient = torch.einsum("gkp,gk->gp", jacobian, numbers.b) - torch.einsum("gkp,gk->gp", across, u) - off
        curvature = jacobian.mT @ across + torch.diag_embed(prior)
        return shape, u, jacobian, curvature, gradient, numbers.chi2(u) + (off * (scaled - expected)).sum(1)

    now = state(scaled)
    damping, left = torch.full_like(unit, 1e-3), torch.full_like(unit, torch.inf)
    for _ in range(_STEPS):
        curvature, gradient, cost = now[3:]
        root = curvature.diagonal(dim1=1, dim2=2).clamp(min=1e-12).sqrt()
        system = curvature / (root.unsqueeze(1) * root.unsqueeze(2)) + torch.diag_embed((damping.unsqueeze(1) + 1e-9).expand_as(root))
        step, failed = torch.linalg.solve_ex(system, gradient / root)
        step = torch.where((failed == 0).unsqueeze(1) & step.isfinite(), step / root, 0).clamp(-longest, longest)
        after = (scaled + step).clamp(low, high)
        trial = state(after)
        better = trial[-1] <= cost
        left = torch.where(better, ((after - scaled) * root).square().amax(1), left)
        scaled = torch.where(better.unsqueeze(1), after, scaled)
        now = tuple(torch.where(better.view(-1, *[1] * (new.ndim - 1)), new, old) for new, old in zip(trial, now, strict=True))
        damping = (damping * torch.where(better, 0.1, 10.0)).clamp(1e-9, 1e9)
        settled = (left < _CONVERGED * unit) | ~cost.isfinite() | (damping > 1e6)
        if settled.all():
            break
    shape, u, jacobian, curvature = now[:4]
    within = ((scaled > low) & (scaled < high)).all(1)
    return FittedShape(shape, u, jacobian, curvature, prior, unit, numbers.chi2(u), within & (left < 10 * _CONVERGED * unit))
