"""Fit discs to their maps: Levenberg-Marquardt for many galaxies at once, robust, with errors that know of correlated residuals.

The model is `disc.gradients`, beam included. Residuals are weighed by the errors given and, beyond ``clip`` of them, by Huber's loss:
a bar or a bad spaxel pulls no more than its sign. Errors are those of `disc.sandwich`, from the residuals. Where there are priors, an
area of one independent measurement counts as one: otherwise thousands of correlated pixels would outvote them.

A bulge or a hole would drag the scale length and with it the inclination. With ``central_light`` the intensity has a round Gaussian in
the middle, sigma^2 = (beam / 2.355)^2 + (r_scale / 5)^2, of an amplitude of either sign that is solved for at every step and taken out
of residuals and derivatives alike (variable projection, Golub & Pereyra 1973, in Kaufman's approximation).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tullyflow.conventions import FWHM_PER_SIGMA
from tullyflow.disc.curve_shapes import CurveShape
from tullyflow.disc.gradients import disc_gradients, names_of
from tullyflow.disc.sandwich import MapScores, sandwich
from tullyflow.errors import ModelError

__all__ = ["DiscData", "DiscFit", "fit_discs"]

_STEPS = (10.0, 0.4, 0.7, 0.4, 15.0, 2.0, 2.0, 40.0, 0.5, 0.4)  # the longest step of each of `NAMES`, and of the outer slope
_LOW = (3.0, math.log(0.02), math.log(1e-3), math.log(3.0), -180.0, -8.0, -8.0, -500.0, 1e-3, -1.5)
_HIGH = (89.5, math.log(3.0), math.log(10.0), math.log(3000.0), 180.0, 8.0, 8.0, 500.0, 1e3, 1.5)
_LOGS = (False, True, True, True, *[False] * 6)
_FIRST, _EASIER, _HARDER = 1e-2, 0.1, 8.0  # the damping, and what a good and a bad step make of it
_CENTRAL_SIZE = 0.2  # sigma of the central light without the beam, in scale lengths
_CONVERGED = 0.02  # standard errors, with a block as one measurement: the largest step left
_AT_A_TIME, _AT_A_TIME_GPU = 16, 512  # galaxies whose maps and derivatives stay in a processor's cache; that keep a GPU busy


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
class DiscFit:
    """What was found: ``parameters`` (galaxy, 9 or 10) as `disc.gradients` takes them.

    ``free`` names the fitted ones; ``covariance`` (galaxy, free, free) is in deg, ln, pixels and the velocity's unit, as
    `disc.gradients.DiscGradients` differentiates. ``by_held`` (galaxy, free, held) says how the fitted ones follow those of ``held``.
    ``converged`` (galaxy,) is False where a step of more
    than 0.02 sigma was left, the parameters sit at a limit or the maps do not fix them; ``covariance`` is inf where they do not.
    """

    free: tuple[str, ...]
    held: tuple[str, ...]
    parameters: Tensor
    covariance: Tensor
    by_held: Tensor
    converged: Tensor


@dataclass(frozen=True)
class _State:
    """At the present parameters: the cost (galaxy,), the gradient (galaxy, 9) and the curvature (galaxy, 9, 9) it falls by."""

    cost: Tensor
    gradient: Tensor
    curvature: Tensor


@dataclass(frozen=True)
class _Prior:
    """Normal priors about ``at`` (galaxy, 9): ``weight`` (galaxy, 9), their precision as pixels weigh it, ``variance`` that of its pull."""

    at: Tensor
    weight: Tensor
    variance: Tensor

    def select(self, rows: Tensor) -> "_Prior":
        return _Prior(self.at[rows], self.weight[rows], self.variance[rows])


def _scaled(parameters: Tensor) -> Tensor:
    return torch.stack([p.log() if log else p for p, log in zip(parameters.unbind(-1), _LOGS, strict=False)], dim=-1)


def _widened(parameters: Tensor, count: int) -> Tensor:
    """Return parameters (galaxy, count): those of curves with fewer have zeros beside them."""
    return torch.nn.functional.pad(parameters, (0, count - parameters.shape[1]))


def _physical(scaled: Tensor) -> Tensor:
    return torch.stack([p.exp() if log else p for p, log in zip(scaled.unbind(-1), _LOGS, strict=False)], dim=-1)


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


def _huber(residual: Tensor, clip: float) -> Tensor:
    return clip / residual.abs().clamp(min=clip)


def _terms(data: DiscData, parameters: Tensor, use_intensity: bool, clip: float, nodes: int, curve: CurveShape, central_light: float):
    """Yield for each map the residual over its error, Huber's weight, and the derivatives over the error (galaxy, 9, y, x)."""
    model = disc_gradients(parameters, data.beam, nodes, curve=curve)
    maps = [(data.velocity, data.velocity_err, model.velocity, model.by_velocity)]
    if use_intensity:
        maps.append((data.intensity, data.intensity_err, model.intensity, model.by_intensity))
    for seen, error, expected, changes in maps:
        inverse = torch.where(data.valid, error.reciprocal(), 0)
        residual, by = torch.where(data.valid, seen - expected, 0) * inverse, changes * inverse.unsqueeze(1)
        if central_light and seen is data.intensity:
            yield _without_centre(residual, by, inverse, parameters, data, central_light, clip)
        else:
            yield residual, _huber(residual, clip), by


