"""The coordinates a disc is fitted in: cos^2 i, ln of lengths and velocity, and their ranges.

A thick disc's maps are functions of cos^2 i, close to linear ones at either end of its range, where they no longer change with i itself.
"""

import math

import torch
from torch import Tensor

from tullyflow.disc.levenberg import Coordinates

__all__ = ["coordinates", "physical", "scaled"]

_INCLINATION = (3.0, 89.9)  # deg
_LOW = (0.0, math.log(0.02), math.log(1e-3), math.log(3.0), -180.0, -8.0, -8.0, -500.0, 1e-3, -1.5)  # of `gradients.NAMES`, outer slope
_HIGH = (0.0, math.log(3.0), math.log(10.0), math.log(3000.0), 180.0, 8.0, 8.0, 500.0, 1e3, 1.5)
_LONGEST = (0.25, 0.4, 0.7, 0.4, 15.0, 2.0, 2.0, 40.0, 0.5, 0.4)
_LOGS = (False, True, True, True, *[False] * 6)


def scaled(parameters: Tensor) -> Tensor:
    """Return parameters (galaxy, k) of `disc.gradients` with the logarithms that it differentiates by."""
    return torch.stack([p.log() if log else p for p, log in zip(parameters.unbind(-1), _LOGS, strict=False)], dim=-1)


def physical(given: Tensor) -> Tensor:
    """Return `scaled` ones (galaxy, k) as `disc.gradients` takes them."""
    return torch.stack([p.exp() if log else p for p, log in zip(given.unbind(-1), _LOGS, strict=False)], dim=-1)


def _forward(given: Tensor) -> Tensor:
    return torch.cat([torch.deg2rad(given[:, :1]).cos().square(), given[:, 1:]], dim=1)


def _back(at: Tensor) -> Tensor:
    return torch.cat([torch.rad2deg(at[:, :1].clamp(0, 1).sqrt().acos()), at[:, 1:]], dim=1)


def _slope(at: Tensor) -> Tensor:
    by = torch.ones_like(at)
    by[:, 0] = -math.degrees(0.5) / (at[:, 0] * (1 - at[:, 0])).clamp(min=1e-12).sqrt()
    return by


def coordinates(count: int, device: torch.device) -> Coordinates:
    """Return the coordinates of the first ``count`` `scaled` parameters."""
    low, high, longest = (torch.tensor(ends[:count], dtype=torch.float64, device=device) for ends in (_LOW, _HIGH, _LONGEST))
    high[0], low[0] = (math.cos(math.radians(end)) ** 2 for end in _INCLINATION)
    return Coordinates(_forward, _back, _slope, low, high, longest)
