"""Velocity fields as the networks that judge them take them: about zero, filled, scaled to [-1, 1], with their validity beside them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tullyflow.conventions import STAMP
from tullyflow.errors import ModelError
from tullyflow.network.batch import MIN_PIXELS

__all__ = ["Fields", "fields_of", "in_batches"]

_BATCH = 256  # fields: what a core's cache holds is faster than more
_SMALLEST_KMS = 1e-3


@dataclass(frozen=True)
class Fields:
    """Fields (field, y, x): ``velocity`` in [-1, 1], 0 where not ``valid``, and what one is in km/s, ``scale_kms`` (field,)."""

    velocity: Tensor
    valid: Tensor
    scale_kms: Tensor

    def __len__(self) -> int:
        return len(self.scale_kms)

    def select(self, index) -> "Fields":
        """Return the fields of an index, a slice or a mask."""
        return Fields(self.velocity[index], self.valid[index], self.scale_kms[index])


def fields_of(velocity: NDArray, fraction: float = 0.96) -> tuple[Fields, NDArray[np.bool_]]:
    """Return velocity fields (N, 64, 64; km/s, NaN = none) as the networks take them, and which can be judged (N,).

    Each is taken about the median of its valid pixels, divided by the ``fraction`` quantile of its |v| (thesis section 2.2: 0.96), and
    clipped to [-1, 1]. A field can be judged with at least 16 valid pixels that are not all alike; the others are kept, all zero.
    Raises `ModelError` for fields of another size.
    """
    velocity = np.asarray(velocity, dtype=np.float32)
    if velocity.ndim != 3 or velocity.shape[1:] != (STAMP, STAMP):
        raise ModelError(f"network: velocity fields of shape {velocity.shape}; it reads (N, {STAMP}, {STAMP}).")
    valid = np.isfinite(velocity)
    scaled, scale, judged = np.zeros_like(velocity), np.ones(len(velocity), np.float32), np.zeros(len(velocity), bool)
    for k, there in enumerate(valid):  # a sort of each field's own pixels is five times as fast as one of all 4096
        found = velocity[k][there]
        if len(found) < MIN_PIXELS:
            continue
        ordered = np.sort(found)
        found = found - (ordered[(len(found) - 1) // 2] + ordered[len(found) // 2]) / 2
        ordered = np.sort(np.abs(found))
        judged[k] = ordered[-1] > 0
        scale[k] = max(ordered[int((len(found) - 1) * fraction)], _SMALLEST_KMS)
        scaled[k][there] = np.clip(found / scale[k], -1, 1)
    return Fields(*map(torch.from_numpy, (scaled, valid & judged[:, None, None], scale))), judged


def in_batches(fields: Fields, size: int = _BATCH) -> Iterator[Fields]:
    """Yield the fields, a batch at a time."""
    for start in range(0, len(fields), size):
        yield fields.select(slice(start, start + size))