def _evaluate(data: DiscData, scaled: Tensor, prior: "_Prior", clip: float, **setting) -> _State:
    off = scaled - prior.at
    cost, gradient, curvature = (prior.weight * off.square()).sum(1) / 2, -prior.weight * off, torch.diag_embed(prior.weight)
    for residual, weight, by in _terms(data, _physical(scaled).to(data.velocity), **setting, clip=clip):
        size = residual.abs()
        cost = cost + torch.where(size < clip, size.square() / 2, clip * (size - clip / 2)).double().sum((1, 2))
        weighted, flat = (by * weight.unsqueeze(1)).flatten(2), by.flatten(2)
        gradient = gradient + (weighted @ residual.flatten(1).unsqueeze(-1)).squeeze(-1).double()
        curvature = curvature + (weighted @ flat.mT).double()
    return _State(cost, gradient, curvature)


def _solve(curvature: Tensor, gradient: Tensor, damping: Tensor) -> Tensor:
    """Return the damped step (galaxy, k); a direction without any curvature is not moved along."""
    diagonal = curvature.diagonal(dim1=1, dim2=2)
    dead = diagonal <= 1e-12 * diagonal.amax(1, keepdim=True).clamp(min=1e-300)
    root = torch.where(dead, 1.0, diagonal).sqrt()
    scaled = curvature / (root.unsqueeze(1) * root.unsqueeze(2))
    scaled = scaled + torch.diag_embed(damping.unsqueeze(1) + torch.where(dead, 1.0, 1e-9))
    step, failed = torch.linalg.solve_ex(scaled, torch.where(dead, 0, gradient / root))
    return torch.where((failed == 0).unsqueeze(1) & step.isfinite(), step / root, 0)


def _covariance(data: DiscData, scaled: Tensor, prior: _Prior, free: list[int], block: Tensor, clip: float, **setting) -> Tensor:
    """Return the covariance (galaxy, free, free) of `disc.sandwich`, inf where the maps do not fix the parameters."""
    terms = _terms(data, _physical(scaled).to(data.velocity), **setting, clip=clip)
    maps = [MapScores(by[:, free], residual, weight, residual.abs() < clip) for residual, weight, by in terms]
    return sandwich(maps, prior.weight[:, free], prior.variance[:, free], data.valid, block)


def _fit(
    data: DiscData, start: Tensor, at: Tensor, chosen: list[int], precision: Tensor, block: Tensor, steps: int, setting: dict
) -> tuple[Tensor, ...]:
    """Fit one chunk; return what `DiscFit` holds, from ``parameters`` on."""
    low, high, longest = (torch.tensor(ends, dtype=torch.float64, device=start.device)[chosen] for ends in (_LOW, _HIGH, _STEPS))
    pixels = block.square().unsqueeze(1)
    scaled = _scaled(start)
    before = _Prior(_scaled(at), pixels * precision, pixels.square() * precision)
    scaled[:, chosen] = torch.minimum(torch.maximum(scaled[:, chosen], low), high)
    state = _evaluate(data, scaled, before, **setting)
    damping = torch.full((len(start),), _FIRST, dtype=torch.float64, device=start.device)
    going = state.cost.isfinite()
    left = torch.full_like(damping, torch.inf)
    for _ in range(steps - 1):
        rows = going.nonzero().squeeze(1)
        if not len(rows):
            break
        curvature, gradient = state.curvature[rows][:, chosen][:, :, chosen], state.gradient[rows][:, chosen]
        step = _solve(curvature, gradient, damping[rows]).clamp(-longest, longest)
        after = scaled[rows]
        after[:, chosen] = torch.minimum(torch.maximum(after[:, chosen] + step, low), high)
        moved = after[:, chosen] - scaled[rows][:, chosen]
        left[rows] = (moved.abs() * curvature.diagonal(dim1=1, dim2=2).sqrt()).amax(1)
        trial = _evaluate(data.select(rows), after, before.select(rows), **setting)
        better = trial.cost <= state.cost[rows]
        taken = rows[better]
        scaled[taken] = after[better]
        for now, new in ((state.cost, trial.cost), (state.gradient, trial.gradient), (state.curvature, trial.curvature)):
            now[taken] = new[better]
        damping[rows] = (damping[rows] * torch.where(better, _EASIER, _HARDER)).clamp(1e-8, 1e8)
        going[rows] = torch.where(better, left[rows] > _CONVERGED * block[rows], damping[rows] < 1e6)
    covariance = _covariance(data, scaled, before, chosen, block, **setting)
    within = ((scaled[:, chosen] > low) & (scaled[:, chosen] < high)).all(1)
    usable = covariance.isfinite().all(-1).all(-1)
    curvature = state.curvature[:, chosen]
    unit = torch.eye(len(chosen), dtype=torch.float64, device=start.device)
    inverse = torch.linalg.pinv(torch.where(usable.view(-1, 1, 1), curvature[:, :, chosen], unit), hermitian=True)
    by_held = -inverse @ curvature[:, :, [k for k in range(2) if k not in chosen]]
    return _physical(scaled), covariance, by_held, (left <= 5 * _CONVERGED * block) & within & usable


