"""Refine the network's answers: discs by least squares on both maps of a stamp, from where the network says they are.

All of a disc is free: inclination, scale length, r_turn, V sin i, axis, centre, systemic velocity and brightness. Where the intensity
stamp is only photometry, inclination and scale length are held at the photometry's, and `by_held` says how the curve follows them; so
they are at the network's where the fit of everything ends at a limit, face-on or edge-on, does not converge, or knows less of the
inclination than that discs lie at random.

The fit is made twice. What the first one leaves beyond the errors given (clumps in the intensity, streaming in the velocity, the curve's
shape) is measured on its residuals, one number per map, and joins the errors of the second: the maps weigh as much as they deserve, and
a priori knowledge weighs as much as it should against them.
"""

import logging
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tullyflow.disc.fit import DiscData, DiscFit, fit_discs
from tullyflow.disc.gradients import NAMES, disc_gradients
from tullyflow.disc.sandwich import design_effect
from tullyflow.network.batch import Stamps, median_of_valid, velocity_variance
from tullyflow.settings import Network

__all__ = ["FITTED", "Refined", "refine_discs"]

log = logging.getLogger("tullyflow")

FITTED = NAMES[:8]  # what is told of: all but the brightness
_PRIOR = {"r_turn": 1.0, "v_max_sini": 1.0, "centre_x": 2.0, "centre_y": 2.0}  # ln, about the network's answer; stamp pixels
_BLOCK_BEAMS, _NARROWEST_BLOCK = 1.25, 4.0  # side of the area of one measurement: in beams, and at least so many stamp pixels
_FARTHEST_AXIS = 30.0  # deg from the axis of the map: beyond, the fit follows something that is not its rotation
_MISMATCH = {"v_max_sini": 0.02}  # ln: what no residual shows: curves that are no arctan
_AT_RANDOM = math.degrees(math.sqrt(math.pi - 3))  # 22 deg: 1 sigma of the inclinations of discs that lie at random
_CENTRAL_LIGHT = 0.5  # of the peak: 1 sigma of a bulge or a hole
_CLUMPS = 0.1  # of the intensity, in the first fit
_FIRST_STEPS, _STEPS = 12, 20
_ONE_SIGMA = 0.6827


@dataclass(frozen=True)
class Refined:
    """What least squares found; all (galaxy, ...), NaN where ``converged`` is False: there the network's answer stands.

    ``parameters`` (4) in deg, half-widths and km/s; ``placing`` (4): axis (deg), centre x and y (stamp pixels), v_sys (km/s), all from
    where the stamp has them. ``covariance`` (8, 8) is of `FITTED` in deg, ln, ln, ln, deg, pixels, pixels, km/s. Where inclination and
    scale length are ``held`` (asked for, or after a fit of all that failed) their rows are 0, and ``by_held`` (8, 2) says how all follow
    inclination (deg) and ln r_scale.
    ``mismatch`` (2) is what was added to the errors: over the peak of the intensity, and km/s.
    """

    parameters: np.ndarray
    placing: np.ndarray
    covariance: np.ndarray
    by_held: np.ndarray
    held: np.ndarray
    mismatch: np.ndarray
    converged: np.ndarray


