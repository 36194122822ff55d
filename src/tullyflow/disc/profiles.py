"""Radial profiles of the disc: how fast it turns and how bright it is.

Every function takes ``radius`` (in the disc plane, R >= 0) and parameters that broadcast against it, lengths in one unit of choice;
device and dtype are theirs. All are differentiable in everything, for R > 0 at least. NaN stays NaN, in its galaxy alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Radial",
    "broken_exponential_intensity",
    "exponential_intensity",
    "exponential_velocity",
    "isothermal_velocity",
    "nearest_arctan",
    "ring_intensity",
    "rotation_velocity",
    "sersic_intensity",
    "tanh_velocity",
    "universal_velocity",
]

_RADII, _TURNS = 40, 48  # of the search for the nearest arctan
_SERIES_BELOW = 0.3  # R / r_core: below, 1 - arctan(x)/x loses its digits
_SERIES_TERMS = 13  # 0.3^26 / 29 is below the last digit of a float64


@dataclass(frozen=True)
class Radial:
    """One of this module's functions, or the user's own, with its parameters for a batch: each (galaxy,).

    Called with a radius (galaxy, ...), it lets the parameters broadcast against it.
    """

    function: Callable[..., Tensor]
    parameters: tuple[Tensor, ...]

    def __call__(self, radius: Tensor) -> Tensor:
        shape = (-1, *[1] * (radius.ndim - 1))
        return self.function(radius, *(p.view(shape) for p in self.parameters))


def rotation_velocity(radius: Tensor, v_max: Tensor | float, r_turn: Tensor | float) -> Tensor:
    """Return the rotation velocity V(R) = (2/pi) V_max arctan(R / r_turn), Dawson+2021 eq. 4 (Courteau 1997 model 1).

    ``radius`` (in the disc plane) and ``r_turn`` > 0 share any unit of length, ``v_max`` is the asymptote;
    all broadcast. The paper's minus sign is only its choice of the approaching side: here V >= 0. NaN stays NaN.
    """
    return (2 / math.pi) * v_max * torch.atan(radius / r_turn)


def tanh_velocity(radius: Tensor, v_max: Tensor | float, r_turn: Tensor | float) -> Tensor:
    """Return V(R) = V_max tanh(R / r_turn) (Andersen & Bershady 2003): flat to 4 % from 2 r_turn > 0 on."""
    return v_max * torch.tanh(radius / r_turn)


def exponential_velocity(radius: Tensor, v_max: Tensor | float, r_turn: Tensor | float) -> Tensor:
    """Return V(R) = V_max (1 - exp(-R / r_turn)) (Boissier+2003; Giovanelli & Haynes 2002 without their outer slope), r_turn > 0."""
    return -v_max * torch.expm1(-radius / r_turn)


def universal_velocity(
    radius: Tensor, v_max: Tensor | float, r_turn: Tensor | float, sharpness: Tensor | float, outer: Tensor | float = 0.0
) -> Tensor:
    """Return V(R) = V_max (1 + x)^outer / (1 + x^sharpness)^(1/sharpness), x = r_turn / R: Courteau 1997 model 2.

    The "universal" two-power curve; ``sharpness`` and ``outer`` are his gamma and beta.
    ``sharpness`` (0.3-200) says how sudden the turnover is; ``outer`` (-1 to 1) lets the curve fall (> 0) or go on rising
    (< 0) towards its asymptote ``v_max`` beyond r_turn > 0. V(0) = 0.
    """
    log_s = (radius / r_turn).clamp(min=torch.finfo(radius.dtype).tiny).log()
    rise = torch.logaddexp(log_s, torch.zeros_like(log_s)) - log_s  # ln(1 + x)
    turn = torch.logaddexp(sharpness * log_s, torch.zeros_like(log_s)) / sharpness - log_s
    return v_max * torch.exp(outer * rise - turn)


def isothermal_velocity(radius: Tensor, v_max: Tensor | float, r_core: Tensor | float) -> Tensor:
    """Return V(R) = V_max sqrt(1 - (r_core / R) arctan(R / r_core)), the pseudo-isothermal sphere (Begeman+1991).

    ``v_max`` is the asymptote, ``r_core`` > 0 the halo's core radius. Rises as V_max R / (sqrt(3) r_core). Range: any R >= 0.
    """
    x = radius / r_core
    near = x < _SERIES_BELOW
    small, large = torch.where(near, x, 0).square(), torch.where(near, 1, x)
    series = torch.zeros_like(small)
    for k in reversed(range(_SERIES_TERMS)):  # (1 - arctan(x)/x) / x^2 = 1/3 - x^2/5 + x^4/7 - ...
        series = 1 / (2 * k + 3) - small * series
    return v_max * x * torch.where(near, series, (1 - torch.atan(large) / large) / large.square()).sqrt()


def nearest_arctan(curve: Radial, reach: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Return V_max and r_turn, each (galaxy,), of the arctan nearest to ``curve`` over radii up to ``reach`` (galaxy,).

    The arctan is that of `rotation_velocity`; least squares with every pixel of a face-on disc alike (weight R). r_turn is sought on a
    logarithmic grid from ``low`` to ``high``, with a parabola through the best three: where the curve is an arctan V_max comes out
    within 0.1 %, r_turn within 0.5 %.
    """
    radius = (reach.unsqueeze(1) * (torch.arange(_RADII, device=reach.device) + 0.5) / _RADII).to(reach)
    turns = torch.linspace(math.log(low), math.log(high), _TURNS, device=reach.device).to(reach)
    seen, radius = curve(radius).unsqueeze(1), radius.unsqueeze(1)

    def fit(log_turn: Tensor) -> tuple[Tensor, Tensor]:
        shape = rotation_velocity(radius, 1.0, log_turn.exp().unsqueeze(-1))
        asymptote = (radius * shape * seen).sum(-1) / (radius * shape.square()).sum(-1)
        return asymptote, (radius * (asymptote.unsqueeze(-1) * shape - seen).square()).sum(-1)

    misfit = fit(turns.unsqueeze(0))[1]
    best = misfit.argmin(dim=1).clamp(1, _TURNS - 2)
    left, middle, right = (misfit.gather(1, (best + k).unsqueeze(1)).squeeze(1) for k in (-1, 0, 1))
    bend = left - 2 * middle + right
    step = torch.where(bend > 0, (left - right) / 2 / bend.clamp(min=torch.finfo(bend.dtype).tiny), 0).clamp(-1, 1)
    log_turn = (turns[best] + step * (turns[1] - turns[0])).unsqueeze(1)
    return fit(log_turn)[0].squeeze(1), log_turn.squeeze(1).exp()


