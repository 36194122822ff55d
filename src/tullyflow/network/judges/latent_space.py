"""The latent space of the published autoencoder, once trained: its axes, the boundary at kappa = 0.5, the angle's zero, kappa by radius."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from torch import Tensor

from tullyflow.network.judges.fields import Fields
from tullyflow.network.judges.latent_circularity import LatentCircularity

if TYPE_CHECKING:
    from tullyflow.network.judges.circularity_training import SimulatedSet

__all__ = ["boundary_of", "fit_latent_space"]

log = logging.getLogger("tullyflow")

_CHUNK = 1024
_UNLIKE_QUANTILE = 0.995
_ONE_SIGMA = 0.6827
_ORDERED = 0.5  # kappa


def boundary_of(radius: NDArray, ordered: NDArray[np.bool_]) -> float:
    """Return the radius at which as large a share of the ordered lies beyond it as of the others within (thesis section 2.2.6)."""
    grid = np.sort(radius)
    beyond = 1 - np.searchsorted(np.sort(radius[ordered]), grid) / max(1, ordered.sum())
    within = np.searchsorted(np.sort(radius[~ordered]), grid) / max(1, (~ordered).sum())
    return float(grid[np.argmin(np.abs(beyond - within))])


def _angle(components: NDArray, pa_deg: NDArray) -> tuple[float, float]:
    """Zero (deg) and sense of the latent angle that agree best with position angles, in the circular mean."""
    angle = np.degrees(np.arctan2(components[:, 1], components[:, 0]))
    means = {sense: np.exp(1j * np.radians(pa_deg - sense * angle)).mean() for sense in (1.0, -1.0)}
    sense = max(means, key=lambda s: abs(means[s]))
    return float(np.degrees(np.angle(means[sense]))), sense


@torch.no_grad()
def fit_latent_space(model: LatentCircularity, data: "SimulatedSet", train: Tensor, held: Tensor) -> None:
    """Fit the buffers of a trained model: components, boundary and angle on ``train``, scatter and what is far on ``held``."""

    def over(index: Tensor, read: Callable[[Fields], Tensor]) -> NDArray:
        return torch.cat([read(data.batch(some)) for some in index.split(_CHUNK)]).double().numpy()

    latent = over(train, lambda fields: model.encode(fields.velocity.unsqueeze(1))[0])
    middle = latent.mean(axis=0)
    _, spread, axes = np.linalg.svd((latent - middle) / np.sqrt(len(latent)), full_matrices=False)
    model.middle.copy_(torch.from_numpy(middle))
    model.axes.copy_(torch.from_numpy(axes))
    model.spread.copy_(torch.from_numpy(spread).clamp(min=1e-6))
    components, kappa = (latent - middle) @ axes.T, data.kappa[train].double().numpy()
    radius = np.hypot(components[:, 0], components[:, 1])
    ordered = kappa >= _ORDERED
    boundary = boundary_of(radius, ordered)
    model.boundary.fill_(boundary)
    zero, sense = _angle(components[ordered], data.pa_deg[train].double().numpy()[ordered])
    model.angle_zero.fill_(zero)
    model.angle_sense.fill_(sense)

    parts = np.array_split(np.argsort(radius, kind="stable"), min(len(model.radii) - 1, len(radius)))
    radii = np.array([np.median(radius[part]) for part in parts])
    kappas = isotonic_regression([np.median(kappa[part]) for part in parts], weights=[len(part) for part in parts]).x
    kappas = np.where(radii < boundary, np.minimum(kappas, _ORDERED - 1e-3), np.maximum(kappas, _ORDERED))
    at = np.searchsorted(radii, boundary)
    few = 0, len(model.radii) - 1 - len(parts)  # knots more than fields
    model.radii.copy_(torch.from_numpy(np.pad(np.insert(radii, at, boundary), few, mode="edge")))
    model.kappas.copy_(torch.from_numpy(np.pad(np.insert(kappas, at, _ORDERED), few, mode="edge")))

    found = torch.from_numpy(over(held, model.components))
    away = torch.from_numpy(np.abs(over(held, lambda fields: model.measure(fields)[0]) - data.kappa[held].double().numpy()))
    place = torch.bucketize(torch.hypot(found[:, 0], found[:, 1]), model.radii.double())
    common = away.quantile(_ONE_SIGMA)
    for knot in range(len(model.errs)):
        near = (place - knot).abs() <= 1
        model.errs[knot] = away[near].quantile(_ONE_SIGMA) if near.sum() >= 20 else common
    model.farthest.fill_((found / model.spread).square().mean(dim=1).sqrt().quantile(_UNLIKE_QUANTILE))
    log.info("circularity: boundary at a folded latent radius of %.3f", boundary)