def _spread(residual: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squares that the residuals (galaxy, y, x) have on average, and that of half the range of the middle 68 %, (galaxy,)."""
    size = torch.where(valid, residual.abs(), torch.inf).flatten(1).sort(dim=1).values
    at = (_ONE_SIGMA * (valid.sum((1, 2)) - 1).clamp(min=0)).long()
    mean = torch.where(valid, residual, 0).square().sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)
    return mean, size.gather(1, at.unsqueeze(1)).squeeze(1).square()


def _learned(data: DiscData, first: DiscFit, given: DiscData, block: Tensor, nodes: int) -> tuple[DiscData, Tensor, Tensor]:
    """Return the data with the errors ``given`` and what the first fit leaves beyond them; that, (galaxy, 2); and the pixels a measurement.

    Of the intensity the mean square counts, less that of its errors: bars, arms and bulges are in its tails and pull the disc with
    them. Of the velocity the middle 68 %, less the median variance given: Huber's loss takes care of its tails.
    """
    added, counts = [], []
    for rows in torch.arange(len(first.parameters), device=first.parameters.device).split(16):
        model = disc_gradients(first.parameters[rows].to(data.velocity), None if data.beam is None else data.beam[rows], nodes)
        valid = data.valid[rows]
        intensity, _ = _spread(data.intensity[rows] - model.intensity, valid)
        noise, _ = _spread(given.intensity_err[rows], valid)
        _, velocity = _spread(data.velocity[rows] - model.velocity, valid)
        stated = median_of_valid(given.velocity_err[rows], valid).square()
        counts.append(design_effect(data.velocity[rows] - model.velocity, valid, block[rows]))
        added.append(torch.stack([intensity - noise, velocity - stated], dim=1).clamp(min=0))
    more = torch.cat(added).nan_to_num(posinf=0)
    wider = (torch.sqrt(e.square() + t.view(-1, 1, 1)) for e, t in zip((given.intensity_err, given.velocity_err), more.T, strict=True))
    return replace(data, **dict(zip(("intensity_err", "velocity_err"), wider, strict=True))), more.sqrt(), torch.cat(counts)


def _fit_twice(stamps: Stamps, start: Tensor, free: tuple[str, ...], network: Network) -> tuple[DiscFit, Tensor, Tensor]:
    """Return the second fit, what was added to the errors (galaxy, 2), and how many pixels a prior weighs against (galaxy,)."""
    beam = stamps.beam if network.beam else None
    given = DiscData(stamps.intensity, stamps.intensity_err, stamps.velocity, stamps.velocity_err, stamps.valid, beam)
    wide = velocity_variance(stamps, start[:, 3], network).sqrt().to(stamps.velocity)
    clumpy = torch.hypot(stamps.intensity_err, _CLUMPS * stamps.intensity.clamp(min=0))
    block = (_BLOCK_BEAMS * stamps.beam).clamp(min=_NARROWEST_BLOCK)
    setting = {"free": free, "prior_at": start, "nodes": network.quadrature_nodes, "block": block, "central_light": _CENTRAL_LIGHT}
    prior = {name: sigma for name, sigma in _PRIOR.items() if name in free}
    data = replace(given, velocity_err=wide, intensity_err=clumpy)
    first = fit_discs(data, start, prior=prior, prior_counts=block.square(), steps=_FIRST_STEPS, **setting)
    data, added, counts = _learned(data, first, given, block, network.quadrature_nodes)
    return fit_discs(data, first.parameters, prior=prior, prior_counts=counts, steps=_STEPS, **setting), added, counts


def refine_discs(stamps: Stamps, parameters: np.ndarray, held: np.ndarray, network: Network, device: torch.device) -> Refined:
    """Refine ``parameters`` (galaxy, 4), in deg, half-widths and km/s, on the stamps; see the module.

    ``held`` (galaxy,): inclination and r_scale stay what they are, and the intensity is not used; likewise where a fit of all fails. NaN
    parameters are not refined, nor discs that would turn by more than 30 deg.
    """
    count = len(stamps)
    found = Refined(
        np.full((count, 4), np.nan), np.full((count, 4), np.nan), np.full((count, 8, 8), np.nan), np.zeros((count, 8, 2)),
        np.array(held, bool), np.full((count, 2), np.nan), np.zeros(count, bool),
    )  # fmt: skip
    stamps, start = stamps.to(device), torch.as_tensor(parameters, dtype=torch.float64, device=device)
    placed = torch.cat([start, torch.zeros_like(start), torch.ones_like(start[:, :1])], dim=1)
    for holding, free in ((False, NAMES), (True, NAMES[2:8])):
        rows = np.flatnonzero(found.held == holding)
        if not len(rows):
            continue
        index = torch.as_tensor(rows, device=device)
        fit, added, _ = _fit_twice(stamps.select(index), placed[index], free, network)
        covariance = fit.covariance.cpu().numpy()
        for name, sigma in _MISMATCH.items():
            covariance[:, fit.free.index(name), fit.free.index(name)] += sigma**2
        known = (fit.converged & (fit.parameters[:, 4].abs() < _FARTHEST_AXIS)).cpu().numpy()
        if not holding:
            known &= covariance[:, 0, 0] < _AT_RANDOM**2
        found.held[rows[~known]] = True
        rows, first = rows[known], 2 if holding else 0
        found.converged[rows] = True
        values = fit.parameters.cpu().numpy()[known]
        found.parameters[rows], found.placing[rows], found.mismatch[rows] = values[:, :4], values[:, 4:8], added.cpu().numpy()[known]
        found.covariance[rows] = 0
        found.covariance[rows, first:, first:] = covariance[known, : 8 - first, : 8 - first]
        if holding:
            found.by_held[rows, 2:] = fit.by_held.cpu().numpy()[known]
    log.info(
        "network: %d of %d discs refined by least squares, inclination and scale length held in %d",
        found.converged.sum(), count, (found.converged & found.held).sum(),
    )  # fmt: skip
    return found
