"""Weights come back as they were, and foreign ones are refused with a sentence."""

import hashlib
import json
import re
import shutil

import pytest
import torch
from safetensors.torch import save_file

from tullyflow.errors import ModelError
from tullyflow.network.autoencoder import DiscAutoencoder
from tullyflow.network.checkpoint import load_checkpoint
from tullyflow.network.synthetic import draw_discs

CPU = torch.device("cpu")


@pytest.fixture
def weights(trained_dir, tmp_path):
    return shutil.copytree(trained_dir, tmp_path / "weights")


def test_card_says_what_the_weights_are(settings, weights):
    card = json.loads((weights / "model.json").read_text())
    assert card["architecture"] == "folded" and card["parameters"] == {"encoder": 1_147_304}
    assert card["network"]["ranges"] == settings.network.model_dump(mode="json")["ranges"]
    assert card["seed"] == settings.seed and card["origin"] == "synthetic" and card["trained_on"] == []
    assert {"torch", "tullyflow", "numpy"} <= set(card["versions"])


def test_loaded_weights_give_the_same_outputs_twice(settings, weights):
    stamps = draw_discs(2, DiscAutoencoder(settings.network), torch.Generator().manual_seed(1)).stamps
    one, two = (load_checkpoint(weights, settings.network, CPU).model.eval().encode(stamps) for _ in range(2))
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "dawson2021"},
        {"velocity_norm": 500},
        {"log_scale": False},
        {"beam_input": False},
        {"dropout": 0.2},
        {"ranges": {"r_scale": [0.1, 0.35]}},
        {"stream": {"beam": [0, 30]}},
    ],
)
def test_weights_of_other_settings_are_refused(changed, weights, change):
    """The sentence names the first key that differs, and both values."""
    (key, value), *_ = change.items()
    key, value = (f"{key}.{next(iter(value))}", next(iter(value.values()))) if isinstance(value, dict) else (key, value)
    with pytest.raises(ModelError, match=rf"network\.{key} = .*, the settings say '?{re.escape(str(value)[:2])}"):
        load_checkpoint(weights, changed(**change).network, CPU)


def test_what_may_differ_is_taken_from_the_settings(changed, weights):
    assert load_checkpoint(weights, changed(samples=7, loss="chi2").network, CPU).model.network.samples == 7


def test_changed_bytes_are_refused(settings, weights):
    path = weights / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="digests differ"):
        load_checkpoint(weights, settings.network, CPU)


@pytest.mark.parametrize("content", ["{}", "not json", '{"format": "tullyflow network 1"}', '{"format": "somebody else\'s"}'])
def test_foreign_card_is_refused(settings, weights, content):
    (weights / "model.json").write_text(content)
    with pytest.raises(ModelError, match=r"model\.json"):
        load_checkpoint(weights, settings.network, CPU)


def test_weights_of_another_architecture_are_refused_in_one_sentence(settings, weights):
    """By the card where it says so, by the tensors where it does not."""
    path = weights / "model.json"
    card = json.loads(path.read_text())
    card["network"]["architecture"] = "resnet18"
    path.write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"trained with network\.architecture = 'resnet18', the settings say") as refused:
        load_checkpoint(weights, settings.network, CPU)
    assert "\n" not in str(refused.value)
    save_file({"conv1.weight": torch.zeros(3)}, weights / "weights.safetensors")
    card["network"]["architecture"] = settings.network.architecture
    card["weights_sha256"] = hashlib.sha256((weights / "weights.safetensors").read_bytes()).hexdigest()
    path.write_text(json.dumps(card))
    with pytest.raises(ModelError, match="not weights of the architecture") as refused:
        load_checkpoint(weights, settings.network, CPU)
    assert "\n" not in str(refused.value)


def test_foreign_calibration_is_refused(settings, weights):
    path = weights / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"calibration": {"discs": 3}}))
    with pytest.raises(ModelError, match="calibration is not one of this version"):
        load_checkpoint(weights, settings.network, CPU)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_absent_file_is_refused(settings, weights, name):
    (weights / name).unlink()
    with pytest.raises(ModelError, match=f"{name}: no such file"):
        load_checkpoint(weights, settings.network, CPU)
