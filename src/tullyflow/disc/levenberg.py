"""Levenberg-Marquardt within bounds for many small problems at once (Levenberg 1944; Marquardt 1963).

Steps are made in coordinates in which the problem is nearly quadratic, here those a `Coordinates` turns the parameters into. A
coordinate whose step would leave its range goes to the end of it, and the others answer to that; one that is at an end and wants
farther stays there and out of the equations (an active set, Nocedal & Wright 2006, ch. 16). A problem ends where the step that is left,
undamped, is short in its own metric: sqrt(g H^-1 g), Newton's decrement, bounds the step of every parameter in its standard errors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Coordinates", "Minimum", "State", "minimise"]

_EASIER, _HARDER = 0.1, 10.0  # what a good and a bad step make of the damping
_LEAST, _AFTER_A_BAD_STEP = 1e-8, 1e-2  # damping
_STUCK = 1e4  # damping: no step goes down any more


@dataclass(frozen=True)
class State:
    """At parameters (problem, k): the cost (problem,), the negative ``gradient`` (problem, k) and the ``curvature`` (problem, k, k)."""

    cost: Tensor
    gradient: Tensor
    curvature: Tensor

    def put(self, rows: Tensor, other: "State", chosen: Tensor) -> None:
        """Take over ``other``'s problems ``chosen`` as ``rows``."""
        for now, new in ((self.cost, other.cost), (self.gradient, other.gradient), (self.curvature, other.curvature)):
            now[rows[chosen]] = new[chosen]

    @classmethod
    def joined(cls, parts: Sequence["State"]) -> "State":
        """Return the states of several sets of problems as one."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("cost", "gradient", "curvature")))


@dataclass(frozen=True)
class Coordinates:
    """``forward`` and ``back`` turn parameters (problem, k) into coordinates and back; ``slope``, d parameter / d coordinate, of those.

    ``low``, ``high`` and ``longest`` (k,): ends of each coordinate and the longest step.
    """

    forward: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    low: Tensor
    high: Tensor
    longest: Tensor


@dataclass(frozen=True)
class Minimum:
    """Where it ended: ``parameters`` (problem, k), their `State`, ``evaluations`` (problem,), and ``left`` (problem,) as of ``tolerance``.

    ``within`` (problem,) is False where a parameter is at the end of its range.
    """

    parameters: Tensor
    state: State
    left: Tensor
    evaluations: Tensor
    within: Tensor

    def put(self, rows: Tensor, other: "Minimum", chosen: Tensor) -> None:
        """Take over ``other``'s problems ``chosen`` as ``rows``; evaluations add up."""
        self.state.put(rows, other.state, chosen)
        for now, new in ((self.parameters, other.parameters), (self.left, other.left), (self.within, other.within)):
            now[rows[chosen]] = new[chosen]
        self.evaluations[rows] += other.evaluations


