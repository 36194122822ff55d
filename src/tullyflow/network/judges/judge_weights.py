"""Weights of the small networks that judge velocity fields, with a card that says what they are: those that ship, or a folder's."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import tullyflow
from tullyflow.errors import ModelError
from tullyflow.tables import whole_file

__all__ = ["read_weights", "save_weights"]


def _paths(name: str, folder: str | Path | None) -> tuple[Path, Path]:
    if folder is None:
        shipped = Path(str(files("tullyflow.network.judges"))) / "weights"
        return shipped / f"{name}.safetensors", shipped / f"{name}.json"
    return Path(folder) / "weights.safetensors", Path(folder) / "model.json"


def save_weights(name: str, model: nn.Module, card: Mapping, folder: str | Path) -> None:
    """Write ``weights.safetensors`` and then ``model.json``, its card, into ``folder``; ``name`` says what the network judges."""
    weights, described = _paths(name, folder)
    with whole_file(weights) as part:
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}, part)
    versions = {"tullyflow": tullyflow.__version__, **{lib: version(lib) for lib in ("torch", "numpy", "safetensors")}}
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    text = json.dumps({"format": f"tullyflow {name} 1", **card, "weights_sha256": digest, "versions": versions}, indent=1)
    with whole_file(described) as part:
        part.write_text(text + "\n")


def read_weights(name: str, folder: str | Path | None) -> tuple[dict, dict[str, Tensor]]:
    """Return the card and the tensors of a folder's weights, None: those that ship with the package.

    Raises `ModelError` with one sentence where a file is absent, is another network's, or was changed.
    """
    weights, described = _paths(name, folder)
    for path in (described, weights):
        if not path.is_file():
            raise ModelError(f"{path}: no such file; train the network of {name} first.")
    try:
        card = json.loads(described.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as err:
        raise ModelError(f"{described}: not JSON ({err}); train the network of {name} again.") from err
    if not isinstance(card, dict) or card.get("format") != f"tullyflow {name} 1":
        raise ModelError(f"{described}: not the card of a network of {name} of this version; train it again.")
    if hashlib.sha256(weights.read_bytes()).hexdigest() != card.get("weights_sha256"):
        raise ModelError(f"{weights}: not the weights its card describes (their digests differ); train the network of {name} again.")
    try:
        return card, load_file(weights)
    except SafetensorError as err:
        raise ModelError(f"{weights}: not safetensors ({err}); train the network of {name} again.") from err
