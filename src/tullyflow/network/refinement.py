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
_AT_A_TIME, _AT_A_TIME_GPU = 16, 512
_NARROWEST_BLOCK = 4.0  # stamp pixels
_FARTHEST = 2.0  # ln: how far a sample may be from the fit, whose errors are those of a straight line


@dataclass(frozen=True)
class Refined:
    """What least squares found; all (galaxy, ...), NaN where ``converged`` is False: there the network's answer stands.

    ``parameters`` (4) in deg, half-widths and km/s; ``placing`` (4): axis (deg), centre x and y (stamp pixels), v_sys (km/s), all from
    where the stamp has them. ``covariance`` (2, 2) is of ln r_turn and ln V sin i at held inclination and scale length, ``by_held``
    (2, 2) how they follow inclination (deg) and ln r_scale.
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
    chi-squared. Blocks of the covariance are as wide as the beam. NaN parameters are not refined.
    """
    found, chunk = [], _AT_A_TIME if device.type == "cpu" else _AT_A_TIME_GPU
    for begin in range(0, len(stamps), chunk):
        part = stamps.select(slice(begin, begin + chunk)).to(device)
        start = torch.as_tensor(parameters[begin : begin + chunk], dtype=torch.float64, device=device)
        count = len(start)
        mismatch = (network.mismatch_fraction * start[:, 3]).square().view(-1, 1, 1)
        error = (part.velocity_err.square() + network.velocity_error_floor**2 + mismatch).sqrt().to(part.velocity)
        maps = (part.intensity, part.intensity_err, part.velocity, error, part.valid)
        data = DiscData(*maps, part.beam if network.beam else None)
        placed = torch.cat([start, torch.zeros((count, 4)).to(start), torch.ones((count, 1)).to(start)], dim=1)
        fit = fit_discs(data, placed, prior=_PRIOR, nodes=network.quadrature_nodes, block=part.beam.clamp(min=_NARROWEST_BLOCK))
        columns = (fit.parameters[:, :4], fit.parameters[:, 4:8], fit.covariance[:, :2, :2], fit.by_held[:, :2])
        values = [column.cpu().numpy() for column in columns]
        converged = fit.converged.cpu().numpy()
        found.append((*(np.where(converged.reshape(-1, *[1] * (v.ndim - 1)), v, np.nan) for v in values), converged))
    empty = (np.empty((0, 4)), np.empty((0, 4)), np.empty((0, 2, 2)), np.empty((0, 2, 2)), np.empty(0, bool))
    refined = Refined(*(np.concatenate(parts) for parts in zip(empty, *found, strict=True)))
    log.info("network: %d of %d rotation curves refined by least squares", refined.converged.sum(), len(stamps))
    return refined
