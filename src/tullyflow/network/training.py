"""Train the network: on synthetic discs with labels, then self-supervised on a survey's own maps.

Self-supervision alone can ruin a well-trained encoder on few galaxies (a disc model fits noise and spiral arms too), so training
that starts from synthetic weights rehearses: every survey batch is joined by a labelled synthetic batch of the same size, by turns
of all kinds and like the batch's own galaxies, its loss scaled to the survey's (``rehearsal`` times).
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tullyflow.errors import ModelError
from tullyflow.flags import GALAXY
from tullyflow.maps.shards import read_shard
from tullyflow.network.autoencoder import DiscAutoencoder
from tullyflow.network.batch import MIN_PIXELS, UNTRAINABLE, Stamps, resolve_device, seeded_generator, stamps_of_shards
from tullyflow.network.calibration import Calibration, calibrate, identity
from tullyflow.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tullyflow.network.fit_calibration import FitCalibration, calibrate_fit, unchanged
from tullyflow.network.fitted import CALIBRATED
from tullyflow.network.fitting import HISTORY, fit_stamps, fit_synthetic
from tullyflow.network.mismatch import MismatchedDiscs, draw_mismatched
from tullyflow.network.resume import Unfinished, discard, identity_of
from tullyflow.network.synthetic import SyntheticDiscs, Templates, stream_discs, stream_like
from tullyflow.settings import Settings
from tullyflow.tables import whole_file

__all__ = ["new_model", "pretrain", "train"]

log = logging.getLogger("tullyflow")

_VALIDATION_SHARE, _VALIDATION_FROM = 0.1, 50
_CALIBRATION_DISCS, _CALIBRATION_BATCH = 2000, 100
_FEWEST_MISMATCHED = 300  # discs that are not the model; twice as many as fits, each takes 10 ms
_FEWEST_TEMPLATES = 8  # stamps; with fewer a survey has no discs like its own
_CALIBRATION_SEED = 1_000_003  # added to the seed: the held-out stream


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's own randomness (initial weights, dropout) for a while and put it back after; convolutions keep their order of sums."""
    deterministic = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
    finally:
        torch.backends.cudnn.deterministic = deterministic


def new_model(settings: Settings, device: torch.device) -> DiscAutoencoder:
    """Return a network with random weights; random numbers are torch's own."""
    return DiscAutoencoder(settings.network).to(device, memory_format=torch.channels_last)


def _templates(model: DiscAutoencoder, stamps: Stamps, table: pd.DataFrame) -> Templates:
    """Return the galaxies of ``table`` with the parameters the network finds for them without dropout; ``table`` has one row per stamp.

    The model is left in evaluation mode.
    """
    model.eval()
    pixel = (table["pixel_scale_arcsec"] / table["stamp_scale_arcsec"]).fillna(1.0).to_numpy(np.float32)
    smooth = (table["flags"].to_numpy(np.int64) & GALAXY.INTENSITY_FROM_PHOTOMETRY) != 0
    with torch.no_grad():
        outputs = torch.cat([model.encode(stamps.select(index)) for index in torch.arange(len(stamps)).split(_CALIBRATION_BATCH)])
    on_device = (torch.from_numpy(a).to(model.device) for a in (pixel, ~smooth))
    return Templates(stamps, model.parameters_of(outputs, stamps.norm), *on_device)


def _mismatched(
    model: DiscAutoencoder, generator: torch.Generator, like: Templates | None, batch: int
) -> Iterator[tuple[MismatchedDiscs, np.ndarray]]:
    """Yield batches of discs that are not the model, of all kinds or like a survey's, without end, and which have their inclination held.

    Galaxies like one whose intensity is photometry have inclination and scale length held, as it has. Each of a survey has its turn.
    """
    order = torch.empty(0, dtype=torch.long, device=generator.device)
    while True:
        while like is not None and len(order) < batch:
            order = torch.cat([order, torch.randperm(len(like), generator=generator, device=generator.device)])
        index, order = order[:batch], order[batch:]
        own = None if like is None else like.select(index.to(model.device))
        yield draw_mismatched(batch, model, generator, own), np.zeros(batch, bool) if own is None else ~own.clumpy.cpu().numpy()


def _discs(model: DiscAutoencoder, generator: torch.Generator, like: Templates | None) -> Iterator[SyntheticDiscs | MismatchedDiscs]:
    """Yield batches of discs to calibrate on, of all kinds or like a survey's, without end."""
    if model.network.calibrate_on == "model":
        own = (stream_discs,) if like is None else (stream_like, like)
        yield from own[0](*own[1:], _CALIBRATION_BATCH, model, generator)
    yield from (discs for discs, _ in _mismatched(model, generator, like, _CALIBRATION_BATCH))


