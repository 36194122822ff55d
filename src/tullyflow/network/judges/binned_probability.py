"""A number between 0 and 1 as a probability over equal bins: what to train towards, and the quantiles of an answer."""

import torch
from torch import Tensor

__all__ = ["bin_targets", "interpolate", "quantiles"]


def bin_targets(value: Tensor, bins: int) -> Tensor:
    """Return probabilities (field, bin) for values (field,) in 0-1, shared by the two bins whose middles are nearest."""
    at = (value * bins - 0.5).clamp(0, bins - 1)
    lower = at.floor().clamp(max=bins - 2).long()
    share = at - lower
    targets = torch.zeros(len(value), bins, dtype=value.dtype)
    targets.scatter_(1, lower.unsqueeze(1), (1 - share).unsqueeze(1))
    return targets.scatter_(1, lower.unsqueeze(1) + 1, share.unsqueeze(1))


def quantiles(probability: Tensor, wanted: tuple[float, ...]) -> Tensor:
    """Return quantiles (field, wanted) of probabilities (field, bin), even inside each bin."""
    bins = probability.shape[1]
    until = probability.cumsum(dim=1)
    want = torch.tensor(wanted, dtype=until.dtype).expand(len(until), -1).contiguous()
    at = torch.searchsorted(until, want).clamp(max=bins - 1)
    inside = probability.gather(1, at).clamp(min=1e-9)
    before = until.gather(1, at) - inside
    return (at + ((want - before) / inside).clamp(0, 1)) / bins


def interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Interpolate linearly between rising ``knots``, constant beyond their ends."""
    at = torch.searchsorted(knots, x.contiguous()).clamp(1, len(knots) - 1)
    share = ((x - knots[at - 1]) / (knots[at] - knots[at - 1]).clamp(min=1e-9)).clamp(0, 1)
    return values[at - 1] + share * (values[at] - values[at - 1])
