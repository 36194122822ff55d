"""The seeds' method (Dawson+2021 sections 2.2-2.7) written out from its description, float32: what the benchmarks compare with.

Two encoders of Table 1, a decoder that fills a cube of 64 x 64 x 64 voxels with eqs 3 and 4 and sums it over
depth (eqs 1 and 2), the mean squared error over all pixels of both maps (eq. 5), Adam at 1e-4, and Monte-Carlo dropout by passes
through the whole encoders (section 2.7). As in the published code the intensity is divided by its maximum, the velocity is scaled to
the largest one inside the map, the velocity's loss does not reach inclination and scale length, and masked pixels are 0.
Never part of the package. No slower than it needs be: y' and z of the voxels do not depend on x, so they are made once for all x; the
two exponentials of eq. 3 are one; the velocity is detached from what it does not train.
"""

import torch
from torch import Tensor, nn

__all__ = ["RANGES", "SeedEncoder", "SeedNetwork", "cube_maps", "seed_loss"]

SIZE = 64
RANGES = ((10.0, 90.0), (0.1, 0.35), (0.01, 0.8), (50.0, 500.0))  # Dawson+2021 Table 2
NORM = 500.0  # km/s
R_Z = 1.0  # pixels


def cube_maps(inclination_deg: Tensor, r_scale: Tensor, r_turn: Tensor, v_max: Tensor, cut_velocity: bool = True) -> tuple[Tensor, Tensor]:
    """Return intensity (peak 1) and velocity (unit of ``v_max``, its largest value), each (galaxy, y, x), of parameters (galaxy,).

    Lengths are fractions of the half-width. ``cut_velocity``: no gradient of the velocity reaches the first two parameters.
    """
    axis = torch.arange(SIZE, dtype=inclination_deg.dtype, device=inclination_deg.device) - (SIZE - 1) / 2
    x, y, depth = axis.view(1, 1, 1, -1), axis.view(1, 1, -1, 1), axis.view(1, -1, 1, 1)  # cube: (galaxy, depth, y, x)
    angle = torch.deg2rad(inclination_deg).view(-1, 1, 1, 1)
    cos, sin = angle.cos(), angle.sin()
    scale, turn = (length.view(-1, 1, 1, 1) * (SIZE / 2) for length in (r_scale, r_turn))
    in_plane, height = y * cos + depth * sin, depth * cos - y * sin
    radius = torch.sqrt(in_plane.square() + x.square())
    light = torch.exp(-(radius / scale + height.abs() / R_Z))
    intensity = light.sum(dim=1)
    if cut_velocity:
        radius, light = radius.detach(), light.detach()
    towards = (light * torch.atan(radius / turn) * (x / radius)).sum(dim=1)
    velocity = towards / (intensity.detach() if cut_velocity else intensity)
    velocity = velocity / velocity.abs().amax((1, 2), keepdim=True) * v_max.view(-1, 1, 1)
    return intensity / intensity.amax((1, 2), keepdim=True), velocity


class SeedEncoder(nn.Module):
    """The encoder of Table 1, layer by layer in its order; weights of the package's encoder have the same names and fit."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, padding=1), nn.MaxPool2d(2)]
        for n_in in (16, 32, 64):
            layers += [nn.Conv2d(n_in, 2 * n_in, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.convolutions = nn.Sequential(*layers)
        self.first, self.dropout, self.last = nn.Linear(2048, 256), nn.Dropout(0.1), nn.Linear(256, 2)

    def forward(self, maps: Tensor) -> Tensor:
        hidden = torch.relu(self.first(self.convolutions(maps.unsqueeze(1)).flatten(1)))
        return nn.functional.hardtanh(self.last(self.dropout(hidden)))


class SeedNetwork(nn.Module):
    """Two encoders, their outputs mapped linearly to the ranges, and the cube."""

    def __init__(self) -> None:
        super().__init__()
        self.intensity_encoder, self.velocity_encoder = SeedEncoder(), SeedEncoder()
        self.register_buffer("low", torch.tensor([ends[0] for ends in RANGES]), persistent=False)
        self.register_buffer("high", torch.tensor([ends[1] for ends in RANGES]), persistent=False)

    def encode(self, intensity: Tensor, velocity: Tensor) -> Tensor:
        """Return the parameters (galaxy, 4) read off maps (galaxy, y, x), the velocity in km/s."""
        outputs = torch.cat([self.intensity_encoder(intensity), self.velocity_encoder(velocity / NORM)], dim=1)
        return self.low + (outputs + 1) / 2 * (self.high - self.low)

    def forward(self, intensity: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
        return cube_maps(*self.encode(intensity, velocity).unbind(1))

    @torch.no_grad()
    def sample(self, intensity: Tensor, velocity: Tensor, samples: int) -> Tensor:
        """Return Monte-Carlo dropout samples (sample, galaxy, 4): so many passes through the whole encoders."""
        self.train()
        return torch.stack([self.encode(intensity, velocity) for _ in range(samples)])


def seed_loss(found: tuple[Tensor, Tensor], intensity: Tensor, velocity: Tensor, valid: Tensor) -> Tensor:
    """Return eq. 5: the mean squared errors over all pixels of both maps, masked ones 0, added with equal weight."""
    model_intensity, model_velocity = (torch.where(valid, m, 0) for m in found)
    return nn.functional.mse_loss(model_intensity, intensity) + nn.functional.mse_loss(model_velocity / NORM, velocity / NORM)
