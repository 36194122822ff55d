"""Train a network of usability on classes by eye: cross-validated by group, calibrated on what was held out, then on everything."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tullyflow.errors import ModelError
from tullyflow.network.judges.reliability import accuracy_kept, calibration_error, fit_platt
from tullyflow.network.judges.usability import UsabilityNetwork, save_usability
from tullyflow.network.judges.usability_fitting import PreparedFields, Training, fit_usability, prepare_fields
from tullyflow.network.judges.usability_labels import LabelledFields, labelled_fields
from tullyflow.settings import Settings

__all__ = ["CrossValidated", "cross_validate", "draw_folds", "figures_of", "sum_up", "train", "train_usability"]

log = logging.getLogger("tullyflow")

FOLDS = 5
_FEWEST = 20  # labelled fields


@dataclass(frozen=True)
class CrossValidated:
    """What networks say of fields of groups they were not trained on, (galaxy, 2): gas, stars; NaN where there is no field.

    ``probability`` is calibrated on the other folds; ``fold`` (galaxy,) and the ``networks`` that were tested on it, so calibrated.
    """

    logits: NDArray[np.float64]
    probability: NDArray[np.float64]
    fold: NDArray[np.int64]
    networks: tuple[UsabilityNetwork, ...] = field(repr=False, default=())


def draw_folds(group: NDArray, seed: int, folds: int = FOLDS) -> NDArray[np.int64]:
    """Return the fold (galaxy,) of each galaxy; those of a group share it."""
    names, index = np.unique(group, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    return (order % min(folds, len(names)))[index]


def _enough(labelled: LabelledFields, there: NDArray[np.bool_]) -> None:
    said = labelled.usable[there & np.isfinite(labelled.usable)]
    groups = len(np.unique(labelled.group))
    if said.size < _FEWEST or said.min() == said.max() or groups < 2:
        raise ModelError(
            f"network.usability.labels: {said.size} fields with a class ({int((said == 1).sum())} usable) in {groups} plates; a training "
            f"needs {_FEWEST} or more, of both kinds, in two plates or more; label more, or set labels: null for the weights that ship."
        )


def _calibrated(network: UsabilityNetwork, logits: NDArray, usable: NDArray) -> UsabilityNetwork:
    slope, offset = fit_platt(logits, usable)
    network.slope.fill_(slope)
    network.offset.fill_(offset)
    return network


def cross_validate(labelled: LabelledFields, prepared: PreparedFields, training: Training) -> CrossValidated:
    """Train a network for each fold on the others, and calibrate it on what the others' networks say of the galaxies they had not seen."""
    fold = draw_folds(labelled.group, training.seed)
    logits, networks = np.full((len(labelled), 2), np.nan), []
    for k in range(fold.max() + 1):
        networks.append(fit_usability(labelled, prepared, np.flatnonzero(fold != k), training))
        index = np.flatnonzero(fold == k)
        parts = prepared.of(torch.from_numpy(index), len(labelled), varied=False)
        logits[index] = torch.where(parts[2], networks[k].logits(*parts), torch.nan).numpy()
    probability = np.full(logits.shape, np.nan)
    for k, network in enumerate(networks):
        _calibrated(network, logits[fold != k], labelled.usable[fold != k])
        probability[fold == k] = network.probability(torch.from_numpy(logits[fold == k])).numpy()
    return CrossValidated(logits, probability, fold, tuple(networks))


def figures_of(probability: NDArray, usable: NDArray) -> dict:
    """Return accuracy at one half, expected calibration error and accuracy of the most confident half, of all fields, gas and stars."""
    found = {}
    for name, columns in (("all", [0, 1]), ("gas", [0]), ("stars", [1])):
        p, u = probability[:, columns], usable[:, columns]
        if np.isfinite(p * u).any():
            accuracy = accuracy_kept(p, u, (0.5, 1.0)).accuracy
            found[name] = {
                "fields": int(np.isfinite(p * u).sum()), "accuracy": round(float(accuracy[1]), 4),
                "calibration_error": round(calibration_error(p, u), 4), "accuracy_of_the_surest_half": round(float(accuracy[0]), 4),
            }  # fmt: skip
    return found


def sum_up(source: str, figures: dict) -> str:
    """Return two sentences for a reader: what a network was trained on, and how right it is of what it had not seen."""
    right = ", ".join(f"{100 * figures[k]['accuracy']:.1f} % right for the {k}" for k in ("gas", "stars") if k in figures)
    error = figures["all"]["calibration_error"]
    return f"Trained on {source}. On plates held out in {FOLDS} folds: {right}, expected calibration error {error:.3f}."


def train_usability(labelled: LabelledFields, training: Training) -> tuple[UsabilityNetwork, CrossValidated]:
    """Train on all galaxies a network calibrated on those held out of a cross-validation, which is returned too.

    Raises `ModelError` where there are too few classes to learn from.
    """
    prepared = prepare_fields(labelled, training)
    _enough(labelled, prepared.there[: len(labelled)].numpy())
    crossed = cross_validate(labelled, prepared, training)
    network = fit_usability(labelled, prepared, np.arange(len(labelled)), training)
    return _calibrated(network, crossed.logits, labelled.usable), crossed


def train(maps_paths: Sequence[str | Path], labels_path: str | Path, settings: Settings, out_dir: str | Path) -> None:
    """Train a network on a table of classes (`usability_labels.read_labels`) of galaxies in shards of maps; write weights and card."""
    training = Training(settings.network.usability.architecture, settings.seed)
    labelled = labelled_fields(maps_paths, labels_path)
    network, crossed = train_usability(labelled, training)
    figures = figures_of(crossed.probability, labelled.usable)
    for name, found in figures.items():
        log.info(
            "usability: %s: %d fields of plates not trained on, accuracy %.1f %%, calibration error %.3f",
            name, found["fields"], 100 * found["accuracy"], found["calibration_error"],
        )  # fmt: skip
    card = {
        "summary": sum_up(f"{len(labelled)} galaxies classed by eye ({Path(labels_path).name})", figures),
        "data": f"{len(labelled)} galaxies of {len(maps_paths)} shards, classes by eye from {Path(labels_path).name}",
        "split": f"{crossed.fold.max() + 1} folds by plate (the galaxy itself where its name has none)",
        "training": asdict(training), "figures": figures, "trained_on": sorted(labelled.galaxy.tolist()),
    }  # fmt: skip
    save_usability(network, card, out_dir)
