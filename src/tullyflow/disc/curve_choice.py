"""Which rotation curve a velocity map prefers, with the disc held as an arctan was fitted to it: arctan, tanh, or one with an outer slope.

The map is linear in V(R) (`disc.radial_response`), so each curve is fitted to a few numbers of the map, not to the map. Free are the
curve's own parameters and, to first order, v_sys, the centre and the axis; inclination and scale length are held.

**How much the map can say.** Pixels are not measurements: beam, resampling and whatever the disc lacks (arms, bars, streaming)
make neighbours alike, and the errors given know nothing of it. So the noise is that of the residuals, and the number of measurements
is N_eff = N/d with d the variance of the sums over blocks of 1.5 beams in units of what independent pixels would give (Kish 1965's
design effect), between 1 and a whole block. With the noise unknown, Schwarz 1978's criterion is BIC = N_eff ln(chi2) + k ln(N_eff) and

    delta BIC = N_eff ln(chi2_arctan / chi2_other) - (k_other - k_arctan) ln(N_eff),

positive in favour of the other; the arctan is given up above 2, which Kass & Raftery 1995 call positive evidence (above 6: strong). On
mocks with noise as correlated as MaNGA's that gives up 1 true arctan in 20 (benchmarks/curve_choice.py).
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from tullyflow.conventions import STAMP
from tullyflow.disc.curve_fit import MOVES, MapNumbers, curve_derivatives, fit_shape
from tullyflow.disc.curve_shapes import CURVES, CurveShape
from tullyflow.disc.fit import DiscData
from tullyflow.disc.gradients import disc_gradients
from tullyflow.disc.radial_response import radial_response
from tullyflow.disc.residuals import Blocks

__all__ = ["POSITIVE", "CurveChoice", "FittedCurve", "choose_curve"]

POSITIVE = 2.0  # delta BIC
_CLIP = 2.5  # sigma: as `disc.fit`
_SPENT = 6  # on r_turn, V and the four moves; with three measurements more something may be said
_TANH_FOR_ARCTAN = (1.8, 0.86, 1.0)  # the tanh that looks like an arctan has a longer r_turn and a lower asymptote
_AT_A_TIME, _IN_CACHE = 128, 16  # galaxies whose response is held at once, 0.6 MB each; that stay in a processor's cache


@dataclass(frozen=True)
class FittedCurve:
    """One curve's fit: ``parameters`` (galaxy, 3): r_turn (half-widths), V sin i, outer slope; ``covariance`` (galaxy, 3, 3) in ln, ln, 1.

    ``delta_bic`` (galaxy,) against the arctan. ``converged`` (galaxy,) is False at a limit or where a step was left.
    """

    parameters: Tensor
    covariance: Tensor
    delta_bic: Tensor
    converged: Tensor


@dataclass(frozen=True)
class CurveChoice:
    """Fits by curve, the preferred one (galaxy,) as an index into `CURVES`, and what the preferred one leaves.

    ``measurements`` (galaxy,) is N_eff. ``model`` and ``residual`` (galaxy, y, x) are the preferred curve's, in the velocity's unit:
    the rotation without v_sys, and the data less all of it, v_sys, centre and axis moved to first order; 0 where not valid.
    """

    fits: dict[CurveShape, FittedCurve]
    preferred: Tensor
    measurements: Tensor
    model: Tensor
    residual: Tensor

    def velocity(self, radius: Tensor, r_scale: Tensor, curve: CurveShape | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return V sin i, its relative 1 sigma and d ln V/d ln R (galaxy, radius) at radii (galaxy, radius) in half-widths.

        Of ``curve``, or of each galaxy's preferred one. ``r_scale`` (galaxy,) in half-widths. An infinite radius gives the asymptote,
        which a curve with an outer slope does not have: NaN.
        """
        found = [_curve_at(c, self.fits[c], radius, r_scale) for c in (CURVES if curve is None else (curve,))]
        if curve is not None:
            return found[0]
        at = self.preferred.view(1, -1, 1).expand(1, *radius.shape)
        return tuple(torch.stack(parts).gather(0, at).squeeze(0) for parts in zip(*found, strict=True))


