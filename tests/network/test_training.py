"""Training learns, is the seed's alone, and refuses what it cannot use."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tullyflow.errors import ModelError
from tullyflow.network import fitting
from tullyflow.network.autoencoder import map_loss
from tullyflow.network.checkpoint import load_checkpoint
from tullyflow.network.fitting import fit_stamps, fit_synthetic
from tullyflow.network.synthetic import draw_discs
from tullyflow.network.training import _templates, new_model, train

CPU = torch.device("cpu")


def names(n):
    return [f"galaxy {k}" for k in range(n)]


def test_short_training_beats_the_best_constant_guess(settings, trained_dir):
    """200 steps: inclination and scale length within 60 % and V sin i within 80 % of a constant guess's mean deviation."""
    checkpoint = load_checkpoint(trained_dir, settings.network, CPU)
    discs = draw_discs(300, checkpoint.model.eval(), torch.Generator().manual_seed(99))
    with torch.no_grad():
        outputs = checkpoint.model.encode(discs.stamps).clamp(-1, 1)
    guess = (discs.labels - discs.labels.median(dim=0).values).abs().mean(dim=0)
    ratio = (outputs - discs.labels).abs().mean(dim=0) / guess
    assert (ratio < torch.tensor([0.6, 0.6, 0.95, 0.8])).all(), ratio


def test_history_of_synthetic_training_falls(trained_dir):
    history = pd.read_csv(trained_dir / "history.csv")
    assert history["loss"].iloc[-1] < 0.6 * history["loss"].iloc[0]


def test_survey_training_lowers_the_loss_of_its_maps(changed, model):
    """Of maps with little noise, so that there is something to lower."""
    network = changed(epochs=6, learning_rate=1e-3, stream={"velocity_err": [0.1, 0.2], "snr": [200, 500], "clumps": 0}).network
    model.network = network
    stamps = draw_discs(12, model, torch.Generator().manual_seed(3)).stamps
    before = map_loss(model.eval()(stamps), stamps, network).total.mean().item()
    history = fit_stamps(model, stamps, names(12), stamps.select(slice(0, 0)), [], torch.Generator().manual_seed(1), rehearse=False)
    after = map_loss(model.eval()(stamps), stamps, network).total.mean().item()
    assert after < 0.8 * before
    assert list(history["epoch"]) == [1, 2, 3, 4, 5, 6]
    assert history["learning_rate"].tolist() == pytest.approx([1e-3, 1e-3, 9.75e-4, 9.75e-4, 9.506e-4, 9.506e-4], rel=1e-3)


def test_training_is_the_seeds_alone(changed, write_shard, tmp_path):
    maps, _, _ = write_shard(n=5)
    settings = changed(initial_weights="none", epochs=2)
    for name in ("one", "two"):
        train([maps], None, settings, tmp_path / name)
    other = settings.model_copy(update={"seed": 5})
    train([maps], None, other, tmp_path / "other")
    one, two, third = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two", "other"))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not all(torch.equal(one[k], third[k]) for k in one)


def test_training_starts_from_synthetic_weights_and_leaves_unusable_galaxies_out(changed, write_shard, trained_dir, tmp_path):
    maps, _, _ = write_shard(n=6, dead=(2,))
    train([maps], trained_dir, changed(epochs=1), tmp_path)
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["trained_on"] == [f"galaxy {k}" for k in (0, 1, 3, 4, 5)]
    assert card["origin"] == "synthetic, then the survey"
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["loss"].iloc[0] == pytest.approx(history["loss_intensity"].iloc[0] + history["loss_velocity"].iloc[0])
    before, after = (load_file(d / "weights.safetensors")["encoders.last.weight"] for d in (trained_dir, tmp_path))
    assert 0 < (before - after).abs().max() < 0.01


@pytest.mark.parametrize("change", [{"adapt": False}, {"epochs": 0}])
def test_without_adaptation_the_initial_weights_are_handed_on(changed, write_shard, trained_dir, tmp_path, change):
    maps, _, _ = write_shard(n=3)
    train([maps], trained_dir, changed(**change), tmp_path)
    one, two = (load_file(d / "weights.safetensors") for d in (trained_dir, tmp_path))
    assert all(torch.equal(one[k], two[k]) for k in one)
    card, initial = (json.loads((d / "model.json").read_text()) for d in (tmp_path, trained_dir))
    assert card["trained_on"] == [] and card["calibration"] == initial["calibration"]


@pytest.mark.parametrize("change", [{"adapt": False}, {"epochs": 1}])
def test_errors_are_calibrated_on_discs_like_the_surveys(changed, write_shard, trained_dir, tmp_path, change):
    maps, _, _ = write_shard(n=10, dead=(1,), photometric=(3,))
    train([maps], trained_dir, changed(**change), tmp_path)
    card, initial = (json.loads((d / "model.json").read_text()) for d in (tmp_path, trained_dir))
    assert (card["calibration"]["source"], initial["calibration"]["source"]) == ("survey", "synthetic")
    assert card["calibration"]["discs"] == 300 and all(0.5 < c < 0.85 for c in card["calibration"]["coverage_after"])