def exponential_intensity(radius: Tensor, r_scale: Tensor | float) -> Tensor:
    """Return exp(-R / r_scale), 1 at the centre, r_scale > 0: the radial half of Dawson+2021 eq. 3."""
    return torch.exp(-radius / r_scale)


def sersic_intensity(radius: Tensor, r_e: Tensor | float, n: Tensor) -> Tensor:
    """Return exp(-b_n ((R / r_e)^(1/n) - 1)), 1 at the half-light radius r_e > 0 (Sersic 1963).

    b_n is the expansion of Ciotti & Bertin 1999 eq. 18, good to 4e-4 of itself in its range 0.5 <= ``n`` <= 10.
    """
    b = 2 * n - 1 / 3 + 4 / (405 * n) + 46 / (25515 * n**2) + 131 / (1148175 * n**3) - 2194697 / (30690717750 * n**4)
    x = (radius / r_e).clamp(min=torch.finfo(radius.dtype).tiny)
    return torch.exp(b * (1 - x ** (1 / n)))


def ring_intensity(radius: Tensor, r_ring: Tensor | float, width: Tensor | float) -> Tensor:
    """Return the Gaussian ring exp(-(R - r_ring)^2 / (2 width^2)), 1 on the ring; r_ring >= 0, width (1 sigma) > 0."""
    return torch.exp(-((radius - r_ring) / width).square() / 2)


def broken_exponential_intensity(
    radius: Tensor, r_scale: Tensor | float, r_break: Tensor | float, r_outer: Tensor | float, sharpness: Tensor | float = 4.0
) -> Tensor:
    """Return a truncated disc: exponential with r_scale inside r_break, with r_outer outside (Erwin+2008), 1 at the centre.

    I = S exp(-R/r_scale) (1 + e^(a (R - r_break)))^((1/r_scale - 1/r_outer)/a) with a = ``sharpness`` / r_outer (their alpha, here in
    units of the outer scale so that a short r_outer, 0 < r_outer < r_scale, is a sharp edge). r_outer > r_scale is an up-bending disc.
    """
    a = sharpness / r_outer
    bend = torch.nn.functional.softplus(a * (radius - r_break)) - torch.nn.functional.softplus(-a * r_break)
    return torch.exp(-radius / r_scale + bend * (1 / r_scale - 1 / r_outer) / a)
