"""A training that was killed goes on as if nothing had happened, and leaves nothing behind."""

import json
import logging
import signal
import subprocess
import sys

import pandas as pd
import pytest
from safetensors import safe_open

from tullyflow.network import fitting, resume, training
from tullyflow.network.calibration import identity
from tullyflow.network.fit_calibration import unchanged
from tullyflow.network.training import pretrain, train

STATE = ".unfinished/state.safetensors"
KILLED = """
import os, signal, sys
import torch
from tullyflow.network import resume
from tullyflow.network.training import pretrain, train
from tullyflow.settings import load_settings

resume.EVERY_S = 0
task, settings, out, at, *inputs = sys.argv[1:]
steps, step = 0, torch.optim.Adam.step

def counted(self, *args, **kwargs):
    global steps
    steps += 1
    if steps == int(at):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *args, **kwargs)

torch.optim.Adam.step = counted
if task == "pretrain":
    pretrain(load_settings(settings), out)
else:
    train([inputs[0]], inputs[1], load_settings(settings), out)
"""


@pytest.fixture(autouse=True)
def uncalibrated(monkeypatch):
    """Calibration comes after the training, from its weights alone."""
    monkeypatch.setattr(training, "_calibrate", lambda *_, **__: identity())
    monkeypatch.setattr(training, "_calibrate_fit", lambda *_, **__: unchanged())


class Interruption(Exception):
    pass


@pytest.fixture
def break_off():
    """Return a function that trains on a survey, writing the state at each epoch, and breaks off after epoch ``n``."""

    def run(n, *arguments):
        write, written = resume.Unfinished.write, []

        def counted(self, *args):
            write(self, *args)
            written.append(1)
            if len(written) == n:
                raise Interruption

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Interruption):
            patch.setattr(resume, "EVERY_S", 0)
            patch.setattr(resume.Unfinished, "write", counted)
            train(*arguments)

    return run


def kill(folder, task, settings, at, *inputs):
    """Train in another process that is killed (SIGKILL) at its optimizer's step number ``at``."""
    command = [sys.executable, "-c", KILLED, task, settings.model_dump_json(), str(folder), str(at), *map(str, inputs)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert sorted(path.name for path in folder.iterdir()) == [".unfinished"]


def assert_same_network(one, two):
    for name in ("weights.safetensors", "model.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    histories = [pd.read_csv(folder / "history.csv") for folder in (one, two)]
    pd.testing.assert_frame_equal(*(history.drop(columns="seconds") for history in histories), check_exact=True)
    assert all(history["seconds"].is_monotonic_increasing for history in histories)
    assert sorted(path.name for path in two.iterdir()) == ["history.csv", "model.json", "weights.safetensors"]


def test_killed_training_on_a_survey_ends_with_the_weights_of_an_undisturbed_one(changed, write_shard, trained_dir, tmp_path, caplog):
    """Three steps per epoch; killed in the fourth epoch. Early stop and rehearsal carry state of their own."""
    maps, _, _ = write_shard(n=5)
    settings = changed(epochs=6, batch_size=2, early_stop=4, learning_rate=1e-3)
    kill(tmp_path / "killed", "train", settings, 11, maps, trained_dir)
    train([maps], trained_dir, settings, tmp_path / "whole")
    with caplog.at_level(logging.INFO, logger="tullyflow"):
        train([maps], trained_dir, settings, tmp_path / "killed")
    assert "goes on after epoch 3 of 6" in caplog.text
    assert_same_network(tmp_path / "whole", tmp_path / "killed")


def test_killed_training_on_synthetic_discs_ends_with_the_weights_of_an_undisturbed_one(changed, tmp_path, caplog):
    """Killed between two lines of the history: the losses since the last one are not lost."""
    settings = changed(synthetic_steps=40, synthetic_batch=4)
    kill(tmp_path / "killed", "pretrain", settings, 14)
    pretrain(settings, tmp_path / "whole")
    with caplog.at_level(logging.INFO, logger="tullyflow"):
        pretrain(settings, tmp_path / "killed")
    assert "goes on after step 13 of 40" in caplog.text
    assert_same_network(tmp_path / "whole", tmp_path / "killed")


def test_training_killed_after_its_last_epoch_is_not_repeated(changed, write_shard, trained_dir, tmp_path, break_off, monkeypatch):
    """The best weights, here the first epoch's, were kept too: the learning rate ruins all others."""
    maps, _, _ = write_shard(n=3)
    settings = changed(epochs=2, early_stop=5, learning_rate=0.5)
    break_off(2, [maps], trained_dir, settings, tmp_path / "killed")
    train([maps], trained_dir, settings, tmp_path / "whole")
    monkeypatch.setattr(fitting, "_epoch", None)
    train([maps], trained_dir, settings, tmp_path / "killed")
    losses = pd.read_csv(tmp_path / "whole/history.csv")["loss"]
    assert losses[0] < losses[1]
    assert_same_network(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("other", ["seed", "settings", "galaxies", "broken"])
def test_state_of_another_training_is_not_taken_up(changed, write_shard, tmp_path, break_off, caplog, other):
    maps, _, _ = write_shard(n=3)
    settings = changed(initial_weights="none", epochs=2)
    break_off(1, [maps], None, settings, tmp_path)
    if other == "seed":
        settings = settings.model_copy(update={"seed": 8})
    if other == "settings":
        settings = changed(initial_weights="none", epochs=2, learning_rate=3e-4)
    if other == "galaxies":
        maps, _, _ = write_shard(n=3, seed=12)
    if other == "broken":
        (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:1000])
    with caplog.at_level(logging.INFO, logger="tullyflow"):
        train([maps], None, settings, tmp_path)
    assert "begun anew" in caplog.text and "goes on" not in caplog.text
    assert len(pd.read_csv(tmp_path / "history.csv")) == 2
    assert not (tmp_path / STATE).parent.exists()


def test_state_is_safetensors_and_json(changed, write_shard, tmp_path, break_off):
    maps, _, _ = write_shard(n=3)
    break_off(1, [maps], None, changed(initial_weights="none", epochs=2), tmp_path)
    with safe_open(tmp_path / STATE, framework="pt") as file:
        header = json.loads(file.metadata()["state"])
        names = set(file.keys())
    assert header["counts"]["done"] == 1 and header["counts"]["batch"] == 4 and len(header["counts"]["rows"]) == 1
    assert {"random.torch", "random.generator", "model.encoders.last.weight", "optimizer.0.exp_avg"} <= names


def test_short_training_writes_no_state(changed, write_shard, tmp_path, monkeypatch):
    maps, _, _ = write_shard(n=3)
    monkeypatch.setattr(resume.Unfinished, "write", None)
    train([maps], None, changed(initial_weights="none", epochs=2), tmp_path)
    assert (tmp_path / "weights.safetensors").is_file()
