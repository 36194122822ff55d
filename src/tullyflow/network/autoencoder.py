"""The semantic autoencoder: an encoder reads four disc parameters, the disc model draws the maps back (Dawson+2021 section 2).

As in the code published with the paper, and always here, the velocity's loss does not reach the outputs inclination and scale length:
without labels the intensity alone teaches those, and a wrong rotation curve cannot buy a better velocity map with a wrong inclination.
What the folded encoder shares between its outputs learns from both.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tullyflow.disc.projection import DiscMaps, project_disc
from tullyflow.network.batch import Stamps
from tullyflow.network.encoder import FoldedEncoder, PaperEncoders
from tullyflow.settings import Network

__all__ = ["DiscAutoencoder", "DiscParameters", "MapLoss", "Sampled", "map_loss"]

_LOG_SIGMA = (-7.0, 1.0)  # of an output, whose range is 2 wide
_INTENSITY_ERR_FLOOR = 0.02  # of the peak: what a smooth exponential leaves of a real galaxy at best (loss chi2)


@dataclass(frozen=True)
class DiscParameters:
    """Inclination (deg), lengths (fractions of the stamp's half-width), V_max sin i (km/s); any one shape."""

    inclination_deg: Tensor
    r_scale: Tensor
    r_turn: Tensor
    v_max_sini: Tensor

    def stack(self) -> Tensor:
        """Return them as (..., 4)."""
        return torch.stack([self.inclination_deg, self.r_scale, self.r_turn, self.v_max_sini], dim=-1)


@dataclass(frozen=True)
class MapLoss:
    """Loss per galaxy (galaxy,) of each map."""

    intensity: Tensor
    velocity: Tensor

    @property
    def total(self) -> Tensor:
        return self.intensity + self.velocity


@dataclass(frozen=True)
class Sampled:
    """Monte-Carlo dropout samples of the ``parameters``, each (sample, galaxy), and the network's own ``spread`` (galaxy, 4).

    ``spread`` is the sigma that the network states beside its answer (deg, then of ln); 0 where it states none.
    """

    parameters: DiscParameters
    spread: Tensor


class DiscAutoencoder(nn.Module):
    """Encoders, the ranges of their outputs and the disc decoder, as the settings' section ``network`` says."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network
        self.encoders = (FoldedEncoder if network.architecture == "folded" else PaperEncoders)(network.beam_input)
        self.dropout = nn.Dropout(network.dropout)
        bounds = [network.ranges.inclination_deg, network.ranges.r_scale, network.ranges.r_turn, network.ranges.v_max]
        self.log = [False] + [network.log_scale] * 3
        ends = [[math.log(b) for b in pair] if log else list(pair) for pair, log in zip(bounds, self.log, strict=True)]
        self.register_buffer("low", torch.tensor([e[0] for e in ends], dtype=torch.float64), persistent=False)
        self.register_buffer("high", torch.tensor([e[1] for e in ends], dtype=torch.float64), persistent=False)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def _ends(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return self.low.to(like), self.high.to(like)

    def features(self, stamps: Stamps) -> Tensor:
        """Return the hidden layer (galaxy, 512): deterministic, whatever masked pixels hold."""
        return self.encoders.features(stamps)

    def _read(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the outputs (..., 4) of features (..., 512) and their ln sigmas, if the network states any."""
        read = self.encoders.read(features)
        return read[..., :4], read[..., 4:].clamp(*_LOG_SIGMA) if self.encoders.outputs == 8 else None

    def answer(self, stamps: Stamps) -> tuple[Tensor, Tensor | None]:
        """Return the outputs (galaxy, 4) before the hard tanh and their ln sigmas, if the network states any; dropout in training mode."""
        return self._read(self.dropout(self.features(stamps)))

    def encode(self, stamps: Stamps) -> Tensor:
        """Return the outputs (galaxy, 4) before the hard tanh; random in training mode (dropout)."""
        return self.answer(stamps)[0]

    @torch.no_grad()
    def sample(self, stamps: Stamps, samples: int, generator: torch.Generator) -> Sampled:
        """Return Monte-Carlo dropout samples, whatever mode the model is in: features once, the last layer ``samples`` times.

        ``generator`` may be the cpu's, which gives the same samples on every device, or the device's own, which is faster there.
        """
        features = self.features(stamps)
        keep = torch.rand((samples, *features.shape), generator=generator, device=generator.device) >= self.dropout.p
        outputs, _ = self._read(features * keep.to(features) / (1 - self.dropout.p))
        parameters = self.parameters_of(outputs, stamps.norm)
        _, log_sigma = self._read(features)
        if log_sigma is None:
            return Sampled(parameters, torch.zeros_like(outputs[0]))
        low, high = self._ends(features)
        spread = log_sigma.exp() * (high - low) / 2
        if not self.network.log_scale:  # of the value: of its ln
            scaled = low + (outputs.mean(0).clamp(-1, 1) + 1) / 2 * (high - low)
            spread = torch.cat([spread[:, :1], spread[:, 1:] / scaled[:, 1:]], dim=1)
        return Sampled(parameters, spread)

    def parameters_of(self, outputs: Tensor, norm: Tensor) -> DiscParameters:
        """Map outputs (..., 4) through the hard tanh to their ranges; ``norm`` (km/s) broadcasts against (...)."""
        low, high = self._ends(outputs)
        scaled = low + (nn.functional.hardtanh(outputs) + 1) / 2 * (high - low)
        values = [column.exp() if log else column for column, log in zip(scaled.unbind(-1), self.log, strict=True)]
        if self.network.velocity_norm == "percentile":
            values[3] = values[3] * norm
        return DiscParameters(*values)

    def outputs_of(self, parameters: DiscParameters, norm: Tensor) -> Tensor:
        """Return the outputs (..., 4) that stand for ``parameters``, cut to [-1, 1]: the inverse of `parameters_of`."""
        values = parameters.stack()
        if self.network.velocity_norm == "percentile":
            values = torch.cat([values[..., :3], values[..., 3:] / norm.unsqueeze(-1)], dim=-1)
        low, high = self._ends(values)
        scaled = torch.stack([c.log() if log else c for c, log in zip(values.unbind(-1), self.log, strict=True)], dim=-1)
        return (2 * (scaled - low) / (high - low) - 1).clamp(-1, 1)

    def decode(self, parameters: DiscParameters, beam: Tensor) -> DiscMaps:
        """Draw the maps of (galaxy,) parameters, smeared by ``beam`` (FWHM, stamp pixels) where the setting says so."""
        return project_disc(
            parameters.inclination_deg, parameters.r_scale, parameters.r_turn, parameters.v_max_sini,
            nodes=self.network.quadrature_nodes, beam_fwhm=beam if self.network.beam else None, cut_velocity=True,
            central_cells=self.network.central_cells,
        )  # fmt: skip

    def forward(self, stamps: Stamps) -> DiscMaps:
        return self.decode(self.parameters_of(self.encode(stamps), stamps.norm), stamps.beam)


def scale_to_data(model: Tensor, stamps: Stamps) -> Tensor:
    """Return the model intensity times the least-squares factor onto each galaxy's valid pixels, (galaxy, y, x)."""
    weighted = torch.where(stamps.valid, model, 0)
    factor = (weighted * stamps.intensity).sum((1, 2)) / weighted.square().sum((1, 2)).clamp(min=1e-12)
    return model * factor.clamp(min=1e-3).view(-1, 1, 1)


def map_loss(model: DiscMaps, stamps: Stamps, network: Network) -> MapLoss:
    """Return the masked loss of both maps, one number per galaxy (Dawson+2021 eq. 5, equal weights).

    ``mse``: squared residuals of the scaled maps (intensity peak 1, velocity over its norm); ``chi2``: over the squared errors, with
    ``velocity_error_floor`` and 2 % of the peak in quadrature. Averaged over the valid pixels, or all (the published code), as
    ``mean_over`` says. With ``intensity_scale: fit`` the model's peak is fitted; with ``peak`` it is 1. Masked pixels never enter.
    """
    intensity = scale_to_data(model.intensity, stamps) if network.intensity_scale == "fit" else model.intensity
    d_intensity, d_velocity = intensity - stamps.intensity, model.velocity - stamps.velocity
    if network.loss == "chi2":
        d_intensity = d_intensity / torch.hypot(stamps.intensity_err, torch.full_like(stamps.intensity_err, _INTENSITY_ERR_FLOOR))
        floor = torch.full_like(stamps.velocity_err, network.velocity_error_floor)
        d_velocity = d_velocity / torch.hypot(stamps.velocity_err, floor)
    else:
        d_velocity = d_velocity / stamps.norm.view(-1, 1, 1)
    pixels = stamps.valid[0].numel() if network.mean_over == "all" else stamps.valid.sum((1, 2)).clamp(min=1)
    return MapLoss(*(torch.where(stamps.valid, d, 0).square().sum((1, 2)) / pixels for d in (d_intensity, d_velocity)))
