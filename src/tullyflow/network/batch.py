"""Stamps as the network takes them: filled, with their validity, beam and velocity norm beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from tullyflow.conventions import STAMP
from tullyflow.errors import ModelError
from tullyflow.flags import BAD_VELOCITY, GALAXY
from tullyflow.maps.shards import Shard
from tullyflow.settings import Network

__all__ = [
    "MIN_PIXELS", "UNTRAINABLE", "Stamps", "median_of_valid", "norm_of", "percentile_norm", "resolve_device", "seeded_generator",
    "stamps_of_shards", "velocity_variance",
]  # fmt: skip

UNTRAINABLE = (
    GALAXY.MISSING_FILE | GALAXY.FETCH_FAILED | GALAXY.UNREADABLE_FILE | GALAXY.MISSING_HDU | GALAXY.NO_VALID_PIXEL
    | GALAXY.TOO_FEW_PIXELS | GALAXY.LOW_FILL_FACTOR | GALAXY.NO_ROTATION | GALAXY.PA_FAILED | GALAXY.NO_WCS
    | GALAXY.QUALITY_BAD | GALAXY.NO_PHOTOMETRY
)  # fmt: skip
MIN_PIXELS = 16  # a stamp with fewer valid pixels is unusable: four parameters, and a percentile to take
_PERCENTILE = 0.95


@dataclass(frozen=True)
class Stamps:
    """A set of galaxies: maps (galaxy, y, x) with 0 where not ``valid``, errors, and (galaxy,) beam and norm.

    ``intensity`` has its peak at 1, velocities are km/s, ``beam`` is the FWHM in stamp pixels (0 = none or unknown),
    ``norm`` (km/s) is what the velocity map is divided by before the network sees it.
    """

    intensity: Tensor
    intensity_err: Tensor
    velocity: Tensor
    velocity_err: Tensor
    valid: Tensor
    beam: Tensor
    norm: Tensor

    def __len__(self) -> int:
        return len(self.beam)

    def select(self, index) -> "Stamps":
        """Return the galaxies of an index, a slice or a mask."""
        return Stamps(*(getattr(self, f.name)[index] for f in fields(self)))

    @classmethod
    def joined(cls, parts: "Sequence[Stamps]") -> "Stamps":
        """Return the galaxies of all parts, in order."""
        return cls(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def to(self, device: torch.device) -> "Stamps":
        return Stamps(*(getattr(self, f.name).to(device) for f in fields(self)))


def median_of_valid(values: Tensor, valid: Tensor) -> Tensor:
    """Return the median of each map's valid pixels, (galaxy,), of maps (galaxy, y, x); NaN where there is none."""
    return torch.where(valid, values, torch.nan).flatten(1).nanmedian(dim=1).values


def velocity_variance(stamps: Stamps, v_max_sini: Tensor, network: Network) -> Tensor:
    """Return the variance (galaxy, y, x) of velocities about a model of ``v_max_sini`` (galaxy,): the map's, a floor, a share of V."""
    mismatch = (network.mismatch_fraction * v_max_sini).square().view(-1, 1, 1)
    return stamps.velocity_err.square() + network.velocity_error_floor**2 + mismatch


def percentile_norm(velocity: Tensor, valid: Tensor, fraction: float = _PERCENTILE) -> Tensor:
    """Return each map's percentile of |v| over its valid pixels, (galaxy,), in the velocity's unit; at least 1e-3."""
    ordered = torch.where(valid, velocity.abs(), torch.inf).flatten(1).sort(dim=1).values
    last = ((valid.flatten(1).sum(dim=1) - 1).clamp(min=0) * fraction).long()
    return ordered.gather(1, last.unsqueeze(1)).squeeze(1).nan_to_num(posinf=1.0).clamp(min=1e-3)


def norm_of(velocity: Tensor, valid: Tensor, setting: float | str) -> Tensor:
    """Return what each velocity map is divided by, (galaxy,): as ``network.velocity_norm`` says a number, or its own percentile."""
    if setting == "percentile":
        return percentile_norm(velocity, valid)
    return torch.full((len(velocity),), float(setting), dtype=velocity.dtype, device=velocity.device)


