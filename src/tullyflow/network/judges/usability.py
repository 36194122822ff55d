"""Would an eye use this velocity field? A probability, of gas and of stars, from networks trained on classes by eye.

The default reads measures that know a field's symmetries (`field_measures`), its own and those of the galaxy's other field, by a small
ensemble of fully connected networks. The published network (github.com/cduckastro, fully connected, 32x32 pixels, one field at a time)
is the configuration ``duckworth2019``. Probabilities are calibrated on galaxies the network had not seen.
"""

from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tullyflow.errors import ModelError
from tullyflow.network.judges.field_measures import COMPARED, MEASURED, SIDE, Measured, compare, halved, measure
from tullyflow.network.judges.fields import Fields, fields_of, in_batches
from tullyflow.network.judges.judge_weights import read_weights, save_weights

__all__ = [
    "Architecture", "DuckworthUsability", "SymmetricUsability", "UsabilityNetwork", "load_usability", "read_fields", "save_usability",
    "usable_of",
    "usable_probability",
]  # fmt: skip

Architecture = Literal["symmetric", "duckworth2019"]

_MEMBERS = 5
_HIDDEN = (128, 64)
_DROPOUT = 0.3
_FARTHEST = 4.0  # standard deviations at which a measure is cut
_SCALES = COMPARED.index("log_scales")  # the one that changes its sign with the order of the two fields
_PUBLISHED_HIDDEN = (256, 128, 64)  # the published widths are in a figure we do not have
_PUBLISHED_DROPOUT = 0.6


class SymmetricUsability(nn.Module):
    """An ensemble of small networks on the measures of a field, of the galaxy's other field, and of how alike the two are.

    Logits are two: class 1 or 2 (usable), and class 2 (clean). Without another field its measures are 0, their mean.
    """

    def __init__(self) -> None:
        super().__init__()
        sizes = (2 * len(MEASURED) + len(COMPARED) + 2, *_HIDDEN, 2)
        pairs = list(pairwise(sizes))
        draws = [((torch.rand(_MEMBERS, a, b) * 2 - 1) / a**0.5, (torch.rand(_MEMBERS, 1, b) * 2 - 1) / a**0.5) for a, b in pairs]
        self.weights = nn.ParameterList([nn.Parameter(weight) for weight, _ in draws])
        self.biases = nn.ParameterList([nn.Parameter(bias) for _, bias in draws])
        for name, size in (("measured", len(MEASURED)), ("compared", len(COMPARED))):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))

    def learn_scales(self, measured: Tensor, compared: Tensor) -> None:
        """Take mean and standard deviation of measures (field, ...) and of comparisons (galaxy, ...), in either order."""
        turned = compared.clone()
        turned[:, _SCALES] *= -1
        for name, values in (("measured", measured), ("compared", torch.cat([compared, turned]))):
            if len(values) > 1:
                getattr(self, f"{name}_mean").copy_(values.mean(0))
                getattr(self, f"{name}_std").copy_(values.std(0).clamp(min=1e-6))

    def inputs(self, gas: Measured, stars: Measured, there: Tensor) -> Tensor:
        """Return what the networks read of galaxies, (galaxy, 2, input): gas, stars; ``there`` (galaxy, 2) says which fields there are."""
        own = [((m.values - self.measured_mean) / self.measured_std).clamp(-_FARTHEST, _FARTHEST) for m in (gas, stars)]
        own = torch.stack(own, dim=1) * there.unsqueeze(-1)
        compared = compare(gas, stars)
        turned = compared.clone()
        turned[:, _SCALES] *= -1
        both = (torch.stack([compared, turned], dim=1) - self.compared_mean) / self.compared_std
        both = both.clamp(-_FARTHEST, _FARTHEST) * there.all(dim=1).view(-1, 1, 1)
        kind = torch.tensor([[0.0], [1.0]]).expand(len(own), 2, 1)
        return torch.cat([own, own.flip(1), both, kind, there.flip(1).unsqueeze(-1).float()], dim=2)

    @staticmethod
    def alone(inputs: Tensor, lonely: Tensor) -> Tensor:
        """Return inputs (field, input) in which the ``lonely`` (field,) have no other field."""
        kept = inputs.clone()
        kept[:, len(MEASURED) : 2 * len(MEASURED) + len(COMPARED)] *= ~lonely.unsqueeze(1)
        kept[:, -1] *= ~lonely
        return kept

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (member, field, 2) of inputs (field, input), or of (member, field, input)."""
        hidden = inputs if inputs.dim() == 3 else inputs.expand(_MEMBERS, -1, -1)
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            if k < len(self.weights) - 1:
                hidden = nn.functional.dropout(hidden.relu(), _DROPOUT, self.training)
        return hidden


class DuckworthUsability(nn.Module):
    """The published network: three hidden layers on 32x32 pixels in [-1, 1], dropout 0.6 on the last two, one field at a time."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third = _PUBLISHED_HIDDEN
        self.layers = nn.Sequential(
            nn.Linear(SIDE * SIDE, first), nn.ReLU(),
            nn.Linear(first, second), nn.ReLU(), nn.Dropout(_PUBLISHED_DROPOUT),
            nn.Linear(second, third), nn.ReLU(), nn.Dropout(_PUBLISHED_DROPOUT), nn.Linear(third, 1),
        )  # fmt: skip

    def forward(self, velocity: Tensor) -> Tensor:
        """Return the logit (field,) of velocities (field, 32, 32)."""
        return self.layers(velocity.flatten(1)).squeeze(1)