def _scaled_system(curvature: Tensor, still: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the curvature with a unit diagonal, the root of the diagonal, and what does not move: ``still``, or without curvature."""
    diagonal = curvature.diagonal(dim1=1, dim2=2)
    dead = still | ~(diagonal > 1e-14 * diagonal.amax(1, keepdim=True).clamp(min=1e-300))
    root = torch.where(dead, 1.0, diagonal).sqrt()
    alive = (~dead).to(curvature)
    scaled = curvature / (root.unsqueeze(1) * root.unsqueeze(2)) * (alive.unsqueeze(1) * alive.unsqueeze(2))
    return scaled + torch.diag_embed(dead.to(curvature)), root, dead


def _solve(curvature: Tensor, gradient: Tensor, damping: Tensor, still: Tensor) -> Tensor:
    """Return the damped step (problem, k), 0 in what is ``still`` and in directions without any curvature."""
    scaled, root, dead = _scaled_system(curvature, still)
    scaled = scaled + torch.diag_embed((damping.unsqueeze(1) + 1e-12).expand_as(root))
    step, failed = torch.linalg.solve_ex(scaled, torch.where(dead, 0, gradient / root))
    return torch.where((failed == 0).unsqueeze(1) & step.isfinite(), step / root, 0)


def _bounded_step(at: Tensor, curvature: Tensor, gradient: Tensor, damping: Tensor, still: Tensor, space: Coordinates) -> Tensor:
    """Return the step (problem, k): what would leave its range goes to the end of it, the others answer."""
    step = _solve(curvature, gradient, damping, still)
    ends = torch.minimum(torch.maximum(at + step, space.low), space.high) - at
    ends = torch.where(still, 0, ends)
    out = ends != step
    if out.any():
        fixed = torch.where(out, ends, 0)
        answer = _solve(curvature, gradient - (curvature @ fixed.unsqueeze(-1)).squeeze(-1), damping, still | out)
        step = torch.where(out, fixed, answer)
    step = step / (step.abs() / space.longest).amax(1, keepdim=True).clamp(min=1)
    return torch.where(still, 0, torch.minimum(torch.maximum(at + step, space.low), space.high) - at)


def minimise(
    evaluate: Callable[[Tensor, Tensor], State],
    parameters: Tensor,
    space: Coordinates,
    moving: Tensor,
    tolerance: Tensor,
    measured: Tensor,
    steps: int,
    damping: float = 1e-3,
) -> Minimum:
    """Find the minimum near ``parameters`` (problem, k).

    Parameters
    ----------
    evaluate
        Takes the rows (problem,) of the problems and their parameters, returns their `State`.
    moving : Tensor, (k,)
        Which parameters may move; the others stay, and have no range.
    tolerance : Tensor, (problem,)
        Newton's decrement that is small enough, for residuals as large as their errors; where larger, with the root of their chi2.
    measured : Tensor, (problem,)
        How many residuals there are.
    steps : int
        The most evaluations.

    A problem whose cost is not finite at the start stays there, its ``left`` infinite.
    """
    at = space.forward(parameters)
    at = torch.where(moving, torch.minimum(torch.maximum(at, space.low), space.high), at)
    every = torch.arange(len(at), device=at.device)
    state = evaluate(every, space.back(at))
    damped = torch.full_like(state.cost, damping)
    left, evaluations = torch.full_like(state.cost, torch.inf), torch.ones_like(every)
    going = state.cost.isfinite()

    def system(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        slope = space.slope(at[rows])
        gradient, curvature = state.gradient[rows] * slope, state.curvature[rows] * slope.unsqueeze(1) * slope.unsqueeze(2)
        still = ~moving | ((at[rows] <= space.low) & (gradient <= 0)) | ((at[rows] >= space.high) & (gradient >= 0))
        return gradient, curvature, still

    for k in range(steps):
        rows = going.nonzero().squeeze(1)
        if not len(rows):
            break
        gradient, curvature, still = system(rows)
        newton = _solve(curvature, gradient, torch.zeros_like(damped[rows]), still)
        left[rows] = (newton * gradient).sum(1).clamp(min=0).sqrt()
        left[rows] /= (2 * state.cost[rows] / measured[rows].clamp(min=1)).clamp(min=1).sqrt()
        stop = (left[rows] <= tolerance[rows]) | (damped[rows] > _STUCK)
        going[rows[stop]] = False
        if k == steps - 1:
            break
        rows, gradient, curvature, still = rows[~stop], gradient[~stop], curvature[~stop], still[~stop]
        if not len(rows):
            break
        after = at[rows] + _bounded_step(at[rows], curvature, gradient, damped[rows], still, space)
        trial = evaluate(rows, space.back(after))
        evaluations[rows] += 1
        better = trial.cost <= state.cost[rows]
        at[rows[better]] = after[better]
        state.put(rows, trial, better)
        easier, harder = (damped[rows] * _EASIER).clamp(min=_LEAST), (damped[rows] * _HARDER).clamp(min=_AFTER_A_BAD_STEP)
        damped[rows] = torch.where(better, easier, harder)
    within = (((at > space.low) & (at < space.high)) | ~moving).all(1)
    return Minimum(space.back(at), state, left, evaluations, within)