def _curve_at(curve: CurveShape, fit: FittedCurve, radius: Tensor, r_scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    far, end = radius.isinf(), torch.nan if curve == "slope" else 1.0
    p, covariance = fit.parameters, fit.covariance
    value, steep, by = curve_derivatives(curve, torch.where(far, 1.0, radius.double()), p, r_scale.double())
    by = torch.where(far.unsqueeze(-1), end * torch.tensor([0.0, 1.0, 0.0], dtype=by.dtype, device=by.device), by)
    variance = torch.einsum("grk,gkl,grl->gr", by, covariance, by)
    return p[:, 1:2] * torch.where(far, end, value), variance.sqrt(), torch.where(far, 0 * end, steep)


def _moves(model: Tensor, parameters: Tensor) -> Tensor:
    """Return how a map (galaxy, y, x) changes with v_sys, centre x and y (pixels) and axis (rad): (galaxy, 4, y, x)."""
    by_y, by_x = torch.gradient(model, dim=(1, 2))
    at = torch.arange(STAMP, device=model.device).to(model) - (STAMP - 1) / 2
    dx, dy = at.view(1, 1, -1) - parameters[:, 5].view(-1, 1, 1), at.view(1, -1, 1) - parameters[:, 6].view(-1, 1, 1)
    return torch.stack([torch.ones_like(model), -by_x, -by_y, by_x * dy - by_y * dx], dim=1)


@dataclass(frozen=True)
class _Seen:
    """Maps (galaxy, y, x): what was seen less v_sys, 1/error, weights, which pixels count; and the design (galaxy, u, y, x)."""

    velocity: Tensor
    inverse: Tensor
    weight: Tensor
    valid: Tensor
    design: Tensor

    def about(self, residual: Tensor) -> "_Seen":
        """Return it with Huber's weights about another model, whose residual this is."""
        return replace(self, weight=self.inverse.square() * (_CLIP / (residual * self.inverse).abs().clamp(min=_CLIP)))

    def numbers(self) -> MapNumbers:
        weighted = (self.design * self.weight.unsqueeze(1)).flatten(2)
        seen = self.velocity.flatten(1).unsqueeze(-1)
        c = (self.weight * self.velocity.square()).double().sum((1, 2))
        return MapNumbers(c, (weighted @ seen).squeeze(-1).double(), (weighted @ self.design.flatten(2).mT).double())

    def residual(self, u: Tensor) -> Tensor:
        model = (u.to(self.design).unsqueeze(1) @ self.design.flatten(2)).view_as(self.velocity)
        return torch.where(self.valid, self.velocity - model, 0)


def _see(data: DiscData, parameters: Tensor, nodes: int) -> _Seen:
    arctan = disc_gradients(parameters, data.beam, nodes).velocity
    inverse = torch.where(data.valid, data.velocity_err.reciprocal(), 0)
    seen = torch.where(data.valid, data.velocity - parameters[:, 7].view(-1, 1, 1), 0)
    design = torch.cat([radial_response(parameters, data.beam, nodes), _moves(arctan, parameters)], dim=1)
    return _Seen(seen, inverse, inverse, data.valid, design).about(torch.where(data.valid, data.velocity - arctan, 0))


def _measurements(seen: _Seen, residual: Tensor, blocks: Blocks) -> Tensor:
    """Return N_eff (galaxy,) of what the best of the curves leaves."""
    pixels, pull = seen.valid.sum((1, 2)).double(), seen.weight * residual
    alike = blocks.sums(pull.unsqueeze(1)).square().sum((1, 2)) / pull.double().square().sum((1, 2)).clamp(min=1e-300)
    spent = blocks.used / (blocks.used - _SPENT).clamp(min=1)
    return pixels / torch.minimum((alike * spent).clamp(min=1), (pixels / blocks.used.clamp(min=1)).clamp(min=1))


def _choose(data: DiscData, parameters: Tensor, block: Tensor, nodes: int) -> tuple[list[tuple[Tensor, ...]], Tensor, ...]:
    """Return for each curve what `FittedCurve` holds, then what `CurveChoice` holds."""
    parts = [_see(data.select(rows), parameters[rows], nodes) for rows in torch.arange(len(block), device=block.device).split(_IN_CACHE)]
    seen = _Seen(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(_Seen)))
    blocks = Blocks(block, seen.valid)
    r_scale, arctan = parameters[:, 1].double(), torch.nn.functional.pad(parameters[:, 2:4].double(), (0, 1))
    starts = [arctan * arctan.new_tensor(_TANH_FOR_ARCTAN if curve == "tanh" else 1.0) for curve in CURVES]
    about, unit = [start[:, 0] for start in starts], block.double().square()
    for again in (False, True):  # first to learn what one measurement is worth and which pixels are bad for the best of the curves
        numbers = seen.numbers()
        fits = [fit_shape(c, numbers, start, turn, r_scale, unit) for c, start, turn in zip(CURVES, starts, about, strict=True)]
        starts = [fit.parameters for fit in fits]
        chi2 = torch.stack([fit.chi2 for fit in fits])
        best = chi2.nan_to_num(nan=torch.inf).argmin(0)
        rows = torch.arange(len(best), device=best.device)
        left = seen.residual(torch.stack([fit.u for fit in fits])[best, rows])
        seen = seen if again else seen.about(left)
        effective = _measurements(seen, left, blocks)
        unit = chi2[best, rows] / effective.clamp(min=1)
    found, residuals, enough = [], [], (effective > 3 + _SPENT) & (blocks.used > _SPENT)
    for curve, fit in zip(CURVES, fits, strict=True):
        residual = seen.residual(fit.u)
        score = blocks.sums(seen.design * (seen.weight * residual).unsqueeze(1))
        more = 1 if curve == "slope" else 0
        gain = effective * (chi2[0] / fit.chi2).log() - more * effective.clamp(min=1).log()
        found.append((fit.parameters, fit.covariance(score, blocks.used), torch.where(enough, gain, torch.nan), fit.converged & enough))
        residuals.append(residual)
    evidence = torch.stack([torch.where(done, gain - (POSITIVE if k else 0), -torch.inf) for k, (*_, gain, done) in enumerate(found)])
    evidence[0] = 0
    preferred = evidence.argmax(0)
    u = torch.stack([fit.u for fit in fits])[preferred, rows].to(seen.design)
    model = (u[:, None, :-MOVES] @ seen.design[:, :-MOVES].flatten(2)).view_as(seen.velocity)
    return found, preferred, effective, model, torch.stack(residuals)[preferred, rows]


def choose_curve(data: DiscData, parameters: Tensor, block: Tensor, nodes: int = 4) -> CurveChoice:
    """Fit every curve of `CURVES` to the velocity maps and say which is preferred; see the module.

    Parameters
    ----------
    data : DiscData
        The intensity is not looked at.
    parameters : Tensor, (galaxy, 9)
        An arctan's fit, as `disc.gradients.disc_gradients` takes it.
    block : Tensor, (galaxy,)
        1.5 beams in pixels: where pixels that far apart are taken for independent.

    NaN parameters give NaN of that galaxy alone, and the arctan.
    """
    parts = []
    for rows in torch.arange(len(parameters), device=parameters.device).split(_AT_A_TIME):
        at = parameters[rows].to(data.velocity)
        parts.append(_choose(data.select(rows), at, block[rows].to(at), nodes))
    fits = {c: FittedCurve(*(torch.cat(p) for p in zip(*(part[0][k] for part in parts), strict=True))) for k, c in enumerate(CURVES)}
    return CurveChoice(fits, *(torch.cat([part[k] for part in parts]) for k in range(1, 5)))
