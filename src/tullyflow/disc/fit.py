"""Fit discs to their maps: Levenberg-Marquardt for many galaxies at once, robust, with errors that know of correlated residuals.

The model is `disc.gradients`, beam included, the loss `disc.loss`, the steps those of `disc.levenberg` in `disc.coordinates`; errors are
those of `disc.sandwich`, from the residuals. Steps are made with few quadrature nodes until they are short, then with all that are asked
for. With more than the few, discs beyond 80 deg get twice as many and cells of half a pixel at the end: on the sky they are thinner than
their pixels (for maps without noise that matters, with noise it does not).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tullyflow.disc.coordinates import coordinates, physical, scaled
from tullyflow.disc.curve_shapes import CurveShape
from tullyflow.disc.gradients import names_of
from tullyflow.disc.levenberg import Minimum, State, minimise
from tullyflow.disc.loss import DiscData, Loss, Prior
from tullyflow.errors import ModelError

__all__ = ["DiscData", "DiscFit", "fit_discs"]

_STEEP, _EDGE_ON, _OFF_EDGE = 80.0, 89.0, 87.0  # deg
_COARSE = 4  # nodes per panel of the first steps
_ROUGHLY = 5.0  # times the tolerance: how far they go
_SURE = 1e-6  # the damping where the minimum is next door
_CONVERGED = 0.02  # standard errors, with a block as one measurement: the longest step left
_RESTARTS = ((-12.0, 0.0), (12.0, 0.0), (0.0, -math.log(3)), (0.0, math.log(3)))  # deg of inclination and ln r_turn from the start
_AT_A_TIME, _AT_A_TIME_GPU = 16, 512  # galaxies whose maps and derivatives stay in a processor's cache; that keep a GPU busy


@dataclass(frozen=True)
class DiscFit:
    """What was found: ``parameters`` (galaxy, 9 or 10) as `disc.gradients` takes them.

    ``free`` names the fitted ones; ``covariance`` (galaxy, free, free) is in deg, ln, pixels and the velocity's unit, as
    `disc.gradients.DiscGradients` differentiates. ``by_held`` (galaxy, free, held) says how the fitted ones follow those of ``held``.
    ``converged`` (galaxy,) is False where a step of more than 0.1 sigma was left, the parameters sit at a limit or the maps do not fix
    them; ``covariance`` is inf where they do not. ``chi2`` (galaxy,) is twice the robust loss, priors included, of ``measured`` pixels
    of either map; ``starts`` (galaxy,) how many there were.
    """

    free: tuple[str, ...]
    held: tuple[str, ...]
    parameters: Tensor
    covariance: Tensor
    by_held: Tensor
    converged: Tensor
    chi2: Tensor
    measured: Tensor
    starts: Tensor


def _widened(parameters: Tensor, count: int) -> Tensor:
    """Return parameters (galaxy, count): those of curves with fewer have zeros beside them."""
    return torch.nn.functional.pad(parameters, (0, count - parameters.shape[1]))


@dataclass(frozen=True)
class _Search:
    """How minima are looked for: which parameters move, Newton's decrement to come to (galaxy,), the most evaluations from a start."""

    moving: Tensor
    tolerance: Tensor
    steps: int

    def select(self, rows: Tensor) -> "_Search":
        return replace(self, tolerance=self.tolerance[rows])

    def run(self, loss: Loss, start: Tensor, roughly: float = 1.0, damping: float = 1e-3) -> Minimum:
        at_a_time = max(1, _AT_A_TIME // loss.cells**2) if start.device.type == "cpu" else len(start)

        def evaluate(rows: Tensor, given: Tensor) -> State:
            parts = [loss.select(some).state(g) for some, g in zip(rows.split(at_a_time), given.split(at_a_time), strict=True)]
            return State.joined(parts)

        space = coordinates(start.shape[1], start.device)
        measured = loss.data.valid.sum((1, 2)) * (1 + loss.use_intensity)
        return minimise(evaluate, start, space, self.moving, roughly * self.tolerance, measured, self.steps, damping)

    def from_the_edge(self, loss: Loss, found: Minimum) -> Minimum:
        """Try again what ended at edge-on from off it: there the maps hardly change, and what they do is within the quadrature's error."""
        rows = ((found.parameters[:, 0] > _EDGE_ON) & self.moving[0]).nonzero().squeeze(1)
        if len(rows):
            off = found.parameters[rows].clone()
            off[:, 0] = _OFF_EDGE
            other = self.select(rows).run(loss.select(rows), off)
            found.put(rows, other, other.state.cost < found.state.cost[rows])
        return found

    def find(self, loss: Loss, start: Tensor) -> Minimum:
        """Return the minima near ``start`` (galaxy, k): with few nodes first, then with all of them."""
        if loss.nodes <= _COARSE:
            return self.from_the_edge(loss, self.run(loss, start))
        rough = self.run(replace(loss, nodes=_COARSE), start, roughly=_ROUGHLY)
        found = self.run(loss, rough.parameters, damping=_SURE)
        steep = _steep(loss, found)
        if len(steep):
            some, finer = self.select(steep), _finer(loss, steep)
            fine = some.from_the_edge(finer, some.run(finer, found.parameters[steep], damping=_SURE))
            found.put(steep, fine, torch.ones_like(steep, dtype=torch.bool))
        return found


def _steep(loss: Loss, found: Minimum) -> Tensor:
    return ((found.parameters[:, 0] > _STEEP) & (loss.nodes > _COARSE)).nonzero().squeeze(1)


def _finer(loss: Loss, rows: Tensor) -> Loss:
    return replace(loss.select(rows), nodes=2 * loss.nodes, cells=2)


def _covariance(loss: Loss, found: Minimum, free: list[int], block: Tensor) -> Tensor:
    covariance, steep = loss.covariance(found.parameters, free, block), _steep(loss, found)
    for rows in steep.split(_AT_A_TIME // 4):
        covariance[rows] = _finer(loss, rows).covariance(found.parameters[rows], free, block[rows])
    return covariance


def _restart(search: _Search, loss: Loss, start: Tensor, found: Minimum, bad: Tensor, starts: int) -> Tensor:
    """Look for lower minima of ``bad`` (galaxy,) from other starts; return how many starts each had (galaxy,)."""
    tried, rows = torch.ones_like(found.evaluations), (bad & found.state.cost.isfinite()).nonzero().squeeze(1)
    for by_inclination, by_turn in _RESTARTS[: starts - 1] if len(rows) else ():
        moved = torch.tensor([by_inclination, 0.0, by_turn], dtype=start.dtype, device=start.device) * search.moving[:3]
        if not moved.any():
            continue
        again = start[rows].clone()
        again[:, :3] += moved
        other = search.select(rows).find(loss.select(rows), again)
        found.put(rows, other, other.state.cost < found.state.cost[rows])
        tried[rows] += 1
    return tried


def _fit(loss: Loss, start: Tensor, chosen: list[int], block: Tensor, steps: int, starts: int, poor: float) -> tuple[Tensor, ...]:
    """Fit one chunk from ``start`` (galaxy, k), `scaled`; return what `DiscFit` holds, from ``parameters`` on."""
    moving = torch.zeros(start.shape[1], dtype=torch.bool, device=start.device)
    moving[chosen] = True
    search = _Search(moving, _CONVERGED * block, steps)
    found = search.find(loss, start)
    measured = loss.data.valid.sum((1, 2)) * (1 + loss.use_intensity)
    settled = found.within & (found.left <= 5 * search.tolerance)
    bad = ~settled | (2 * found.state.cost > poor * (measured - len(chosen)).clamp(min=1))
    tried = _restart(search, loss, start, found, bad, starts)
    covariance = _covariance(loss, found, chosen, block)
    usable = covariance.isfinite().all(-1).all(-1)
    curvature = found.state.curvature[:, chosen]
    unit = torch.eye(len(chosen), dtype=torch.float64, device=start.device)
    inverse = torch.linalg.pinv(torch.where(usable.view(-1, 1, 1), curvature[:, :, chosen], unit), hermitian=True)
    by_held = -inverse @ curvature[:, :, [k for k in range(2) if k not in chosen]]
    converged = (found.left <= 5 * search.tolerance) & found.within & usable
    return physical(found.parameters), covariance, by_held, converged, 2 * found.state.cost, measured, tried


def fit_discs(
    data: DiscData,
    start: Tensor,
    free: Sequence[str] = ("r_turn", "v_max_sini", "axis_deg", "centre_x", "centre_y", "v_sys"),
    *,
    prior: Mapping[str, float | Tensor] | None = None,
    prior_at: Tensor | None = None,
    prior_counts: Tensor | float = 1.0,
    clip: float = 2.5,
    steps: int = 20,
    nodes: int = 4,
    curve: CurveShape = "arctan",
    central_light: float = 0.0,
    block: Tensor | float = 4.0,
    starts: int = 1,
    poor: float = 2.0,
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
    prior_counts : Tensor, (galaxy,), or float
        Pixels that make one independent measurement: what a prior, which is one, weighs against.
    clip : float
        Residuals beyond so many sigma weigh less (Huber 1964).
    steps : int
        The most evaluations of the model from one start.
    curve : "arctan", "tanh" or "slope"
        One of `disc.curve_shapes`.
    central_light : float
        1 sigma of the amplitude of light in the middle that no exponential disc has, over the peak; 0 = there is none.
    block : Tensor, (galaxy,), or float
        Width of the covariance's blocks, pixels: 1.5 beams, or errors are too small where noise is correlated over a beam.
    starts, poor
        How many starts a galaxy may have that does not converge or keeps a chi2 above ``poor`` per degree of freedom: the further
        ones have 12 deg less and more inclination, and a third and three times of r_turn. The lowest chi2 wins.

    A galaxy that does not converge comes back as far as it got, ``converged`` False. NaN stays in its galaxy.
    Raises `ModelError` for an unknown or missing name.
    """
    known = names_of(curve)
    if not free or set(free) - set(known):
        raise ModelError(f"fit_discs: {', '.join(set(free) - set(known)) or 'nothing'} cannot be fitted; known: {', '.join(known)}.")
    start, at = (scaled(_widened(given, len(known)).double()) for given in (start, start if prior_at is None else prior_at))
    chosen = [known.index(name) for name in known if name in free]
    names, held = tuple(known[k] for k in chosen), tuple(name for name in known[:2] if name not in free)
    precision = torch.zeros((len(start), len(known)), dtype=torch.float64, device=start.device)
    for name, sigma in (prior or {}).items():
        precision[:, known.index(name)] = torch.as_tensor(sigma, dtype=torch.float64, device=start.device) ** -2
    block = torch.as_tensor(block, dtype=torch.float64, device=start.device).expand(len(start))
    counts = torch.as_tensor(prior_counts, dtype=torch.float64, device=start.device).expand(len(start)).unsqueeze(1)
    use_intensity = bool({"inclination_deg", "r_scale"} & set(free))
    loss = Loss(data, Prior(at, counts * precision, counts.square() * precision), use_intensity, clip, curve, central_light, nodes)
    chunk = _AT_A_TIME if start.device.type == "cpu" else _AT_A_TIME_GPU
    found = [
        _fit(loss.select(rows), start[rows], chosen, block[rows], steps, starts, poor)
        for rows in torch.arange(len(start), device=start.device).split(chunk)
    ]
    return DiscFit(names, held, *(torch.cat(parts) for parts in zip(*found, strict=True)))
