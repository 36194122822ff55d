"""The two training loops: on labelled synthetic discs, and self-supervised on a survey's own maps.

Both go on where a killed one was (`resume`), halve the batch where memory runs out, and ask the device for figures once per epoch or
line of the log only.
"""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from tullyflow.errors import ModelError
from tullyflow.network.autoencoder import DiscAutoencoder, map_loss
from tullyflow.network.batch import Stamps
from tullyflow.network.compiling import compiled
from tullyflow.network.memory import BatchSize
from tullyflow.network.resume import Unfinished
from tullyflow.network.synthetic import SyntheticDiscs, Templates, draw_discs, draw_like

__all__ = ["HISTORY", "fit_stamps", "fit_synthetic", "label_loss", "survey_loss"]

log = logging.getLogger("tullyflow")

HISTORY = ("epoch", "loss", "loss_intensity", "loss_velocity", "validation_loss", "learning_rate", "seconds")
_SYNTHETIC_HISTORY = ("step", "loss", "learning_rate", "seconds")
_LABEL_BETA = 0.1  # of half a range: where the label loss turns from quadratic to linear
_LABEL_WEIGHTS = (1.0, 1.0, 0.3, 1.0)  # r_turn is often unresolved: it must not drown V_max in the encoder they share
_LOG_LINES = 20
_NAMED = 5  # galaxies named in a sentence


def label_loss(outputs: Tensor, log_sigma: Tensor | None, labels: Tensor) -> Tensor:
    """Return how far outputs (galaxy, 4) before the hard tanh are from their labels, a scalar.

    Without sigmas the smooth L1 distance. With them the negative log-likelihood of normal errors; its gradient has each term times its
    own sigma (Seitzer+2022, beta = 1/2), so that what can be known well neither drowns nor is drowned by what cannot.
    """
    if log_sigma is None:
        weights = outputs.new_tensor(_LABEL_WEIGHTS)
        return (nn.functional.smooth_l1_loss(outputs, labels, beta=_LABEL_BETA, reduction="none") * weights).mean()
    unlikelihood = ((outputs - labels) / log_sigma.exp()).square() / 2 + log_sigma
    weighted = (unlikelihood * log_sigma.detach().exp()).mean()
    return weighted + (unlikelihood.mean() - weighted).detach()


def _synthetic_loss(model: DiscAutoencoder, discs: SyntheticDiscs) -> Tensor:
    return label_loss(*model.answer(discs.stamps), discs.labels)


@contextmanager
def _bar(what: str, done: int, total: int) -> Iterator[tqdm]:
    """A progress bar on a terminal; lines of the log then go above it."""
    shown = sys.stderr.isatty()
    with ExitStack() as stack:
        if shown:
            stack.enter_context(logging_redirect_tqdm())
        yield stack.enter_context(tqdm(desc=what, initial=done, total=total, disable=not shown))