class UsabilityNetwork(nn.Module):
    """A network of usability with its calibration: probability = logistic(``slope`` * logit + ``offset``)."""

    def __init__(self, architecture: Architecture = "symmetric"):
        super().__init__()
        self.architecture = architecture
        self.core = SymmetricUsability() if architecture == "symmetric" else DuckworthUsability()
        self.register_buffer("slope", torch.tensor(1.0))
        self.register_buffer("offset", torch.tensor(0.0))

    @torch.no_grad()
    def logits(self, gas: Measured | Tensor, stars: Measured | Tensor, there: Tensor) -> Tensor:
        """Return uncalibrated logits (galaxy, 2) of gas and stars as `read_fields` reads them; ``there`` (galaxy, 2): which there are."""
        if self.architecture == "symmetric":
            return self.core(self.core.inputs(gas, stars, there).flatten(0, 1)).mean(0)[:, 0].view(-1, 2)
        return torch.stack([self.core(gas), self.core(stars)], dim=1)

    def probability(self, logits: Tensor) -> Tensor:
        """Return the calibrated probability of logits of any shape."""
        return torch.sigmoid(self.slope * logits + self.offset)


def read_fields(architecture: Architecture, fields: Fields) -> Measured | Tensor:
    """Return what a network reads of fields: their measures, or velocities (field, 32, 32)."""
    return measure(fields) if architecture == "symmetric" else halved(fields)[0]


def usable_of(
    network: UsabilityNetwork, gas: Fields, gas_judged: NDArray, stars: Fields, stars_judged: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the probability that an eye would use the field of gas and that of stars, each (galaxy,); NaN for those not ``judged``.

    The two are fields of the same galaxies, as `fields_of` makes them. The default network answers alike for fields turned by a quarter,
    mirrored or of opposite sign, as long as that is done to both.
    """
    if len(gas) != len(stars):
        raise ModelError(f"network: velocity fields of gas of {len(gas)} galaxies and of stars of {len(stars)}; they must be the same.")
    network.eval()
    there = torch.from_numpy(np.stack([gas_judged, stars_judged], axis=1))
    found, start = [torch.zeros(0, 2)], 0
    for a, b in zip(in_batches(gas), in_batches(stars), strict=True):
        read = [read_fields(network.architecture, fields) for fields in (a, b)]
        found.append(network.probability(network.logits(*read, there[start : start + len(a)])))
        start += len(a)
    prob = torch.where(there, torch.cat(found), torch.nan).double().numpy()
    return prob[:, 0], prob[:, 1]


def usable_probability(network: UsabilityNetwork, gas: NDArray, stars: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return `usable_of` velocity fields (galaxy, 64, 64; km/s, NaN = none); raise `ModelError` for another size."""
    (gas_fields, gas_judged), (star_fields, star_judged) = fields_of(gas), fields_of(stars)
    return usable_of(network, gas_fields, gas_judged, star_fields, star_judged)


def save_usability(network: UsabilityNetwork, card: dict, folder: str | Path) -> None:
    """Write ``weights.safetensors`` and ``model.json``, its card, into ``folder``."""
    save_weights("usability", network, {"architecture": network.architecture, **card}, folder)


def load_usability(folder: str | Path | None = None) -> UsabilityNetwork:
    """Read a network of usability from a folder, None: the one that ships; raise `ModelError` where it cannot be read."""
    card, tensors = read_weights("usability", folder)
    if card.get("architecture") not in ("symmetric", "duckworth2019"):
        raise ModelError(f"{folder}: architecture {card.get('architecture')!r}; allowed: symmetric, duckworth2019; train it again.")
    network = UsabilityNetwork(card["architecture"])
    try:
        network.load_state_dict(tensors)
    except RuntimeError as err:
        raise ModelError(f"{folder}: not weights of the architecture {network.architecture}: {' '.join(str(err).split())[:200]}.") from err
    return network.eval()
