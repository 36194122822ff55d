"""Radial profiles of the disc: how fast it turns and how bright it is."""

import math

import torch
from torch import Tensor

__all__ = ["exponential_intensity", "rotation_velocity"]


def rotation_velocity(radius: Tensor, v_max: Tensor | float, r_turn: Tensor | float) -> Tensor:
    """Return the rotation velocity V(R) = (2/pi) V_max arctan(R / r_turn), Dawson+2021 eq. 4.

    ``radius`` (in the disc plane) and ``r_turn`` share any unit of length, ``v_max`` is the asymptote;
    all broadcast. The paper's minus sign is only its choice of the approaching side: here V >= 0. NaN stays NaN.
    """
    return (2 / math.pi) * v_max * torch.atan(radius / r_turn)


def exponential_intensity(radius: Tensor, height: Tensor, r_scale: Tensor | float, r_z: Tensor | float) -> Tensor:
    """Return the emissivity exp(-R / r_scale) exp(-|z| / r_z) with I0 = 1, Dawson+2021 eq. 3.

    All arguments share any unit of length and broadcast. NaN stays NaN.
    """
    return torch.exp(-radius / r_scale - height.abs() / r_z)