def fit_synthetic(
    model: DiscAutoencoder,
    steps: int,
    batch: int,
    learning_rate: float,
    generator: torch.Generator,
    unfinished: Unfinished | None = None,
) -> pd.DataFrame:
    """Train on the labels of an endless synthetic stream, Adam with a one-cycle learning rate; return the history.

    ``generator`` draws the discs; dropout uses torch's own randomness. ``unfinished`` keeps the state: with one of this very
    training the model goes on from there. Raises `ModelError` where the loss is not finite.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=max(steps, 2))
    every = max(1, steps // _LOG_LINES)
    rows, recent, done, passed, size = [], [], 0, 0.0, BatchSize(batch)
    if unfinished and (taken := unfinished.take_up(model, optimizer, schedule, generator)):
        rows, done, passed, size.size = (taken.counts[key] for key in ("rows", "done", "passed", "batch"))
        recent = list(taken.tensors["recent"].to(model.device))
        log.info("network: an unfinished training goes on after step %d of %d", done, steps)
    began = time.monotonic() - passed
    whole = model.network.compile and model.device.type != "cpu"  # here the step is all encoder: see `survey_loss`
    loss_of = compiled(_synthetic_loss) if whole else _synthetic_loss
    model.train()
    with _bar("synthetic discs", done, steps) as bar:
        for step in range(done + 1, steps + 1):
            recent.append(_synthetic_step(model, optimizer, size, generator, loss_of))
            schedule.step()
            passed = time.monotonic() - began
            bar.update()
            if step % every == 0 or step == steps:
                mean = torch.stack(recent).mean().item()
                if not math.isfinite(mean):
                    raise ModelError(f"network: the loss on synthetic discs is NaN at step {step}; lower network.synthetic_learning_rate.")
                rows.append([step, mean, schedule.get_last_lr()[0], passed])
                log.info("network: synthetic step %d of %d: loss %.4f, %.0f s", step, steps, mean, passed)
                bar.set_postfix_str(f"loss {mean:.4f}")
                recent = []
            if unfinished and unfinished.due(last=step == steps):
                counts = {"rows": rows, "done": step, "passed": passed, "batch": size.size}
                own = {"recent": torch.stack(recent) if recent else torch.empty(0)}
                unfinished.write(model, optimizer, schedule, generator, counts, own)
    return pd.DataFrame(rows, columns=_SYNTHETIC_HISTORY)


def _synthetic_step(
    model: DiscAutoencoder, optimizer: torch.optim.Optimizer, size: BatchSize, generator: torch.Generator, loss_of: Callable[..., Tensor]
) -> Tensor:
    """Take one step on new discs and return the loss; ``size`` is halved until they fit into memory."""
    while True:
        try:
            optimizer.zero_grad()
            loss = loss_of(model, draw_discs(size.size, model, generator))
            loss.backward()
        except (RuntimeError, MemoryError) as error:
            size.halve(error)
            continue
        optimizer.step()
        return loss.detach()


def _decoded_loss(model: DiscAutoencoder, outputs: Tensor, stamps: Stamps) -> Tensor:
    """Return the loss of each map of each galaxy (2, galaxy) for the outputs (galaxy, 4) before the hard tanh."""
    maps = model.decode(model.parameters_of(outputs, stamps.norm), stamps.beam)
    losses = map_loss(maps, stamps, model.network)
    return torch.stack([losses.intensity, losses.velocity])


def _loss_of(model: DiscAutoencoder, stamps: Stamps, decoded_loss: Callable[..., Tensor] = _decoded_loss) -> Tensor:
    """Return the loss of each map of each galaxy, (2, galaxy)."""
    return decoded_loss(model, model.encode(stamps), stamps)


def survey_loss(model: DiscAutoencoder) -> Callable[[DiscAutoencoder, Stamps], Tensor]:
    """Return the function of model and stamps that gives the loss of each map of each galaxy (2, galaxy), compiled where the settings say.

    On the CPU the encoders are left out: their convolutions are a library's, and the compiler's pooling is slower than torch's.
    """
    if not model.network.compile:
        return _loss_of
    if model.device.type == "cpu":
        return partial(_loss_of, decoded_loss=compiled(_decoded_loss))
    return compiled(_loss_of)


def _mean_loss(losses: Sequence[Tensor], names: Sequence[str]) -> tuple[float, float]:
    """Return the mean intensity and velocity loss of an epoch's batches (2, galaxy); ``names`` are the galaxies in that order.

    Raises `ModelError` naming the first galaxy whose loss is not finite, or the galaxies of the step that made every loss so.
    """
    start = 0
    values = torch.cat(list(losses), dim=1).double().cpu()
    finite = torch.isfinite(values).all(dim=0)
    for before, batch in zip([None, *losses], losses, strict=False):
        part = finite[start : start + batch.shape[1]]
        if before is not None and not part.any():
            guilty = ", ".join(names[start - before.shape[1] : start][:_NAMED]) + (" ..." if before.shape[1] > _NAMED else "")
            raise ModelError(f"network: a step on {guilty} made every loss NaN; look at their stamps or lower network.learning_rate.")
        if not part.all():
            name = names[start + int((~part).nonzero()[0])]
            raise ModelError(f"network: the loss of galaxy {name} is not finite; look at its stamp or lower network.learning_rate.")
        start += batch.shape[1]
    intensity, velocity = values.mean(dim=1).tolist()
    return intensity, velocity


@torch.no_grad()
def _validation_loss(model: DiscAutoencoder, stamps: Stamps, names: Sequence[str], size: BatchSize) -> float:
    if not len(stamps):
        return float("nan")
    model.eval()
    losses, start = [], 0
    while start < len(stamps):
        try:
            losses.append(_loss_of(model, stamps.select(slice(start, start + size.size))))
        except (RuntimeError, MemoryError) as error:
            size.halve(error)
            continue
        start += losses[-1].shape[1]
    model.train()
    return sum(_mean_loss(losses, names))


def _epoch(
    model: DiscAutoencoder,
    optimizer: torch.optim.Optimizer,
    stamps: Stamps,
    order: Tensor,
    size: BatchSize,
    generator: torch.Generator,
    rehearsal: float,
    templates: Templates | None,
    whole_batch: Callable[..., Tensor],
    turn: int = 0,
) -> list[Tensor]:
    """Take the steps of one epoch; return the losses of each batch, (2, galaxy). ``size`` is halved where memory runs out.

    With ``templates`` every other batch is rehearsed with discs like its own galaxies instead of discs of all kinds: in epochs of odd
    ``turn`` the first, the third and so on, in even ones those between, so that a survey of one batch has its turns too.
    ``whole_batch`` is `_loss_of` for batches of that size, compiled or not; the last one of an epoch may be smaller.
    """
    losses, start = [], 0
    while start < len(order):
        try:
            optimizer.zero_grad()
            chosen = order[start : start + size.size]
            loss_of = whole_batch if len(chosen) == size.size else _loss_of
            batch = loss_of(model, stamps.select(chosen))
            loss = batch.mean(dim=1).sum()
            if rehearsal > 0:
                own = templates is not None and (turn + len(losses)) % 2 == 1
                discs = draw_like(templates.select(chosen), model, generator) if own else draw_discs(size.size, model, generator)
                labelled = _synthetic_loss(model, discs)
                loss = loss + rehearsal * loss.detach() * labelled  # the labels' gradient is of order one
            loss.backward()
        except (RuntimeError, MemoryError) as error:
            size.halve(error)
            continue
        optimizer.step()
        losses.append(batch.detach())
        start += batch.shape[1]
    return losses


def fit_stamps(
    model: DiscAutoencoder,
    stamps: Stamps,
    names: Sequence[str],
    validation: Stamps,
    validation_names: Sequence[str],
    generator: torch.Generator,
    rehearse: bool,
    unfinished: Unfinished | None = None,
    templates: Templates | None = None,
) -> pd.DataFrame:
    """Train self-supervised on a survey's maps (Dawson+2021 section 2.5) and return the history, one row per epoch.

    Adam, the learning rate times ``decay`` every ``decay_every`` epochs. With ``early_stop`` epochs without a better loss (of the
    validation where there is one) it ends, and the model has the weights of the best epoch. With ``rehearse`` every batch is joined
    by labelled synthetic discs; where ``templates`` (one for each of ``stamps``) are given, every other time by discs like its own
    galaxies. ``generator`` shuffles and draws these discs; dropout uses torch's own randomness. ``unfinished`` keeps the state:
    with one of this very training the model goes on from there. Raises `ModelError` naming the galaxy whose loss is not finite.
    """
    network = model.network
    optimizer = torch.optim.Adam(model.parameters(), lr=network.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, network.decay_every, network.decay)
    rehearsal = network.rehearsal if rehearse else 0.0
    every = max(1, network.epochs // _LOG_LINES)
    rows, best, best_epoch, best_weights, done, passed = [], math.inf, 0, {}, 0, 0.0
    size = BatchSize(network.batch_size)
    if unfinished and (taken := unfinished.take_up(model, optimizer, schedule, generator)):
        rows, best, best_epoch, done, passed, size.size = (
            taken.counts[key] for key in ("rows", "best", "best_epoch", "done", "passed", "batch")
        )
        best_weights = taken.tensors
        log.info("network: an unfinished training goes on after epoch %d of %d", done, network.epochs)
    began = time.monotonic() - passed
    loss_of = survey_loss(model)
    with _bar("epochs", done, network.epochs) as bar:
        for epoch in range(done + 1, network.epochs + 1):
            if network.early_stop and epoch - 1 - best_epoch >= network.early_stop:
                log.info("network: no better loss since epoch %d: stopped at %d", best_epoch, epoch - 1)
                break
            model.train()
            order = torch.randperm(len(stamps), generator=generator, device=generator.device)
            losses = _epoch(model, optimizer, stamps, order.to(model.device), size, generator, rehearsal, templates, loss_of, epoch - 1)
            rate = schedule.get_last_lr()[0]
            schedule.step()
            intensity, velocity = _mean_loss(losses, [names[i] for i in order.tolist()])
            validated = _validation_loss(model, validation, validation_names, size)
            watched = validated if len(validation) else intensity + velocity
            if watched < best:
                best, best_epoch = watched, epoch
                if network.early_stop:
                    best_weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
            passed = time.monotonic() - began
            rows.append([epoch, intensity + velocity, intensity, velocity, validated, rate, passed])
            bar.update()
            bar.set_postfix_str(f"loss {intensity + velocity:.5f}")
            if epoch % every == 0 or epoch in (1, network.epochs):
                words = "network: epoch %d of %d: loss %.5f (intensity %.5f, velocity %.5f), validation %.5f"
                log.info(words, epoch, network.epochs, *rows[-1][1:5])
            ends = epoch == network.epochs or (network.early_stop and epoch - best_epoch >= network.early_stop)
            if unfinished and unfinished.due(last=bool(ends)):
                counts = {"rows": rows, "best": best, "best_epoch": best_epoch, "done": epoch, "passed": passed, "batch": size.size}
                unfinished.write(model, optimizer, schedule, generator, counts, best_weights)
    if best_weights:
        log.info("network: the weights are those of epoch %d, the best", best_epoch)
        model.load_state_dict(best_weights)
    return pd.DataFrame(rows, columns=HISTORY)