def fit_discs(
    data: DiscData,
    start: Tensor,
    free: Sequence[str] = ("r_turn", "v_max_sini", "axis_deg", "centre_x", "centre_y", "v_sys"),
    *,
    prior: Mapping[str, float | Tensor] | None = None,
    prior_at: Tensor | None = None,
    clip: float = 2.5,
    steps: int = 20,
    nodes: int = 4,
    curve: CurveShape = "arctan",
    central_light: float = 0.0,
    block: Tensor | float = 4.0,
) -> DiscFit:
    """Fit the ``free`` parameters of `disc.gradients.names_of` the curve, the others held where they start.

    Parameters
    ----------
    data : DiscData
        The intensity enters only where inclination or r_scale are free.
    start : Tensor, (galaxy, 9)
        Where to begin, and the values of what is held. For the curve "slope" (galaxy, 10), or an outer slope of 0 is added.
    prior : mapping, optional
        1 sigma by name, a number or (galaxy,), in deg, ln, pixels or the velocity's unit, of normal priors about ``prior_at``
        (galaxy, 9), or ``start``.
    clip : float
        Residuals beyond so many sigma weigh less (Huber 1964).
    steps : int
        The most evaluations of the model.
    curve : "arctan", "tanh" or "slope"
        One of `disc.curve_shapes`.
    central_light : float
        1 sigma of the amplitude of light in the middle that no exponential disc has, over the peak; 0 = there is none.
    block : Tensor, (galaxy,), or float
        Width of the covariance's blocks, pixels: 1.5 beams, or errors are too small where noise is correlated over a beam.

    A galaxy that does not converge comes back as far as it got, ``converged`` False. NaN stays in its galaxy.
    Raises `ModelError` for an unknown or missing name.
    """
    known = names_of(curve)
    if not free or set(free) - set(known):
        raise ModelError(f"fit_discs: {', '.join(set(free) - set(known)) or 'nothing'} cannot be fitted; known: {', '.join(known)}.")
    start, at = (_widened(given, len(known)).double() for given in (start, start if prior_at is None else prior_at))
    chosen = [known.index(name) for name in known if name in free]
    names, held = tuple(known[k] for k in chosen), tuple(name for name in known[:2] if name not in free)
    use_intensity = bool({"inclination_deg", "r_scale"} & set(free))
    precision = torch.zeros((len(start), len(known)), dtype=torch.float64, device=start.device)
    for name, sigma in (prior or {}).items():
        precision[:, known.index(name)] = torch.as_tensor(sigma, dtype=torch.float64, device=start.device) ** -2
    block = torch.as_tensor(block, dtype=torch.float64, device=start.device).expand(len(start))
    setting = {"use_intensity": use_intensity, "clip": clip, "nodes": nodes, "curve": curve, "central_light": central_light}
    chunk = _AT_A_TIME if start.device.type == "cpu" else _AT_A_TIME_GPU
    found = [
        _fit(data.select(rows), start[rows], at[rows], chosen, precision[rows], block[rows], steps, setting)
        for rows in torch.arange(len(start), device=start.device).split(chunk)
    ]
    return DiscFit(names, held, *(torch.cat(parts) for parts in zip(*found, strict=True)))
