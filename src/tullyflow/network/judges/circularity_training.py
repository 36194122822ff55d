"""Training of the networks of circularity on simulated fields, and what calibrates them on particle sets held out."""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from tullyflow.errors import ModelError
from tullyflow.network.judges.aligned_fields import draw_jitter
from tullyflow.network.judges.binned_probability import bin_targets
from tullyflow.network.judges.direct_circularity import KAPPA_BINS, DirectCircularity
from tullyflow.network.judges.fields import Fields, fields_of
from tullyflow.network.judges.latent_circularity import LatentCircularity
from tullyflow.network.judges.latent_space import fit_latent_space

__all__ = ["SimulatedSet", "balance", "simulated_set", "train_direct", "train_latent"]

log = logging.getLogger("tullyflow")

_HELD_OUT = 0.1  # of the particle sets
_SETS_MIN = 10
_CHUNK = 1024
_TENTHS = 10
_FEWEST = 0.2  # of an even share: tenths of kappa with fewer fields weigh no more
_BATCH, _PEAK_RATE, _DECAY = 64, 2e-3, 1e-3
_PUBLISHED_BATCH, _PUBLISHED_RATE, _PUBLISHED_EPOCH, _PUBLISHED_HALVED = 32, 1e-3, 6400, 10
_LOGGED = 10  # lines of a training
_UNLIKE_QUANTILE = 0.995
_LOOKED_AT = 20_000  # fields
_TOLD = 1e-3  # least variance of a component, of the mean one
_ONE_SIGMA = 0.6827


