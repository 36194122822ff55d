"""Refine the network's answers: the rotation curve by least squares on the stamp, from where the network says it is.

Inclination and scale length are held where the velocities take them from (the network, or the photometry): the velocity map says little
of them, and they say how the curve follows (`disc.fit.DiscFit.by_held`). Free are r_turn, V sin i, the axis, the centre and the systemic
velocity, which nobody knows as well as this map.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch

from tullyflow.disc.fit import DiscData, fit_discs
from tullyflow.network.batch import Stamps
from tullyflow.settings import Network

__all__ = ["Refined", "refine_curves"]

log = logging.getLogger("tullyflow")

_PRIOR = {"r_turn": 1.0, "v_max_sini": 1.0, "centre_x": 1.0, "centre_y": 1.0}  # ln, about the network's answer; stamp pixels
_BLOCK_BEAMS, _NARROWEST_BLOCK = 1.5, 4.0  # width of the covariance's blocks: in beams, and at least so many stamp pixels
_FARTHEST_AXIS = 30.0  # deg from the axis of the map: beyond, the fit follows something that is not its rotation
_CURVE_MISMATCH = 0.02  # of V, in ln: what rotation curves that are no arctan leave (benchmarks/refinement.py)
_FARTHEST = 2.0  # ln: how far a sample may be from the fit, whose errors are those of a straight line


@dataclass(frozen=True)
class Refined:
    """What least squares found; all (galaxy, ...), NaN where ``converged`` is False: there the network's answer stands.

    ``parameters`` (4) in deg, half-widths and km/s; ``placing`` (4): axis (deg), centre x and y (stamp pixels), v_sys (km/s), all from
    where the stamp has them. ``covariance`` (2, 2) is of ln r_turn and ln V sin i at held inclination and scale length, with
    2 % of V for curves of other shapes; ``by_held`` (2, 2) how they follow inclination (deg) and ln r_scale.
    """

    parameters: np.ndarray
    placing: np.ndarray
    covariance: np.ndarray
    by_held: np.ndarray
    converged: np.ndarray

    def curve_samples(self, drawn: np.ndarray, held: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw r_turn (half-widths) and V sin i (km/s), (sample, galaxy, 2), for samples ``drawn`` (sample, galaxy, 2) of what was held.

        ``held`` (galaxy, 2) are inclination (deg) and r_scale (any unit, that of ``drawn``) as the fit held them.
        """
        off = np.stack([drawn[..., 0] - held[:, 0], np.log(drawn[..., 1] / held[:, 1])], axis=-1)
        follows = np.einsum("sgh,gfh->sgf", off, self.by_held).clip(-_FARTHEST, _FARTHEST)
        known = np.where(self.converged[:, None, None], self.covariance, np.eye(2))
        noise = np.einsum("gij,sgj->sgi", np.linalg.cholesky(known), generator.standard_normal(drawn.shape))
        return self.parameters[:, 2:] * np.exp(follows + noise.clip(-_FARTHEST, _FARTHEST))


def refine_curves(stamps: Stamps, parameters: np.ndarray, network: Network, device: torch.device) -> Refined:
    """Refine ``parameters`` (galaxy, 4), in deg, half-widths and km/s, on the stamps; see the module.

    Errors of the velocity have ``velocity_error_floor`` and ``mismatch_fraction`` of V sin i in quadrature, as in the reconstruction's
    chi-squared. Blocks of the covariance are 1.5 beams wide. NaN parameters are not refined, nor discs that would turn by more than 30 deg.
    """
    if not len(stamps):
        return Refined(np.empty((0, 4)), np.empty((0, 4)), np.empty((0, 2, 2)), np.empty((0, 2, 2)), np.empty(0, bool))
    stamps, start = stamps.to(device), torch.as_tensor(parameters, dtype=torch.float64, device=device)
    mismatch = (network.mismatch_fraction * start[:, 3]).square().view(-1, 1, 1)
    error = (stamps.velocity_err.square() + network.velocity_error_floor**2 + mismatch).sqrt().to(stamps.velocity)
    data = DiscData(stamps.intensity, stamps.intensity_err, stamps.velocity, error, stamps.valid, stamps.beam if network.beam else None)
    placed = torch.cat([start, torch.zeros_like(start), torch.ones_like(start[:, :1])], dim=1)
    block = (_BLOCK_BEAMS * stamps.beam).clamp(min=_NARROWEST_BLOCK)
    fit = fit_discs(data, placed, prior=_PRIOR, nodes=network.quadrature_nodes, block=block)
    covariance = fit.covariance[:, :2, :2].clone()
    covariance[:, 1, 1] += _CURVE_MISMATCH**2
    columns = (fit.parameters[:, :4], fit.parameters[:, 4:8], covariance, fit.by_held[:, :2])
    known = fit.converged & (fit.parameters[:, 4].abs() < _FARTHEST_AXIS)
    columns = (torch.where(known.view(-1, *[1] * (c.ndim - 1)), c, torch.nan).cpu().numpy() for c in columns)
    refined = Refined(*columns, known.cpu().numpy())
    log.info("network: %d of %d rotation curves refined by least squares", refined.converged.sum(), len(stamps))
    return refined
