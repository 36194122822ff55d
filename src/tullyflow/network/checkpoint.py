"""Weights on disk: ``weights.safetensors`` and ``model.json`` that says what they are. No pickle."""

import hashlib
import json
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import tullyflow
from tullyflow.errors import ModelError
from tullyflow.network.autoencoder import DiscAutoencoder
from tullyflow.network.calibration import Calibration, identity
from tullyflow.network.fit_calibration import FitCalibration, unchanged
from tullyflow.settings import Network
from tullyflow.tables import whole_file

__all__ = ["Checkpoint", "load_checkpoint", "read_card", "save_checkpoint"]

_FORMAT = "tullyflow network 3"
_FIXED = ("architecture", "ranges", "stream", "log_scale", "velocity_norm", "beam_input", "dropout")  # what weights learnt stays


@dataclass(frozen=True)
class Checkpoint:
    """A model with what belongs to it: calibrated errors, the galaxies it was trained on, and where its weights began."""

    model: DiscAutoencoder
    calibration: Calibration
    trained_on: tuple[str, ...] = ()
    origin: str = "random"
    fit_calibration: FitCalibration = field(default_factory=unchanged)


def _parameter_counts(model: DiscAutoencoder) -> dict[str, int]:
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.encoders.named_children()}
    return counts if model.network.architecture == "dawson2021" else {"encoder": sum(counts.values())}


def save_checkpoint(checkpoint: Checkpoint, out_dir: str | Path, seed: int) -> None:
    """Write both files into ``out_dir``; the card is written last, so that it never describes weights that are not there."""
    model, out_dir = checkpoint.model, Path(out_dir)
    weights = out_dir / "weights.safetensors"
    with whole_file(weights) as part:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}, part)
    names = sorted(checkpoint.trained_on)
    card = {
        "format": _FORMAT,
        "architecture": model.network.architecture,
        "parameters": _parameter_counts(model),
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "origin": checkpoint.origin,
        "network": model.network.model_dump(mode="json"),
        "seed": seed,
        "trained_on": names,
        "trained_on_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        "calibration": checkpoint.calibration.to_json(),
        "fit_calibration": checkpoint.fit_calibration.to_json(),
        "versions": {"tullyflow": tullyflow.__version__, **{lib: version(lib) for lib in ("torch", "numpy", "safetensors")}},
    }
    with whole_file(out_dir / "model.json") as part:
        part.write_text(json.dumps(card, indent=1) + "\n")


def read_card(path: Path) -> dict:
    """Read ``model.json``; raise `ModelError` where it is absent or not ours."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file; train the network first (tullyflow train).")
    try:
        card = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as err:
        raise ModelError(f"{path}: not JSON ({err}); train the network again.") from err
    if not isinstance(card, dict) or card.get("format") != _FORMAT or not isinstance(card.get("network"), dict):
        raise ModelError(f"{path}: not the card of a network of this version ({_FORMAT!r}); train the network again.")
    return card


def _first_difference(name: str, trained: object, wanted: object) -> tuple[str, object, object]:
    """Return the name and both values of the first key in which two settings differ; the settings themselves where they are no sections."""
    if isinstance(trained, dict) and isinstance(wanted, dict):
        for key in wanted:
            if trained.get(key) != wanted[key]:
                return f"{name}.{key}", trained.get(key), wanted[key]
    return name, trained, wanted


def load_checkpoint(weights_dir: str | Path, network: Network, device: torch.device) -> Checkpoint:
    """Read weights made with the same architecture, ranges and norm as ``network``; the rest of ``network`` is taken as it is.

    Raises `ModelError` with one sentence where a file is absent, is not ours, was changed, or was trained under other settings.
    """
    weights_dir = Path(weights_dir)
    card = read_card(weights_dir / "model.json")
    asked = network.model_dump(mode="json")
    for key in _FIXED:
        name, trained, wanted = _first_difference(f"network.{key}", card["network"].get(key), asked[key])
        if trained != wanted:
            raise ModelError(
                f"{weights_dir}: these weights were trained with {name} = {trained!r}, "
                f"the settings say {wanted!r}; use the same, or train again."
            )
    weights = weights_dir / "weights.safetensors"
    if not weights.is_file():
        raise ModelError(f"{weights}: no such file; train the network again.")
    if hashlib.sha256(weights.read_bytes()).hexdigest() != card.get("weights_sha256"):
        raise ModelError(f"{weights}: not the weights model.json describes (their digests differ); train the network again.")
    model = DiscAutoencoder(network)
    try:
        model.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as err:
        raise ModelError(f"{weights}: not weights of the architecture {network.architecture}: {' '.join(str(err).split())[:200]}.") from err
    try:
        calibration = Calibration.from_json(card["calibration"]) if card.get("calibration") else identity()
        fitted = FitCalibration.from_json(card["fit_calibration"]) if card.get("fit_calibration") else unchanged()
    except (KeyError, TypeError, ValueError) as err:
        raise ModelError(f"{weights_dir / 'model.json'}: its calibration is not one of this version ({err}); train again.") from err
    model = model.to(device, memory_format=torch.channels_last)
    return Checkpoint(model, calibration, tuple(card.get("trained_on", ())), card.get("origin", ""), fitted)
