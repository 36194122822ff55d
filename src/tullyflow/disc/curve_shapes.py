"""Rotation curves a disc may be fitted with, and their derivatives by hand; see `disc.profiles` for more to draw discs with.

    arctan   V(R) = (2/pi) V arctan(R/r_turn)                      Courteau 1997 model 1, Dawson+2021 eq. 4
    tanh     V(R) = V tanh(R/r_turn)                               Andersen & Bershady 2003
    slope    V(R) = (2/pi) V arctan(R/r_turn) ((r_turn^2 + R^2) / (r_turn^2 + R_0^2))^(beta/2),   R_0 = 2.2 r_scale

The third is ours: far out d ln V / d ln R is beta, the ``outer_slope``, > 0 for a curve that goes on rising and < 0 for one that
declines (as the alpha of Giovanelli & Haynes 2002 and the beta of Courteau 1997 model 2 let it), near the centre it is a solid body as
before, and beta = 0 is the arctan. Being pinned at R_0, V_2.2 is that of the arctan whatever beta, so beta is nearly free of V.
With beta != 0 the parameter V is no asymptote: there is none.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from tullyflow.conventions import SCALE_LENGTHS_OF_V_22
from tullyflow.errors import ModelError

__all__ = ["CURVES", "OUTER_SLOPE", "CurveShape", "check_curve", "pinned", "turning", "velocity_of"]

CurveShape = Literal["arctan", "tanh", "slope"]
CURVES: tuple[CurveShape, ...] = get_args(CurveShape)
OUTER_SLOPE = "outer_slope"


def check_curve(curve: str) -> None:
    """Raise `ModelError` for a curve nobody knows."""
    if curve not in CURVES:
        raise ModelError(f"rotation curve {curve!r} is not known; known: {', '.join(CURVES)}.")


def _log_growth(radius: Tensor, r_turn: Tensor) -> Tensor:
    return torch.log(radius.square() + r_turn.square()) / 2


def turning(
    curve: CurveShape, radius: Tensor, r_turn: Tensor, outer_slope: Tensor | None = None, r_scale: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return V/R and dV/dR for V = 1, and d ln V/d beta, at radii > 0; all broadcast, lengths in one unit.

    ``outer_slope`` and ``r_scale`` matter to "slope" alone, the last of the three is None for the others. By r_turn a curve of R/r_turn
    alone changes by dV/d ln r_turn = -R dV/dR; to "slope" `pinned` times V is added, and taken off dV/d ln r_scale.
    """
    if curve == "tanh":
        value = torch.tanh(radius / r_turn)
        return value / radius, (1 - value.square()) / r_turn, None
    per_radius = (2 / math.pi) * torch.atan(radius / r_turn) / radius
    slope = (2 / math.pi) * r_turn / (r_turn.square() + radius.square())
    if curve == "arctan":
        return per_radius, slope, None
    growth = _log_growth(radius, r_turn) - _log_growth(SCALE_LENGTHS_OF_V_22 * r_scale, r_turn)
    factor = torch.exp(outer_slope * growth)
    per_radius = per_radius * factor
    bend = outer_slope * radius.square() / (r_turn.square() + radius.square())  # d ln(factor)/d ln R
    return per_radius, slope * factor + per_radius * bend, growth


def pinned(outer_slope: Tensor, r_turn: Tensor, r_scale: Tensor) -> Tensor:
    """Return beta R_0^2 / (r_turn^2 + R_0^2): what pinning the curve at R_0 = 2.2 scale lengths adds to d ln V/d ln r_turn."""
    at = (SCALE_LENGTHS_OF_V_22 * r_scale).square()
    return outer_slope * at / (r_turn.square() + at)


def velocity_of(
    curve: CurveShape, radius: Tensor, v_max: Tensor, r_turn: Tensor, outer_slope: Tensor | None = None, r_scale: Tensor | None = None
) -> Tensor:
    """Return V(R) of any of the curves, in the unit of ``v_max``; everything broadcasts, lengths > 0 in one unit. NaN stays NaN."""
    near = radius.clamp(min=torch.finfo(radius.dtype).tiny ** 0.5)
    return v_max * near * turning(curve, near, r_turn, outer_slope, r_scale)[0]
