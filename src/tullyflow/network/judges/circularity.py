"""How much of a galaxy's motion is ordered rotation: its circularity kappa, read off the velocity field, with an error.

kappa is the share of the kinetic energy that is in rotation about the axis of angular momentum (Sales+2012; thesis eq. 2.1): 1 for a cold
disc, 1/3 for isotropic random motion, 0 for motion along the radius only. A network trained on galaxies made of particles
(`circularity_maps`) gives it for a field that lies anyhow on its image.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tullyflow.errors import ModelError
from tullyflow.network.judges.circularity_figures import figures_of, summary_of
from tullyflow.network.judges.circularity_training import SimulatedSet, simulated_set, train_direct, train_latent
from tullyflow.network.judges.direct_circularity import DirectCircularity
from tullyflow.network.judges.fields import Fields, fields_of, in_batches
from tullyflow.network.judges.judge_weights import read_weights, save_weights
from tullyflow.network.judges.latent_circularity import LatentCircularity
from tullyflow.settings import Settings

__all__ = [
    "Architecture", "Circularity", "CircularityNetwork", "circularity", "circularity_of", "load_circularity", "train", "train_circularity",
]  # fmt: skip

log = logging.getLogger("tullyflow")

_EPOCHS = {"direct": 6, "dawson2020": 40}  # of all fields; of 6,400 (published: 300)


Architecture = Literal["direct", "dawson2020"]


class _Judge(Protocol):
    def measure(self, fields: Fields) -> tuple[Tensor, Tensor, Tensor]:
        """Return kappa, its error and how unlike the simulated fields each is (1: as the farthest allowed)."""
        ...


@dataclass(frozen=True)
class Circularity:
    """``kappa`` and its 1 sigma ``err`` (field,), NaN where there is no field; ``unlike`` (field,): nothing simulated looks so."""

    kappa: NDArray[np.float64]
    err: NDArray[np.float64]
    unlike: NDArray[np.bool_]


@dataclass(frozen=True)
class CircularityNetwork:
    """A trained network, ``direct`` or ``dawson2020``, and its card."""

    architecture: Architecture
    model: _Judge
    card: dict


def load_circularity(folder: str | Path | None = None) -> CircularityNetwork:
    """Load a folder's weights, None: those that ship; raise `ModelError` where they cannot be used."""
    card, tensors = read_weights("circularity", folder)
    architectures = {"direct": DirectCircularity, "dawson2020": LatentCircularity}
    architecture = card.get("architecture")
    if architecture not in architectures:
        raise ModelError(f"{folder or 'shipped weights'}: architecture {architecture!r}; known are {', '.join(architectures)}.")
    model = architectures[architecture]()
    try:
        model.load_state_dict(tensors)
    except RuntimeError as err:
        raise ModelError(f"{folder or 'shipped weights'}: not weights of {architecture}: {' '.join(str(err).split())[:200]}.") from err
    return CircularityNetwork(architecture, model.eval(), card)


def circularity_of(network: CircularityNetwork, fields: Fields, judged: NDArray[np.bool_]) -> Circularity:
    """Return the circularity of fields as networks take them; NaN, and not unlike anything, where not ``judged``."""
    kappa, err = np.full(len(fields), np.nan), np.full(len(fields), np.nan)
    unlike = np.zeros(len(fields), dtype=bool)
    if judged.any():
        with torch.inference_mode():
            found = [network.model.measure(batch) for batch in in_batches(fields.select(torch.from_numpy(judged)))]
        kappa[judged], err[judged], far = (torch.cat(part).numpy() for part in zip(*found, strict=True))
        unlike[judged] = far > 1
    return Circularity(kappa, err, unlike)


def circularity(network: CircularityNetwork, velocity: NDArray) -> Circularity:
    """Return the circularity of velocity fields (N, 64, 64), km/s, NaN = none; raise `ModelError` for another shape.

    The answer does not change where a field is turned by a quarter, mirrored, or its velocities change sign.
    """
    return circularity_of(network, *fields_of(velocity))


def train_circularity(
    velocity: NDArray,
    kappa: NDArray,
    particle_set: NDArray,
    *,
    pa_deg: NDArray | None = None,
    architecture: Architecture = "direct",
    epochs: int | None = None,
    seed: int = 0,
) -> CircularityNetwork:
    """Train a network on simulated velocity fields (N, 64, 64), km/s, NaN = none, with their kappa (N,) and particle set (N,).

    A tenth of the particle sets is held out: on one half the errors are calibrated, and what is unlike any simulated field; the card's
    figures are of the other. ``pa_deg`` (N,), of
    the receding side from +y over -x, gives the published network's latent angle its zero. Raises `ModelError` for fewer than 10 sets.
    """
    data = simulated_set(velocity, kappa, np.full(len(kappa), np.nan) if pa_deg is None else pa_deg, particle_set)
    return _trained(data, architecture, epochs, seed)


def _trained(data: SimulatedSet, architecture: Architecture, epochs: int | None, seed: int) -> CircularityNetwork:
    epochs = epochs or _EPOCHS[architecture]
    sets = len(np.unique(data.particle_set))
    log.info("circularity: training %s on %d fields of %d particle sets, %d epochs", architecture, len(data), sets, epochs)
    model = (train_direct if architecture == "direct" else train_latent)(data, epochs, seed)
    figures = _held_out_figures(model.eval(), data, seed)
    card = {"architecture": architecture, "fields": len(data), "particle_sets": sets, "epochs": epochs, "seed": seed}
    card |= {"summary": summary_of(len(data), sets, figures), "figures": {"held out": figures}}
    return CircularityNetwork(architecture, model, card)


@torch.inference_mode()
def _held_out_figures(model: _Judge, data: SimulatedSet, seed: int) -> dict:
    """How good a network is on particle sets that neither trained nor calibrated it."""
    _, _, test = data.held_out(seed)
    kappa, err, _ = (torch.cat(part).numpy() for part in zip(*(model.measure(data.batch(some)) for some in test.split(256)), strict=True))
    return figures_of(data.kappa[test].numpy(), kappa, err)


def train(simulated_path: str | Path, settings: Settings, out_dir: str | Path) -> None:
    """Train the network that the settings ask for on fields of `circularity_maps.simulate`; keep weights and card in ``out_dir``."""
    from tullyflow.network.judges.circularity_maps import read_simulated

    fields = read_simulated(simulated_path)
    data = simulated_set(fields.field, fields.kappa, fields.pa_deg, fields.particle_set)
    network = _trained(data, settings.network.circularity.architecture, None, settings.seed)
    save_weights("circularity", network.model, {**network.card, "data": str(simulated_path)}, out_dir)