def _calibrate(
    model: DiscAutoencoder, settings: Settings, broad: Calibration | None = None, survey: tuple[Stamps, pd.DataFrame] | None = None
) -> Calibration:
    """Calibrate on synthetic discs of all kinds (unless ``broad`` is that), then on discs like a survey's where it has enough stamps.

    ``survey`` holds stamps and their rows of ``tables.GALAXIES``.
    """
    model.eval()
    generator = seeded_generator(settings.seed + _CALIBRATION_SEED, model.device)
    wanted = _CALIBRATION_DISCS if model.network.calibrate_on == "model" else max(_FEWEST_MISMATCHED, 2 * model.network.calibration_fits)
    batches = -(-min(wanted, _CALIBRATION_DISCS) // _CALIBRATION_BATCH)

    def said(calibration: Calibration, kind: str, was: str) -> Calibration:
        log.info(
            "network: 1 sigma covers %s of %s discs (i, r_scale, r_turn, V) after calibration, %s with %s",
            ", ".join(f"{c:.0%}" for c in calibration.coverage_after), kind,
            ", ".join(f"{c:.0%}" for c in calibration.coverage_before), was,
        )  # fmt: skip
        return calibration

    if broad is None:
        discs = islice(_discs(model, generator, None), batches)
        broad = said(calibrate(model, discs, generator), "synthetic", "dropout scatter and stated sigmas as they are")
    if survey is None:
        return broad
    stamps = survey[0]
    if len(stamps) < _FEWEST_TEMPLATES:
        log.info("network: %d stamps, fewer than %d: errors are those of synthetic discs of all kinds", len(stamps), _FEWEST_TEMPLATES)
        return broad
    discs = islice(_discs(model, generator, _templates(model, *survey)), batches)
    return said(calibrate(model, discs, generator, "survey", broad), "survey-like", "the errors of synthetic discs of all kinds")


def _shares(coverage: Sequence[Sequence[float]]) -> str:
    return " and ".join("/".join("-" if share is None else f"{100 * share:.0f}" for share in shares) for shares in coverage)


def _calibrate_fit(
    model: DiscAutoencoder, settings: Settings, broad: FitCalibration | None = None, survey: tuple[Stamps, pd.DataFrame] | None = None
) -> FitCalibration:
    """Calibrate the errors of the fit on discs that are not the model, of all kinds or, where it has enough stamps, like a survey's."""
    if not model.network.calibration_fits:
        return unchanged()
    like = None if survey is None or len(survey[0]) < _FEWEST_TEMPLATES else _templates(model, *survey)
    if like is None and broad is not None and broad.source != "none":
        return broad
    generator, count = seeded_generator(settings.seed + _CALIBRATION_SEED + 1, model.device), model.network.calibration_fits
    batches = -(-count // _CALIBRATION_BATCH)
    discs = islice(_mismatched(model, generator, like, -(-count // batches)), batches)
    calibration = calibrate_fit(model, discs, "synthetic" if like is None else "survey", broad, settings.seed)
    before, after = calibration.coverage
    log.info(
        "network: 1 and 2 sigma of the fit cover %s %% of %d %s discs that are not the model (%s), after calibration %s",
        _shares(before), calibration.discs, calibration.source, ", ".join(CALIBRATED), _shares(after),
    )  # fmt: skip
    return calibration


def _write(checkpoint: Checkpoint, settings: Settings, out_dir: Path, history: pd.DataFrame) -> None:
    with whole_file(out_dir / "history.csv") as part:
        history.to_csv(part, index=False)
    save_checkpoint(checkpoint, out_dir, settings.seed)
    discard(out_dir)


def pretrain(settings: Settings, out_dir: str | Path) -> None:
    """Train on synthetic discs alone and write ``weights.safetensors``, ``model.json`` and ``history.csv`` into ``out_dir``.

    A training of the same settings that was killed goes on where it was.
    """
    network, device, out_dir = settings.network, resolve_device(settings.device), Path(out_dir)
    with _seeded(settings.seed, device):
        model = new_model(settings, device)
        generator = seeded_generator(settings.seed, device)
        unfinished = Unfinished(out_dir, identity_of("pretrain", settings, model))
        rate = network.synthetic_learning_rate
        history = fit_synthetic(model, network.synthetic_steps, network.synthetic_batch, rate, generator, unfinished)
    calibration, fitted = _calibrate(model, settings), _calibrate_fit(model, settings)
    _write(Checkpoint(model, calibration, (), "synthetic", fitted), settings, out_dir, history)


def _split(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return indices to train on and to hold out: a tenth, of 50 galaxies or more."""
    order = torch.randperm(n, generator=generator, device=generator.device).cpu()
    held = int(n * _VALIDATION_SHARE) if n >= _VALIDATION_FROM else 0
    return order[held:].sort().values, order[:held].sort().values


def _trainable(maps_paths: Sequence[str | Path], settings: Settings, adapt: bool) -> tuple[Stamps, pd.DataFrame]:
    """Return the stamps and table rows of the galaxies to train on; raise `ModelError` where there is none and ``adapt`` needs one."""
    shards = [read_shard(path) for path in maps_paths]
    stamps, usable = stamps_of_shards(shards, settings.network.velocity_norm, settings.maps.velocity_err_default)
    table = pd.concat([shard.galaxies for shard in shards], ignore_index=True)
    trainable = usable & ((table["flags"].to_numpy() & UNTRAINABLE) == 0)
    log.info("network: %d galaxies, %d to train on", len(table), trainable.sum())
    for name in table.loc[~usable & ((table["flags"].to_numpy() & UNTRAINABLE) == 0), "galaxy"]:
        log.warning("network: %s: fewer than %d valid pixels in its stamp, or no scale: left out", name, MIN_PIXELS)
    if adapt and not trainable.any():
        raise ModelError(f"network: none of the {len(table)} galaxies has a stamp that can be trained on; see their flags in the maps.")
    return stamps.select(torch.from_numpy(trainable)).to(resolve_device(settings.device)), table[trainable].reset_index(drop=True)


def train(maps_paths: Sequence[str | Path], initial_dir: str | Path | None, settings: Settings, out_dir: str | Path) -> None:
    """Train on the galaxies of map shards and write ``weights.safetensors``, ``model.json`` and ``history.csv``.

    Galaxies without a usable stamp or with a flag of the maps that forbids it are left out; of 50 or more a tenth is held out and is
    not on the training list. The errors are calibrated on discs like these galaxies. With ``network.adapt`` false or no epochs the
    initial weights are handed on as they are, with that calibration where there are stamps. Raises `ModelError` where the initial
    weights are absent or do not fit, or where no galaxy can be trained on. A training of the same settings, galaxies and initial
    weights that was killed goes on where it was.
    """
    network, device, out_dir = settings.network, resolve_device(settings.device), Path(out_dir)
    synthetic = network.initial_weights == "synthetic"
    if synthetic and initial_dir is None:
        raise ModelError("network.initial_weights is 'synthetic' but no initial weights were given; run 'tullyflow pretrain' first.")
    with _seeded(settings.seed, device):
        start = load_checkpoint(initial_dir, network, device) if synthetic else Checkpoint(new_model(settings, device), identity())
        adapt = network.adapt and network.epochs > 0
        if not adapt and not synthetic:
            raise ModelError("network.adapt is false or network.epochs 0, which needs network.initial_weights: synthetic.")
        survey = _trainable(maps_paths, settings, adapt)
        stamps, table = survey
        if not adapt:
            log.info("network: initial weights are used as they are")
            calibration = _calibrate(start.model, settings, start.calibration, survey)
            fitted = _calibrate_fit(start.model, settings, start.fit_calibration, survey)
            handed_on = replace(start, calibration=calibration, trained_on=(), fit_calibration=fitted)
            _write(handed_on, settings, out_dir, pd.DataFrame(columns=HISTORY))
            return
        names = table["galaxy"].astype(str).to_numpy()
        generator = seeded_generator(settings.seed, device)
        fit, held = _split(len(names), generator)
        if len(fit) < network.batch_size:
            log.info("network: %d galaxies, fewer than a batch of %d: one step per epoch", len(fit), network.batch_size)
        model = start.model.to(memory_format=torch.channels_last)
        unfinished = Unfinished(out_dir, identity_of("train", settings, model, stamps, list(names)))
        fitted, validation = stamps.select(fit.to(device)), stamps.select(held.to(device))
        own = _templates(model, fitted, table.iloc[fit.numpy()]) if synthetic and network.rehearsal > 0 else None
        history = fit_stamps(model, fitted, list(names[fit]), validation, list(names[held]), generator, synthetic, unfinished, own)
    origin = "synthetic, then the survey" if synthetic else "the survey"
    calibration, fitted = _calibrate(model, settings, survey=survey), _calibrate_fit(model, settings, start.fit_calibration, survey)
    _write(Checkpoint(model, calibration, tuple(names[fit]), origin, fitted), settings, out_dir, history)
