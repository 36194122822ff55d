"""Draw the maps of inferred parameters and say how well they fit the stamps."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tullyflow.disc.gradients import disc_gradients
from tullyflow.disc.projection import DiscMaps
from tullyflow.network.autoencoder import DiscAutoencoder, DiscParameters, scale_to_data
from tullyflow.network.batch import Stamps, velocity_variance
from tullyflow.network.memory import galaxies_at_a_time

__all__ = ["Reconstruction", "reconstruct"]

_PLACED_AT_A_TIME = 16  # galaxies whose derivatives, drawn beside the maps, stay in a processor's cache
_PAPER_NORM = 500.0  # km/s: what the thesis scales velocity maps by, whatever the network's own norm


@dataclass(frozen=True)
class Reconstruction:
    """Model maps (galaxy, y, x) and how well they fit, (galaxy,)."""

    intensity: np.ndarray
    velocity: np.ndarray
    mse_intensity: np.ndarray
    rms_velocity_kms: np.ndarray
    chi2_velocity: np.ndarray
    mse_over_v: np.ndarray


def _placed_maps(values: Tensor, beam: Tensor | None, nodes: int) -> DiscMaps:
    """Draw discs (galaxy, 8): the network's four parameters, then axis, centre and v_sys."""
    values, drawn = torch.cat([values, torch.ones_like(values[:, :1])], dim=1), []
    for rows in torch.arange(len(values), device=values.device).split(_PLACED_AT_A_TIME):
        seen = disc_gradients(values[rows], None if beam is None else beam[rows], nodes)
        drawn.append((seen.intensity, seen.velocity))
    return DiscMaps(*(torch.cat(maps) for maps in zip(*drawn, strict=True)))


@torch.no_grad()
def reconstruct(model: DiscAutoencoder, stamps: Stamps, parameters: np.ndarray, placing: np.ndarray | None = None) -> Reconstruction:
    """Draw the maps of parameters (galaxy, 4) and compare them with the stamps over the valid pixels.

    ``placing`` (galaxy, 4) is where a fit put the disc: axis (deg), centre (pixels), v_sys (km/s), all 0 for a disc as the network sees it.
    The model's brightness is fitted or 1 at its peak as in training. ``chi2_velocity`` is per valid pixel, with
    ``velocity_error_floor`` and ``mismatch_fraction`` of V_max sin i in quadrature. ``mse_over_v`` is the thesis's statistic (section
    4.2.4): the mean squared residual of both maps, the velocity scaled by 500 km/s, averaged as in training and divided by
    V_max sin i / 500 km/s.
    """
    network = model.network
    kept: dict[str, list[np.ndarray]] = {name: [] for name in Reconstruction.__dataclass_fields__}
    chunk = galaxies_at_a_time(model.device)
    for start in range(0, len(stamps), chunk):
        part = stamps.select(slice(start, start + chunk)).to(model.device)
        values = torch.as_tensor(parameters[start : start + chunk], dtype=part.norm.dtype, device=model.device)
        if placing is None:
            maps = model.decode(DiscParameters(*values.unbind(-1)), part.beam)
        else:
            placed = torch.as_tensor(placing[start : start + chunk]).to(values)
            maps = _placed_maps(torch.cat([values, placed], dim=1), part.beam if network.beam else None, network.quadrature_nodes)
        intensity = scale_to_data(maps.intensity, part) if network.intensity_scale == "fit" else maps.intensity
        pixels = part.valid.sum((1, 2)).clamp(min=1)
        squares = [torch.where(part.valid, d, 0).square().sum((1, 2)) for d in (intensity - part.intensity, maps.velocity - part.velocity)]
        variance = velocity_variance(part, values[:, 3], network)
        chi2 = torch.where(part.valid, (maps.velocity - part.velocity).square() / variance, 0).sum((1, 2)) / pixels
        over = float(part.valid[0].numel()) if network.mean_over == "all" else pixels
        mse = (squares[0] + squares[1] / _PAPER_NORM**2) / 2 / over
        fit = (intensity, maps.velocity, squares[0] / pixels, (squares[1] / pixels).sqrt(), chi2, mse / (values[:, 3] / _PAPER_NORM))
        for name, value in zip(kept, fit, strict=True):
            kept[name].append(value.cpu().numpy())
    empty = {name: np.empty((0, 64, 64) if name in ("intensity", "velocity") else 0, np.float32) for name in kept}
    return Reconstruction(**{name: np.concatenate([empty[name], *parts]) for name, parts in kept.items()})
