"""How the networks of usability learn from fields and classes: the default one, and the published one."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tullyflow.network.judges.field_measures import Measured, compare
from tullyflow.network.judges.fields import fields_of, in_batches
from tullyflow.network.judges.footprints import vary_field
from tullyflow.network.judges.usability import Architecture, UsabilityNetwork, read_fields
from tullyflow.network.judges.usability_labels import LabelledFields

__all__ = ["PreparedFields", "Training", "fit_usability", "prepare_fields"]

_MESSY_WEIGHT = 0.5  # of telling clean from the rest, beside 1 of telling usable from the rest
_LONELY = 0.15  # share of the fields trained on without their galaxy's other field
_SMOOTHED_LABELS = 0.02
_PLATEAU = {"factor": 0.3, "patience": 3, "min_lr": 1e-5}
_HELD_BACK = 10  # one in so many groups tells the published training when its loss no longer falls


@dataclass(frozen=True)
class Training:
    """How a network of usability is trained.

    ``varied`` is the number of copies of each field with another footprint, filled holes or smoothing that join it (the published
    network has none).
    """

    architecture: Architecture = "symmetric"
    seed: int = 1
    varied: int = 2
    epochs: int = 15
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    published_epochs: int = 50
    published_batch: int = 32
    published_rate: float = 1e-3


@dataclass(frozen=True)
class PreparedFields:
    """Fields as a core reads them, of the galaxies and of ``copies - 1`` variations, set after set; ``there`` (copy * galaxy, 2)."""

    gas: Measured | Tensor
    stars: Measured | Tensor
    there: Tensor

    def of(self, index: Tensor, galaxies: int, varied: bool = True) -> tuple:
        """Return gas, stars and there of some of the galaxies in every copy, one set after the other, or as they are alone."""
        copies = len(self.there) // galaxies if varied else 1
        rows = torch.cat([index + k * galaxies for k in range(copies)])
        chosen = [part.select(rows) if isinstance(part, Measured) else part[rows] for part in (self.gas, self.stars)]
        return (*chosen, self.there[rows])


def _varied(labelled: LabelledFields, seed: int, copy: int) -> list[NDArray[np.float32]]:
    """Return both fields of every galaxy varied alike."""
    return [
        np.stack([vary_field(one, np.random.default_rng((seed, copy, k))) for k, one in enumerate(images)])
        for images in (labelled.gas, labelled.stars)
    ]


def prepare_fields(labelled: LabelledFields, training: Training) -> PreparedFields:
    """Return what the networks read of labelled fields and, for the default one, of their variations."""
    sets = [[labelled.gas, labelled.stars]]
    join = Measured.joined if training.architecture == "symmetric" else torch.cat
    if training.architecture == "symmetric":
        sets += [_varied(labelled, training.seed, copy) for copy in range(training.varied)]
    found: list[list] = [[], []]
    there = []
    for images in sets:
        made = [fields_of(one) for one in images]
        there.append(torch.from_numpy(np.stack([judged for _, judged in made], axis=1)))
        for k, (fields, _) in enumerate(made):
            found[k] += [read_fields(training.architecture, batch) for batch in in_batches(fields)]
    return PreparedFields(join(found[0]), join(found[1]), torch.cat(there))


def _targets(labelled: LabelledFields, index: NDArray, copies: int) -> Tensor:
    """Return usable and clean (copy * galaxy, 2, 2), NaN where not said."""
    targets = torch.from_numpy(np.stack([labelled.usable[index], labelled.clean[index]], axis=2)).float()
    return targets.repeat(copies, 1, 1)


def _fit_symmetric(network: UsabilityNetwork, parts: tuple, targets: Tensor, training: Training) -> None:
    gas, stars, there = parts
    core = network.core
    core.learn_scales(torch.cat([gas.values[there[:, 0]], stars.values[there[:, 1]]]), compare(gas, stars)[there.all(dim=1)])
    inputs, wanted = core.inputs(gas, stars, there).flatten(0, 1), targets.flatten(0, 1)
    kept = there.flatten() & wanted[:, 0].isfinite()
    inputs, wanted = inputs[kept], wanted[kept]
    weight = wanted.isfinite() * torch.tensor([1.0, _MESSY_WEIGHT])
    wanted = wanted.nan_to_num() * (1 - 2 * _SMOOTHED_LABELS) + _SMOOTHED_LABELS
    members, batch = len(core.weights[0]), min(training.batch, len(inputs))
    optimiser = torch.optim.AdamW(core.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    steps = training.epochs * (len(inputs) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.learning_rate, total_steps=steps, pct_start=0.15)
    network.train()
    for _ in range(training.epochs):
        order = torch.stack([torch.randperm(len(inputs)) for _ in range(members)])
        for step in range(len(inputs) // batch):
            rows = order[:, step * batch : (step + 1) * batch]
            flat = rows.flatten()
            seen = core.alone(inputs[flat], torch.rand(len(flat)) < _LONELY).view(members, batch, -1)
            loss = nn.functional.binary_cross_entropy_with_logits(core(seen), wanted[rows], weight=weight[rows], reduction="none")
            optimiser.zero_grad()
            loss.mean((1, 2)).sum().backward()
            optimiser.step()
            schedule.step()


def _fit_published(network: UsabilityNetwork, parts: tuple, targets: Tensor, group: NDArray, training: Training) -> None:
    """Train as published: class weights, flips and turns, Adam from 1e-3 to 1e-5 as the loss on groups held back no longer falls."""
    gas, stars, there = parts
    wanted = targets[:, :, 0].flatten()
    kept = there.flatten() & wanted.isfinite()
    images, wanted = torch.stack([gas, stars], dim=1).flatten(0, 1)[kept], wanted[kept]
    names, index = np.unique(group, return_inverse=True)
    held = torch.from_numpy((np.random.default_rng(training.seed).permutation(len(names)) % _HELD_BACK == 0)[index].repeat(2))[kept]
    watched = held if held.any() and not held.all() else torch.ones_like(held)
    images_seen, wanted_seen = (images[~held], wanted[~held]) if not watched.all() else (images, wanted)
    usable = wanted_seen.mean().clamp(0.05, 0.95)
    weight = torch.where(wanted_seen > 0.5, 0.5 / usable, 0.5 / (1 - usable))
    optimiser = torch.optim.Adam(network.core.parameters(), lr=training.published_rate)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, **_PLATEAU)
    batch = training.published_batch
    for _ in range(training.published_epochs):
        network.train()
        for rows in torch.randperm(len(images_seen)).split(batch):
            turned = images_seen[rows].clone()
            turns, mirrored = torch.randint(4, (len(rows),)), torch.rand(len(rows)) < 0.5
            for quarter in range(1, 4):
                turned[turns == quarter] = turned[turns == quarter].rot90(quarter, (1, 2))
            turned[mirrored] = turned[mirrored].flip(2)
            loss = nn.functional.binary_cross_entropy_with_logits(network.core(turned), wanted_seen[rows], weight=weight[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        network.eval()
        with torch.no_grad():
            schedule.step(nn.functional.binary_cross_entropy_with_logits(network.core(images[watched]), wanted[watched]))


def fit_usability(labelled: LabelledFields, prepared: PreparedFields, index: NDArray, training: Training) -> UsabilityNetwork:
    """Train an uncalibrated network on the galaxies of ``index``; torch's own randomness is put back after."""
    copies = len(prepared.there) // len(labelled)
    parts, targets = prepared.of(torch.from_numpy(index), len(labelled)), _targets(labelled, index, copies)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = UsabilityNetwork(training.architecture)
        if training.architecture == "symmetric":
            _fit_symmetric(network, parts, targets, training)
        else:
            _fit_published(network, parts, targets, labelled.group[index], training)
    return network.eval()
