"""What reads a disc's parameters off its stamps: the encoders of Dawson+2021 Table 1, and one that knows a disc's symmetries.

Dropout sits behind the first linear layer only, so ``features`` is deterministic and Monte-Carlo dropout repeats just ``read``.
"""

import torch
from torch import Tensor, nn

from tullyflow.conventions import STAMP
from tullyflow.network.batch import Stamps
from tullyflow.network.pooling import PoolOfTwo

__all__ = ["Encoder", "FoldedEncoder", "PaperEncoders", "fold"]

_CHANNELS = (16, 32, 64, 128)
_HIDDEN = 256
_HALF = STAMP // 2
_FOLDED_INPUTS = 6
_FOLDED_CHANNELS = (32, 64, 128)
_FOLDED_HIDDEN = 512
_SMALLEST_ERR = 1e-4  # of the peak, of the norm


def _beam_input(stamps: Stamps) -> Tensor:
    return (stamps.beam.clamp(min=0.5) / 4).log()


class Encoder(nn.Module):
    """Read ``outputs`` numbers off one map; 622,210 trainable parameters with two outputs and no extra input.

    Table 1 prints the linear sizes shifted by one row; these are the shapes of the published code (2048 -> 256 -> 2).
    """

    def __init__(self, outputs: int = 2, extra: int = 0):
        super().__init__()
        layers: list[nn.Module] = []
        for k, (n_in, n_out) in enumerate(zip((1, *_CHANNELS[:-1]), _CHANNELS, strict=True)):
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1), PoolOfTwo(), *([nn.ReLU()] if k else [])]
        self.convolutions = nn.Sequential(*layers)
        flat = _CHANNELS[-1] * (STAMP // 2 ** len(_CHANNELS)) ** 2
        self.first = nn.Linear(flat + extra, _HIDDEN)
        self.last = nn.Linear(_HIDDEN, outputs)

    def features(self, maps: Tensor, extra: Tensor | None = None) -> Tensor:
        """Return the hidden layer before dropout, (galaxy, 256), of maps (galaxy, y, x); ``extra`` is (galaxy, extra)."""
        flat = self.convolutions(maps.unsqueeze(1)).flatten(1)
        return torch.relu(self.first(flat if extra is None else torch.cat([flat, extra], dim=1)))

    def forward(self, maps: Tensor, extra: Tensor | None = None) -> Tensor:
        return self.last(self.features(maps, extra))


class PaperEncoders(nn.Module):
    """Two encoders of Table 1: intensity gives inclination and r_scale, velocity gives r_turn and V_max sin i (Dawson+2021 section 2.3).

    Masked pixels enter as 0. With ``beam_input`` each is told the beam's size beside its map.
    """

    outputs = 4

    def __init__(self, beam_input: bool):
        super().__init__()
        self.beam_input = beam_input
        self.intensity = Encoder(2, int(beam_input))
        self.velocity = Encoder(2, int(beam_input))

    def features(self, stamps: Stamps) -> Tensor:
        """Return both hidden layers, (galaxy, 512)."""
        extra = _beam_input(stamps).unsqueeze(1) if self.beam_input else None
        intensity = torch.where(stamps.valid, stamps.intensity, 0)
        velocity = torch.where(stamps.valid, stamps.velocity / stamps.norm.view(-1, 1, 1), 0)
        return torch.cat([self.intensity.features(intensity, extra), self.velocity.features(velocity, extra)], dim=1)

    def read(self, features: Tensor) -> Tensor:
        """Return the outputs (..., 4) of features (..., 512)."""
        intensity, velocity = features.split(_HIDDEN, dim=-1)
        return torch.cat([self.intensity.last(intensity), self.velocity.last(velocity)], dim=-1)


def fold(stamps: Stamps) -> Tensor:
    """Lay the four quadrants of a stamp upon each other: (galaxy, 5, 32, 32), first pixel at the centre.

    A disc's intensity is even in x and y, its velocity odd in x and even in y. What a small error of the position angle, the centre
    or the systemic velocity adds is, to first order, of other symmetry: the mean over the quadrants is free of it where all four
    are valid, and holds everything else that the map says of the disc. Channels: mean intensity, mean velocity over the norm, share
    of valid quadrants, ln errors of both means. 0 where no quadrant is valid.
    """

    def quadrants(image: Tensor, odd: bool = False) -> Tensor:
        left = image[:, :, :_HALF].flip(2)
        sides = torch.stack([image[:, :, _HALF:], -left if odd else left], dim=1)
        return torch.cat([sides[:, :, _HALF:], sides[:, :, :_HALF].flip(2)], dim=1)

    valid = quadrants(stamps.valid)
    count = valid.sum(1)
    some, share = count > 0, count.clamp(min=1)
    norm = stamps.norm.view(-1, 1, 1)

    def mean(image: Tensor, odd: bool = False) -> Tensor:
        return torch.where(valid, quadrants(image, odd), 0).sum(1) / share

    def log_err(error: Tensor, unit: Tensor | float) -> Tensor:
        err = torch.where(valid, quadrants(error), 0).square().sum(1).sqrt() / share / unit
        return torch.where(some, 1 + err.clamp(min=_SMALLEST_ERR).log() / 3, 0)

    errors = log_err(stamps.intensity_err, 1.0), log_err(stamps.velocity_err, norm)
    return torch.stack([mean(stamps.intensity), mean(stamps.velocity, odd=True) / norm, count / 4, *errors], dim=1)


class FoldedEncoder(nn.Module):
    """Read both maps together, folded by a disc's symmetries (`fold`), with their errors: outputs and their ln sigmas.

    With ``beam_input`` the beam's size is one more channel.
    """

    outputs = 8

    def __init__(self, beam_input: bool):
        super().__init__()
        self.beam_input = beam_input
        layers: list[nn.Module] = []
        for n_in, n_out in zip((_FOLDED_INPUTS, *_FOLDED_CHANNELS[:-1]), _FOLDED_CHANNELS, strict=True):
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1), PoolOfTwo(), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.first = nn.Linear(_FOLDED_CHANNELS[-1] * (_HALF // 2 ** len(_FOLDED_CHANNELS)) ** 2, _FOLDED_HIDDEN)
        self.last = nn.Linear(_FOLDED_HIDDEN, self.outputs)

    def features(self, stamps: Stamps) -> Tensor:
        """Return the hidden layer, (galaxy, 512)."""
        folded = fold(stamps)
        beam = _beam_input(stamps) if self.beam_input else torch.zeros_like(stamps.beam)
        maps = torch.cat([folded, beam.view(-1, 1, 1, 1).expand(-1, 1, _HALF, _HALF)], dim=1)
        return torch.relu(self.first(self.convolutions(maps).flatten(1)))

    def read(self, features: Tensor) -> Tensor:
        """Return the outputs and their ln sigmas (..., 8) of features (..., 512)."""
        return self.last(features)
