"""The encoder of Dawson+2021 Table 1: four convolutions, two linear layers, dropout between them.

Table 1 prints the linear sizes shifted by one row; these are the shapes of the published code (2048 -> 256 -> 2).
"""

import torch
from torch import Tensor, nn

from tullyflow.conventions import STAMP

__all__ = ["Encoder"]

_CHANNELS = (16, 32, 64, 128)
_HIDDEN = 256


class Encoder(nn.Module):
    """Read ``outputs`` numbers off one map; 622,210 trainable parameters with two outputs and no extra input.

    Dropout sits behind the first linear layer only, so `features` is deterministic and Monte-Carlo dropout repeats just `head`.
    """

    def __init__(self, outputs: int = 2, extra: int = 0, dropout: float = 0.1):
        super().__init__()
        layers: list[nn.Module] = []
        for k, (n_in, n_out) in enumerate(zip((1, *_CHANNELS[:-1]), _CHANNELS, strict=True)):
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1), *([nn.ReLU()] if k else []), nn.MaxPool2d(2)]
        self.convolutions = nn.Sequential(*layers)
        flat = _CHANNELS[-1] * (STAMP // 2 ** len(_CHANNELS)) ** 2
        self.first = nn.Linear(flat + extra, _HIDDEN)
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(_HIDDEN, outputs)

    def features(self, maps: Tensor, extra: Tensor | None = None) -> Tensor:
        """Return the hidden layer before dropout, (galaxy, 256), of maps (galaxy, y, x); ``extra`` is (galaxy, extra)."""
        flat = self.convolutions(maps.unsqueeze(1)).flatten(1)
        return torch.relu(self.first(flat if extra is None else torch.cat([flat, extra], dim=1)))

    def head(self, features: Tensor) -> Tensor:
        """Return the outputs (..., outputs) before the hard tanh; random while the module is in training mode."""
        return self.last(self.dropout(features))

    def sample(self, features: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        """Return Monte-Carlo dropout samples (sample, galaxy, outputs), whatever mode the module is in; ``generator`` on the cpu."""
        keep = torch.rand((samples, *features.shape), generator=generator) >= self.dropout.p
        return self.last(features * keep.to(features) / (1 - self.dropout.p))

    def forward(self, maps: Tensor, extra: Tensor | None = None) -> Tensor:
        return self.head(self.features(maps, extra))
