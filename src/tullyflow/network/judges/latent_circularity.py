"""The published network of circularity: a convolutional autoencoder whose folded latent space is cut in two (Dawson+2020; thesis ch. 2).

Its principal components are x, y and z in falling variance. Position angle runs around z; folding about z and x leaves
sqrt(x^2 + y^2) and |z|, and a boundary in the former parts kappa above and below 0.5.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, max_unpool2d

from tullyflow.network.judges.binned_probability import interpolate
from tullyflow.network.judges.fields import Fields

__all__ = ["LatentCircularity"]

_LATENT = 3
_KNOTS = 24  # of kappa over the folded radius
_WIDTHS = (8, 16)
_FLAT = (16, 16, 16)  # of what is encoded: channel, y, x


@dataclass(frozen=True)
class _Pooled:
    """Where each maximum was, and the size it was taken from."""

    at: Tensor
    size: torch.Size


class LatentCircularity(nn.Module):
    """Thesis Table A.1: fields (field, 1, 64, 64) in [-1, 1], 0 where blank, to three latent numbers and back.

    The decoder puts its values where the encoder's maxima were. Buffers hold the principal components, the boundary, the latent angle's
    zero and sense, and kappa over the folded radius.
    """

    def __init__(self) -> None:
        super().__init__()
        a, b = _WIDTHS
        self.down = nn.ModuleList([nn.Conv2d(n, m, 3, padding=1) for n, m in ((1, a), (a, a), (a, b), (b, b))])
        self.encode_last = nn.Linear(b * 16 * 16, _LATENT)
        self.decode_first = nn.Linear(_LATENT, b * 16 * 16)
        self.up = nn.ModuleList([nn.ConvTranspose2d(n, m, 3, padding=1) for n, m in ((b, b), (b, a), (a, a), (a, 1))])
        self.register_buffer("middle", torch.zeros(_LATENT))
        self.register_buffer("axes", torch.eye(_LATENT))  # rows: x, y, z
        self.register_buffer("spread", torch.ones(_LATENT))  # standard deviations along them
        self.register_buffer("boundary", torch.tensor(1.0))
        self.register_buffer("angle_zero", torch.tensor(0.0))
        self.register_buffer("angle_sense", torch.tensor(1.0))
        self.register_buffer("radii", torch.linspace(0, 2, _KNOTS))
        self.register_buffer("kappas", torch.linspace(0, 1, _KNOTS))
        self.register_buffer("errs", torch.full((_KNOTS,), 0.3))
        self.register_buffer("farthest", torch.tensor(torch.inf))
        self.to(memory_format=torch.channels_last)

    def encode(self, maps: Tensor) -> tuple[Tensor, tuple[_Pooled, _Pooled]]:
        """Return the latent vectors (field, 3) of maps (field, 1, y, x), and where the maxima were."""
        pooled = []
        maps = maps.contiguous(memory_format=torch.channels_last)
        for k, layer in enumerate(self.down):
            maps = torch.relu(layer(maps))
            if k % 2:
                size = maps.size()
                maps, at = max_pool2d(maps, 2, return_indices=True)
                pooled.append(_Pooled(at, size))
        return self.encode_last(maps.flatten(1)), (pooled[0], pooled[1])

    def decode(self, latent: Tensor, pooled: tuple[_Pooled, _Pooled]) -> Tensor:
        """Return maps (field, 1, y, x) of latent vectors."""
        maps = self.decode_first(latent).unflatten(1, _FLAT)
        for k, layer in enumerate(self.up):
            if k % 2 == 0:
                where = pooled[1 - k // 2]
                maps = max_unpool2d(maps, where.at, 2, output_size=where.size)
            maps = layer(torch.relu(maps) if k < 3 else maps)  # the table has no activation before the last
        return maps

    def forward(self, maps: Tensor) -> Tensor:
        return self.decode(*self.encode(maps))

    def components(self, fields: Fields) -> Tensor:
        """Return the principal components (field, 3) of fields' latent vectors: x, y, z."""
        return (self.encode(fields.velocity.unsqueeze(1))[0] - self.middle) @ self.axes.T

    def position_angle(self, fields: Fields) -> Tensor:
        """Return the latent angle as a position angle (field,): degrees from +y over -x to the receding side."""
        x, y, _ = self.components(fields).unbind(1)
        return (self.angle_sense * torch.rad2deg(torch.atan2(y, x)) + self.angle_zero) % 360

    def measure(self, fields: Fields) -> tuple[Tensor, Tensor, Tensor]:
        """Return kappa, its error and how unlike the simulated fields each is (above 1: too far), by the latent vector.

        kappa is what simulated fields of that folded radius have in the median, and the error their scatter: 0.5 at the boundary.
        """
        components = self.components(fields)
        radius = torch.hypot(components[:, 0], components[:, 1])
        far = (components / self.spread).square().mean(dim=1).sqrt() / self.farthest
        return interpolate(radius, self.radii, self.kappas), interpolate(radius, self.radii, self.errs), far