def resolve_device(name: str) -> torch.device:
    """Return the torch device of the setting ``device``; ``auto`` is cuda where there is one, else cpu.

    Raises `ModelError` where the device asked for is not on this machine.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "cpu")
    device = torch.device(name)
    no_cuda = not cuda or (device.index or 0) >= torch.cuda.device_count()
    if (device.type == "cuda" and no_cuda) or (device.type == "mps" and not mps):
        found = f"{torch.cuda.device_count()} CUDA device(s), {'an' if mps else 'no'} MPS device"
        raise ModelError(f"device: {name!r} is not on this machine ({found}); use 'auto' or 'cpu'.")
    return device


def seeded_generator(seed: int, device: torch.device) -> torch.Generator:
    """Return a seeded generator on a CUDA device itself, so that no step waits for numbers of the cpu; for any other device the cpu's."""
    return torch.Generator(device if device.type == "cuda" else "cpu").manual_seed(seed)


def _filled(image: np.ndarray, valid: np.ndarray) -> Tensor:
    return torch.from_numpy(np.where(valid, image, 0).astype(np.float32))


def _filled_errors(error: np.ndarray, valid: np.ndarray, otherwise: float) -> Tensor:
    """Errors where they are positive and finite, else the galaxy's own median error, else ``otherwise``."""
    good = valid & np.isfinite(error) & (error > 0)
    medians = [np.median(e[g]) if g.any() else otherwise for e, g in zip(error, good, strict=True)]
    return torch.from_numpy(np.where(good, error, np.asarray(medians, dtype=np.float32)[:, None, None]).astype(np.float32))


def stamps_of_shards(shards: Sequence[Shard], velocity_norm: float | str, velocity_err: float) -> tuple[Stamps, np.ndarray]:
    """Return the stamps of whole shards, in order, and which of their galaxies are usable (N,).

    A pixel is valid where intensity and velocity are finite and no excluding bit of ``flags.PIXEL`` is set. A galaxy is usable with
    at least 16 valid pixels and a stamp scale; it may still carry flags. Unusable rows are kept, filled with zeros.
    ``velocity_err`` (km/s) stands in for absent errors. NaN beams count as none. Raises `ModelError` for stamps of another size.
    """
    size = (0, STAMP, STAMP)
    for shard in shards:
        for name in ("intensity", "intensity_err", "velocity", "velocity_err", "mask"):
            found = np.shape(getattr(shard, name))
            if found != (len(shard.galaxies), STAMP, STAMP):
                raise ModelError(f"network: {name} stamps of shape {found} for {len(shard.galaxies)} galaxies; it reads {STAMP}x{STAMP}.")
    images = {
        name: np.concatenate([np.zeros(size, np.float32), *(np.asarray(getattr(s, name)) for s in shards)])
        for name in ("intensity", "intensity_err", "velocity", "velocity_err")
    }
    mask = np.concatenate([np.zeros(size, np.int64), *(np.asarray(s.mask).astype(np.int64) for s in shards)])
    scale = np.concatenate([np.zeros(0), *(s.galaxies["stamp_scale_arcsec"].to_numpy(float) for s in shards)])
    fwhm = np.concatenate([np.zeros(0), *(s.galaxies["psf_fwhm_arcsec"].to_numpy(float) for s in shards)])
    valid = ((mask & BAD_VELOCITY) == 0) & np.isfinite(images["velocity"]) & np.isfinite(images["intensity"])
    usable = (valid.sum(axis=(1, 2)) >= MIN_PIXELS) & np.isfinite(scale) & (scale > 0)
    valid &= usable[:, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        beam = np.nan_to_num(np.where(scale > 0, fwhm / scale, 0.0), posinf=0.0, neginf=0.0).clip(0, None)
    velocity, ok = _filled(images["velocity"], valid), torch.from_numpy(valid)
    stamps = Stamps(
        intensity=_filled(images["intensity"], valid),
        intensity_err=_filled_errors(images["intensity_err"], valid, 0.05),
        velocity=velocity,
        velocity_err=_filled_errors(images["velocity_err"], valid, velocity_err),
        valid=ok,
        beam=torch.from_numpy(beam.astype(np.float32)),
        norm=norm_of(velocity, ok, velocity_norm),
    )
    return stamps, usable
