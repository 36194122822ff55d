"""The synthetic stream holds what it says: labels, errors, masks, ends."""

import pytest
import torch

from tullyflow.network import synthetic
from tullyflow.network.autoencoder import DiscParameters
from tullyflow.network.synthetic import draw_discs


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def test_seed_gives_the_same_discs(model):
    one, two = (draw_discs(4, model, generator()) for _ in range(2))
    assert torch.equal(one.stamps.velocity, two.stamps.velocity) and torch.equal(one.labels, two.labels)
    assert not torch.equal(one.labels, draw_discs(4, model, generator(2)).labels)


def test_labels_are_the_parameters(model):
    discs = draw_discs(200, model, generator())
    parameters = model.parameters_of(discs.labels, discs.stamps.norm).stack()
    within = discs.labels[:, 3].abs() < 1
    assert within.float().mean() > 0.8
    assert torch.allclose(parameters[within], discs.parameters.stack()[within], rtol=1e-4)


def test_discs_reach_the_ends_of_the_ranges(model):
    labels = draw_discs(400, model, generator()).labels
    assert (labels[:, :3].amin(0) == -1).all() and (labels[:, :3].amax(0) == 1).all()


def test_stamps_are_normalised_filled_and_finite(model):
    stamps = draw_discs(100, model, generator()).stamps
    assert torch.allclose(stamps.intensity.amax((1, 2)), torch.ones(100))
    assert (stamps.velocity[~stamps.valid] == 0).all() and stamps.velocity.isfinite().all()
    assert stamps.valid[:, 31:33, 31:33].all()
    fill = stamps.valid.float().mean((1, 2))
    assert fill.min() < 0.3 and fill.max() > 0.9


def test_errors_are_those_of_the_noise(model, monkeypatch):
    """Without misplacement and clumps, the true disc leaves residuals of one error."""
    for name in ("_PA_ERR", "_CENTRE_ERR", "_SYSTEMIC_ERR", "_CLUMPS"):
        monkeypatch.setattr(synthetic, name, 0.0)
    discs = draw_discs(100, model, generator())
    maps = model.decode(DiscParameters(*discs.parameters.stack().unbind(-1)), discs.stamps.beam)
    scaled = ((discs.stamps.velocity - maps.velocity) / discs.stamps.velocity_err)[discs.stamps.valid]
    assert scaled.std().item() == pytest.approx(1, abs=0.02)
    assert scaled.mean().item() == pytest.approx(0, abs=0.02)


def test_noise_grows_outwards(model):
    stamps = draw_discs(50, model, generator()).stamps
    edge = stamps.velocity_err[:, :, :8].mean((1, 2))
    assert (edge > 1.2 * stamps.velocity_err[:, 31, 31]).float().mean() > 0.8


def test_misplacement_turns_and_shifts(model, monkeypatch):
    monkeypatch.setattr(synthetic, "_CENTRE_ERR", 3.0)
    draw = synthetic._Draw(200, generator(), torch.device("cpu"))
    axis = torch.arange(64) - 31.5
    blob = torch.exp(-((axis[None, :] + 4).square() + (axis[:, None] - 9).square()) / 18).expand(200, 1, 64, 64)
    moved = synthetic._misplace(blob, draw)[:, 0]
    x = (moved.sum(1) * axis).sum(1) / moved.sum((1, 2))
    assert x.std().item() == pytest.approx(3.0, rel=0.15)
