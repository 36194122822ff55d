"""The state of an unfinished training, written now and then, so that one that was killed goes on as if nothing had happened.

One safetensors file (no pickle) beside the network to be: weights, Adam's moments and the state of every random generator as tensors,
counters and history as JSON in its header, so that one rename makes it whole. It is taken up only by the same training (code,
settings, galaxies, first weights), and is gone when the network is written.
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tullyflow.network.batch import Stamps
from tullyflow.provenance import source_digest
from tullyflow.settings import Settings
from tullyflow.tables import whole_file

__all__ = ["Taken", "Unfinished", "discard", "identity_of"]

log = logging.getLogger("tullyflow")

EVERY_S = 60.0  # between two states: at most about so much is lost
_FOLDER = ".unfinished"


@dataclass(frozen=True)
class Taken:
    """What a training found of itself: its counters, and tensors of its own."""

    counts: dict[str, Any]
    tensors: dict[str, Tensor]


def identity_of(task: str, settings: Settings, model: nn.Module, stamps: Stamps | None = None, names: Sequence[str] = ()) -> str:
    """Return a digest of all that a training's result depends on; ``model`` has its first weights."""
    said = {
        "task": task, "seed": settings.seed, "network": settings.network.model_dump(mode="json"), "galaxies": list(names),
        "source": source_digest("network"), "torch": torch.__version__, "device": next(model.parameters()).device.type,
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    arrays = list(model.state_dict().values())
    if stamps is not None:
        arrays += [getattr(stamps, field.name) for field in fields(stamps)]
    for array in arrays:
        digest.update(str(tuple(array.shape)).encode())
        digest.update(array.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


class Unfinished:
    """The state of the training that writes into ``out_dir``; ``identity`` is that of `identity_of`."""

    def __init__(self, out_dir: str | Path, identity: str):
        self._folder, self._identity = Path(out_dir) / _FOLDER, identity
        self._began = self._written = time.monotonic()

    @property
    def path(self) -> Path:
        return self._folder / "state.safetensors"

    def due(self, last: bool) -> bool:
        """Whether a state is to be written: every minute, and at the end of a training that took longer."""
        return time.monotonic() - (self._began if last else self._written) >= EVERY_S

    def write(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        generator: torch.Generator,
        counts: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
    ) -> None:
        """Write the state; ``counts`` must be JSON, ``tensors`` are the training's own."""
        device = next(model.parameters()).device
        everything = {f"own.{name}": tensor for name, tensor in tensors.items()}
        everything |= {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        for k, state in enumerate(optimizer.state[p] for p in _parameters(optimizer)):
            everything |= {f"optimizer.{k}.{name}": tensor for name, tensor in state.items()}
        everything |= {"random.torch": torch.get_rng_state(), "random.generator": generator.get_state()}
        if device.type == "cuda":
            everything["random.cuda"] = torch.cuda.get_rng_state(device)
        groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        header = {"identity": self._identity, "counts": counts, "groups": groups, "schedule": schedule.state_dict()}
        with whole_file(self.path) as part:
            whole = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in everything.items()}
            save_file(whole, part, metadata={"state": json.dumps(header)})
        self._written = time.monotonic()

    def take_up(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        generator: torch.Generator,
    ) -> Taken | None:
        """Put everything back as it was when the state was written; None where this training left none."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get("state", "{}"))
                if header.get("identity") != self._identity:
                    log.info("network: %s is of a training with other settings, galaxies or code: begun anew", self.path)
                    return None
                saved = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except (SafetensorError, OSError, ValueError) as err:
            log.warning("network: %s cannot be read (%s): begun anew", self.path, " ".join(str(err).split())[:100])
            return None
        model.load_state_dict(_below("model.", saved))
        for group, values in zip(optimizer.param_groups, header["groups"], strict=True):
            group |= {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        for k, parameter in enumerate(_parameters(optimizer)):
            # laid out in memory as the parameter is: the fused optimizer counts on it
            optimizer.state[parameter] = {
                name: torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value.to(parameter.device)
                for name, value in _below(f"optimizer.{k}.", saved).items()
            }
        schedule.load_state_dict(header["schedule"])
        torch.set_rng_state(saved["random.torch"])
        generator.set_state(saved["random.generator"])
        if "random.cuda" in saved:
            torch.cuda.set_rng_state(saved["random.cuda"], next(model.parameters()).device)
        return Taken(header["counts"], _below("own.", saved))


def discard(out_dir: str | Path) -> None:
    """Leave no state behind in ``out_dir``."""
    shutil.rmtree(Path(out_dir) / _FOLDER, ignore_errors=True)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
