"""Stamps of maps that are known without noise, and what a network says of them: what several benchmarks share.

Noise as of a telescope limited by its background. The intensity's error is the same everywhere, peak / S/N; a line's velocity is known
to 20 km/s / local S/N (about the width of a line of ionised gas, measured at once), so its error grows as 1 / intensity. A pixel is
kept where a twentieth of the peak and a local S/N of 1 is left, both of the true map, so that noise selects nothing.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tullyflow.conventions import STAMP
from tullyflow.network.autoencoder import DiscAutoencoder
from tullyflow.network.batch import Stamps, norm_of
from tullyflow.network.checkpoint import Checkpoint, load_checkpoint, read_card
from tullyflow.settings import Network

__all__ = ["LINE_KMS", "grid", "half_width", "load", "mean_field", "mock_stamps", "uniform"]

LINE_KMS = 20.0
FAINTEST = 0.05  # of the peak
LOWEST_SNR = 1.0


def load(weights: Path) -> Checkpoint:
    """A trained network under the settings it was trained with, on the cpu."""
    return load_checkpoint(weights, Network(**read_card(weights / "model.json")["network"]), torch.device("cpu"))


def grid() -> tuple[Tensor, Tensor]:
    """x (1, 1, x) and y (1, y, 1) of the pixels, from the stamp's middle."""
    at = torch.arange(STAMP) - (STAMP - 1) / 2
    return at.view(1, 1, -1), at.view(1, -1, 1)


def uniform(generator: torch.Generator, n: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)


def mock_stamps(
    intensity: Tensor,
    velocity: Tensor,
    snr: Tensor,
    looked_at: Tensor,
    deviates: tuple[Tensor, Tensor],
    beam: Tensor,
    network: Network,
) -> Stamps:
    """Noisy stamps of true maps (galaxy, y, x); ``snr`` (galaxy,) is that of the peak, ``deviates`` are normal, one per pixel and map."""
    light = intensity / intensity.amax((1, 2), keepdim=True)
    local = snr.view(-1, 1, 1) * light
    valid = looked_at & (light >= FAINTEST) & (local >= LOWEST_SNR)
    intensity_err, velocity_err = (1 / snr).view(-1, 1, 1).expand_as(light), LINE_KMS / local.clamp(min=LOWEST_SNR)
    light, velocity = light + intensity_err * deviates[0], velocity + velocity_err * deviates[1]
    light, velocity = (torch.where(valid, m, 0) for m in (light, velocity))
    peak = light.amax((1, 2), keepdim=True)
    norm = norm_of(velocity, valid, network.velocity_norm)
    return Stamps(light / peak, intensity_err / peak, velocity, velocity_err, valid, beam, norm)


def half_width(values: np.ndarray) -> np.ndarray:
    """Half of the 68.27 % in the middle, over the first axis."""
    low, high = np.percentile(values, (15.865, 84.135), axis=0)
    return (high - low) / 2


@torch.no_grad()
def mean_field(model: DiscAutoencoder, stamps: Stamps, chunk: int = 100) -> np.ndarray:
    """Parameters (galaxy, 4) without dropout."""
    model.eval()
    parts = [stamps.select(slice(k, k + chunk)) for k in range(0, len(stamps), chunk)]
    return np.concatenate([model.parameters_of(model.encode(p), p.norm).stack().double().numpy() for p in parts])
