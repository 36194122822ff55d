"""The default network of circularity: kappa with its error, from a field on its axis, folded by a disc's symmetries."""

import torch
from torch import Tensor, nn

from tullyflow.network.aligned_fields import CHANNELS, Jitter, aligned, fold_field
from tullyflow.network.binned_probability import interpolate, quantiles
from tullyflow.network.fields import Fields
from tullyflow.network.pooling import PoolOfTwo

__all__ = ["KAPPA_BINS", "DirectCircularity"]

KAPPA_BINS = 20  # over which the network spreads its probability
_WIDTHS = (24, 32, 64)
_HIDDEN = 64
_KNOTS = 16  # of the errors' calibration
_MEDIAN, _LOW, _HIGH = 0.5, 0.1587, 0.8413


class DirectCircularity(nn.Module):
    """Read kappa's probability in bins off a field turned onto its axis and folded (`fold_field`).

    The layers are those of `encoder.FoldedEncoder`. Its buffers calibrate it: errors, and what the hidden layer of simulated fields looks
    like.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in zip((CHANNELS, *_WIDTHS[:-1]), _WIDTHS, strict=True):
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1), PoolOfTwo(), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.first = nn.Linear(_WIDTHS[-1] * 4 * 4, _HIDDEN)
        self.last = nn.Linear(_HIDDEN, KAPPA_BINS)
        self.register_buffer("err_found", torch.linspace(0, 0.5, _KNOTS))
        self.register_buffer("err_true", torch.linspace(0, 0.5, _KNOTS))
        self.register_buffer("usual", torch.zeros(_HIDDEN))
        self.register_buffer("whiten", torch.eye(_HIDDEN))
        self.register_buffer("farthest", torch.tensor(torch.inf))
        self.to(memory_format=torch.channels_last)

    def hidden(self, fields: Fields, jitter: Jitter | None = None) -> tuple[Tensor, Tensor]:
        """Return the hidden layer (field, 64) and the dipole's strength (field,)."""
        velocity, valid, strength = aligned(fields, jitter)
        folded = fold_field(velocity, valid).contiguous(memory_format=torch.channels_last)
        return torch.relu(self.first(self.convolutions(folded).flatten(1))), strength

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (field, bin) of kappa's bins."""
        return self.last(hidden)

    def distance(self, hidden: Tensor) -> Tensor:
        """Return how far (field,) hidden layers are from those of simulated fields, in their standard deviations, rms."""
        return ((hidden - self.usual) @ self.whiten).square().mean(dim=1).sqrt()

    def measure(self, fields: Fields) -> tuple[Tensor, Tensor, Tensor]:
        """Return the median of kappa, its calibrated error and how unlike the simulated fields each is (above 1: too far)."""
        hidden, strength = self.hidden(fields)
        low, kappa, high = quantiles(self.logits(hidden).softmax(dim=1), (_LOW, _MEDIAN, _HIGH)).unbind(1)
        err = interpolate((high - low) / 2, self.err_found, self.err_true)
        return kappa, err, torch.where(strength > 0, self.distance(hidden) / self.farthest, torch.inf)
