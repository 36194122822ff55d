"""The default network of circularity: kappa with its error, from a field on its axis, folded by a disc's symmetries."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tullyflow.network.judges.aligned_fields import CHANNELS, FOLDED, Jitter, aligned, fold_field
from tullyflow.network.judges.binned_probability import interpolate, quantiles
from tullyflow.network.judges.fields import Fields
from tullyflow.network.pooling import PoolOfTwo

__all__ = ["KAPPA_BINS", "DirectCircularity", "Seen"]

KAPPA_BINS = 20  # over which the network spreads its probability
_WIDTHS = (24, 32, 64)
_HIDDEN = 64
_KNOTS = 16  # of the errors' calibration
_MEDIAN, _LOW, _HIGH = 0.5, 0.1587, 0.8413


@dataclass(frozen=True)
class Seen:
    """What the network saw in fields: its hidden layer (field, 64), the mean of each channel of its three convolutions (field, 120), and
    the dipole's strength (field,)."""

    hidden: Tensor
    texture: Tensor
    dipole: Tensor


class DirectCircularity(nn.Module):
    """Read kappa's probability in bins off a field turned onto its axis and folded (`fold_field`).

    The layers are those of `encoder.FoldedEncoder`. Buffers calibrate its errors, and hold what simulated fields look like to its
    convolutions.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in zip((CHANNELS, *_WIDTHS[:-1]), _WIDTHS, strict=True):
            layers.append(nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1), PoolOfTwo(), nn.ReLU()))
        self.convolutions = nn.ModuleList(layers)
        self.first = nn.Linear(_WIDTHS[-1] * (FOLDED // 2 ** len(_WIDTHS)) ** 2, _HIDDEN)
        self.last = nn.Linear(_HIDDEN, KAPPA_BINS)
        self.register_buffer("err_found", torch.linspace(0, 0.5, _KNOTS))
        self.register_buffer("err_true", torch.linspace(0, 0.5, _KNOTS))
        self.register_buffer("usual", torch.zeros(sum(_WIDTHS)))
        self.register_buffer("whiten", torch.eye(sum(_WIDTHS)))
        self.register_buffer("farthest", torch.tensor(torch.inf))
        self.to(memory_format=torch.channels_last)

    def see(self, fields: Fields, jitter: Jitter | None = None) -> Seen:
        """Return what the layers make of fields."""
        velocity, valid, strength = aligned(fields, jitter)
        maps = fold_field(velocity, valid).contiguous(memory_format=torch.channels_last)
        texture = []
        for layer in self.convolutions:
            maps = layer(maps)
            texture.append(maps.mean(dim=(2, 3)))
        return Seen(torch.relu(self.first(maps.flatten(1))), torch.cat(texture, dim=1), strength)

    def logits(self, seen: Seen) -> Tensor:
        """Return the logits (field, bin) of kappa's bins."""
        return self.last(seen.hidden)

    def distance(self, seen: Seen) -> Tensor:
        """Return how far (field,) the texture is from that of simulated fields, in their standard deviations, rms."""
        return ((seen.texture - self.usual) @ self.whiten).square().mean(dim=1).sqrt()

    def measure(self, fields: Fields) -> tuple[Tensor, Tensor, Tensor]:
        """Return the median of kappa, its calibrated error and how unlike the simulated fields each is (above 1: too far)."""
        seen = self.see(fields)
        low, kappa, high = quantiles(self.logits(seen).softmax(dim=1), (_LOW, _MEDIAN, _HIGH)).unbind(1)
        err = interpolate((high - low) / 2, self.err_found, self.err_true)
        return kappa, err, torch.where(seen.dipole > 0, self.distance(seen) / self.farthest, torch.inf)