@dataclass(frozen=True)
class SimulatedSet:
    """Simulated fields as networks take them, in half precision, with kappa, position angle (deg) and particle set, each (field,)."""

    fields: Fields
    kappa: Tensor
    pa_deg: Tensor
    particle_set: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.kappa)

    def batch(self, index: Tensor) -> Fields:
        """Return the fields of an index, in single precision."""
        some = self.fields.select(index)
        return Fields(some.velocity.float(), some.valid, some.scale_kms)

    def held_out(self, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the indices to train on, and of the particle sets held out those that calibrate and those that tell how good it is."""
        sets = np.unique(self.particle_set)
        if len(sets) < _SETS_MIN:
            raise ModelError(f"circularity: {len(sets)} simulated galaxies; at least {_SETS_MIN} are needed to train and to calibrate.")
        out = np.random.default_rng(seed).permutation(sets)[: max(2, round(_HELD_OUT * len(sets)))]
        parts = (~np.isin(self.particle_set, out), *(np.isin(self.particle_set, half) for half in np.array_split(out, 2)))
        train, calibrate, test = (torch.from_numpy(np.flatnonzero(part)) for part in parts)
        return train, calibrate, test


def simulated_set(velocity: NDArray, kappa: NDArray, pa_deg: NDArray, particle_set: NDArray) -> SimulatedSet:
    """Return simulated fields (N, 64, 64) ready for training, without those that cannot be judged."""
    parts, judged = [], []
    for start in range(0, len(velocity), _CHUNK):
        fields, there = fields_of(velocity[start : start + _CHUNK])
        parts.append(Fields(fields.velocity[there].half(), fields.valid[there], fields.scale_kms[there]))
        judged.append(there)
    keep = np.concatenate(judged)
    fields = Fields(*(torch.cat([getattr(part, name) for part in parts]) for name in ("velocity", "valid", "scale_kms")))
    kappa, pa_deg = (torch.from_numpy(np.asarray(values, dtype=np.float32)[keep]) for values in (kappa, pa_deg))
    return SimulatedSet(fields, kappa, pa_deg, np.asarray(particle_set)[keep])


def balance(kappa: Tensor) -> Tensor:
    """Return weights (field,) that give each tenth of kappa the same (thesis section 2.2.6), but those with hardly any field."""
    tenth = (kappa * _TENTHS).long().clamp(0, _TENTHS - 1)
    count = torch.bincount(tenth, minlength=_TENTHS).double()
    return (1 / count.clamp(min=_FEWEST * len(kappa) / _TENTHS))[tenth]


def _drawn(index: Tensor, weights: Tensor, batch: int, steps: int, generator: torch.Generator) -> Iterator[tuple[int, Tensor]]:
    """Yield ``steps`` batches drawn with these weights, with replacement."""
    until = weights.cumsum(0)
    for step in range(steps):
        at = torch.searchsorted(until, torch.rand(batch, generator=generator, dtype=until.dtype) * until[-1])
        yield step, index[at.clamp(max=len(index) - 1)]


def _report(name: str, step: int, steps: int, losses: list[float]) -> None:
    every = max(1, steps // _LOGGED)
    if (step + 1) % every == 0:
        log.info("circularity: %s, step %d of %d: loss %.4f", name, step + 1, steps, sum(losses[-every:]) / every)


def train_direct(data: SimulatedSet, epochs: int, seed: int) -> DirectCircularity:
    """Train and calibrate the default network: fields drawn evenly in kappa, axis, centre and scale jittered."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    train, held, _ = data.held_out(seed)
    model = DirectCircularity().train()
    steps = max(1, math.ceil(epochs * len(train) / _BATCH))
    optimizer = torch.optim.AdamW(model.parameters(), lr=_PEAK_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, total_steps=steps + 1, pct_start=0.15)
    losses: list[float] = []
    for step, index in _drawn(train, balance(data.kappa[train]), _BATCH, steps, generator):
        seen = model.see(data.batch(index), draw_jitter(len(index), generator))
        loss = cross_entropy(model.logits(seen), bin_targets(data.kappa[index], KAPPA_BINS))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        _report("direct", step, steps, losses)
    _calibrate(model.eval(), data, train, held)
    return model


@torch.no_grad()
def _calibrate(model: DirectCircularity, data: SimulatedSet, train: Tensor, held: Tensor) -> None:
    """Set what counts as far from simulated fields, and errors that hold 68 % of the particle sets held out."""
    known = torch.cat([model.see(data.batch(index)).texture for index in train[:_LOOKED_AT].split(_CHUNK)]).double()
    usual, scale = known.mean(dim=0), known.std(dim=0).clamp(min=1e-6)
    variance, axes = torch.linalg.eigh(torch.corrcoef(((known - usual) / scale).T).nan_to_num())
    told = variance > _TOLD
    whiten = axes * torch.where(told, variance.clamp(min=_TOLD).rsqrt(), 0) * math.sqrt(len(variance) / told.sum())
    model.usual.copy_(usual)
    model.whiten.copy_(whiten / scale.unsqueeze(1))
    distance = torch.cat([model.distance(model.see(data.batch(index))) for index in held.split(_CHUNK)])
    model.farthest.copy_(distance.quantile(_UNLIKE_QUANTILE))
    measured = [model.measure(data.batch(index)) for index in held.split(_CHUNK)]
    kappa, err, _ = (torch.cat(part) for part in zip(*measured, strict=True))
    knots = len(model.err_found)
    found, true = calibrated_errors(err.numpy(), (kappa - data.kappa[held]).abs().numpy(), knots)
    model.err_found.copy_(torch.from_numpy(found))
    model.err_true.copy_(torch.from_numpy(true))
    log.info("circularity: %d fields held out: rms of kappa %.3f", len(held), float((kappa - data.kappa[held]).square().mean().sqrt()))


def calibrated_errors(err: NDArray, residual: NDArray, knots: int) -> tuple[NDArray, NDArray]:
    """Return errors found and the true ones (knots,): what holds 68.27 % of ``residual`` among fields of about that error, rising."""
    order = np.argsort(err, kind="stable")
    parts = np.array_split(order, max(1, min(knots, len(order) // 50)))
    found = np.array([np.median(err[part]) for part in parts])
    true = np.maximum.accumulate([np.quantile(residual[part], _ONE_SIGMA) for part in parts])
    at = np.linspace(found[0], max(found[-1], found[0] + 1e-3), knots)
    return at.astype(np.float32), np.interp(at, found, true).astype(np.float32)


def train_latent(data: SimulatedSet, epochs: int, seed: int) -> LatentCircularity:
    """Train the published autoencoder as published: MSE, batches of 32, Adam from 1e-3, halved ten times; an epoch is 6,400 fields
    (fewer where there are fewer).

    With fewer epochs than the published 300 the learning rate is halved as often, sooner.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    train, held, _ = data.held_out(seed)
    model = LatentCircularity().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=_PUBLISHED_RATE)
    steps = max(1, epochs * min(_PUBLISHED_EPOCH, len(train)) // _PUBLISHED_BATCH)
    losses: list[float] = []
    for step, index in _drawn(train, balance(data.kappa[train]), _PUBLISHED_BATCH, steps, generator):
        optimizer.param_groups[0]["lr"] = _PUBLISHED_RATE * 0.5 ** (step * _PUBLISHED_HALVED // steps)
        maps = data.batch(index).velocity.unsqueeze(1)
        loss = mse_loss(model(maps), maps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        _report("dawson2020", step, steps, losses)
    fit_latent_space(model.eval(), data, train, held)
    return model