def templates(model, n):
    stamps = draw_discs(n, model, torch.Generator().manual_seed(3)).stamps
    return stamps, _templates(model, stamps, pd.DataFrame({"pixel_scale_arcsec": 0.5, "stamp_scale_arcsec": 0.5, "flags": [0] * n}))


def test_discs_like_a_surveys_lie_about_what_is_found_without_dropout(model):
    stamps, found = templates(model.train(), 4)
    with torch.no_grad():
        expected = model.parameters_of(model.eval().encode(stamps), stamps.norm).stack()
    assert torch.equal(found.parameters.stack(), expected)


@pytest.mark.parametrize(("batch", "expected"), [(4, ["all", "like", "all", "like"]), (2, ["all", "like", "like", "all"])])
def test_rehearsal_takes_turns_in_surveys_of_one_batch_too(changed, model, monkeypatch, batch, expected):
    rehearsed = []

    def noted(kind, draw):
        return lambda *arguments: rehearsed.append(kind) or draw(*arguments)

    for kind, name in (("all", "draw_discs"), ("like", "draw_like")):
        monkeypatch.setattr(fitting, name, noted(kind, getattr(fitting, name)))
    model.network = changed(epochs=4 * batch // 4, batch_size=batch).network
    stamps, own = templates(model, 4)
    nothing, generator = stamps.select(slice(0, 0)), torch.Generator().manual_seed(1)
    fit_stamps(model, stamps, names(4), nothing, [], generator, rehearse=True, templates=own)
    assert rehearsed == expected


def test_without_a_stamp_and_without_adaptation_the_weights_are_handed_on(changed, write_shard, trained_dir, tmp_path):
    maps, _, _ = write_shard(n=2, dead=(0, 1))
    train([maps], trained_dir, changed(adapt=False), tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["calibration"]["source"] == "synthetic"


def test_a_tenth_of_fifty_galaxies_is_held_out(changed, write_shard, tmp_path):
    maps, _, _ = write_shard(n=50)
    train([maps], None, changed(initial_weights="none", epochs=1, batch_size=25), tmp_path)
    assert len(json.loads((tmp_path / "model.json").read_text())["trained_on"]) == 45
    assert np.isfinite(pd.read_csv(tmp_path / "history.csv")["validation_loss"].iloc[0])


def test_early_stop_ends_training_without_progress(changed, model):
    model.network = changed(epochs=30, early_stop=2, learning_rate=1e-12).network
    stamps = draw_discs(4, model, torch.Generator().manual_seed(3)).stamps
    model.dropout.p = 0.9  # only noise is left to change the loss
    history = fit_stamps(model, stamps, names(4), stamps.select(slice(0, 0)), [], torch.Generator().manual_seed(1), rehearse=False)
    assert len(history) < 30


def test_early_stop_keeps_the_weights_of_the_best_epoch(changed, model):
    """A learning rate that ruins the network: the best epoch is the first, and its weights are what is left."""
    model.network = changed(epochs=9, early_stop=3, learning_rate=0.5).network
    stamps = draw_discs(4, model, torch.Generator().manual_seed(3)).stamps
    held, after = stamps.select(slice(0, 2)), []
    step = torch.optim.Adam.step

    def kept(self):
        step(self)
        after.append({name: tensor.clone() for name, tensor in model.state_dict().items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", kept)
        history = fit_stamps(model, stamps.select(slice(2, 4)), names(2), held, names(2), torch.Generator().manual_seed(1), rehearse=False)
    best = history["validation_loss"].idxmin()
    assert best < len(history) - 1 and len(history) == best + 4
    left = model.state_dict()
    assert all(torch.equal(left[name], after[best][name]) for name in left)
    assert not torch.equal(left["encoders.last.bias"], after[-1]["encoders.last.bias"])


def test_loss_that_is_not_finite_names_its_galaxy(changed, model):
    model.network = changed(epochs=1).network
    stamps = draw_discs(5, model, torch.Generator().manual_seed(3)).stamps
    velocity = stamps.velocity.clone()
    velocity[3, 31, 31] = torch.inf
    bad = replace(stamps, velocity=velocity)
    with pytest.raises(ModelError, match="galaxy 3 is not finite"):
        fit_stamps(model, bad, names(5), bad.select(slice(0, 0)), [], torch.Generator().manual_seed(1), rehearse=False)


def test_nothing_to_train_on_is_said(changed, write_shard, tmp_path):
    maps, _, _ = write_shard(n=2, dead=(0, 1))
    with pytest.raises(ModelError, match="none of the 2 galaxies"):
        train([maps], None, changed(initial_weights="none"), tmp_path)


def test_missing_initial_weights_are_said(settings, write_shard, tmp_path):
    maps, _, _ = write_shard(n=2)
    with pytest.raises(ModelError, match="no initial weights were given"):
        train([maps], None, settings, tmp_path)


def test_synthetic_training_ends_on_a_loss_that_is_not_finite(settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = new_model(settings, CPU)
    with torch.no_grad():
        model.encoders.last.bias[0] = torch.nan
    with pytest.raises(ModelError, match=r"lower network\.synthetic_learning_rate"):
        fit_synthetic(model, 2, 2, 1e-3, torch.Generator().manual_seed(0))
