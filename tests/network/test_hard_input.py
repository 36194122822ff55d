"""What a training does with too few galaxies, stamps that are empty or of another size, NaN, too little memory, and no GPU."""

import io
import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.io import fits

from tullyflow.cli import main
from tullyflow.errors import ModelError
from tullyflow.network import fitting, training
from tullyflow.network.calibration import identity
from tullyflow.network.fitting import fit_stamps, fit_synthetic
from tullyflow.network.synthetic import draw_discs
from tullyflow.network.training import train


@pytest.fixture(autouse=True)
def uncalibrated(monkeypatch):
    monkeypatch.setattr(training, "_calibrate", lambda *_, **__: identity())


def drawn(model, n):
    return draw_discs(n, model, torch.Generator().manual_seed(3)).stamps


def fit(model, stamps, **others):
    names = [f"galaxy {k}" for k in range(len(stamps))]
    return fit_stamps(model, stamps, names, stamps.select(slice(0, 0)), [], torch.Generator().manual_seed(1), rehearse=False, **others)


@pytest.mark.parametrize("n", [1, 3])
def test_fewer_galaxies_than_a_batch_are_one_step_per_epoch(changed, write_shard, tmp_path, caplog, monkeypatch, n):
    maps, _, _ = write_shard(n=n)
    steps, step = [], torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: steps.append(1) or step(self))
    with caplog.at_level(logging.INFO, logger="tullyflow"):
        train([maps], None, changed(initial_weights="none", epochs=2, batch_size=16), tmp_path)
    assert len(steps) == 2 and f"{n} galaxies, fewer than a batch of 16" in caplog.text
    assert np.isfinite(pd.read_csv(tmp_path / "history.csv")["loss"]).all()


def test_stamp_of_nan_alone_is_named_and_left_out(changed, write_shard, tmp_path, caplog):
    maps, _, _ = write_shard(n=3)
    with fits.open(maps, mode="update") as hdus:
        hdus["VELOCITY"].data[1] = np.nan
    with caplog.at_level(logging.INFO, logger="tullyflow"):
        train([maps], None, changed(initial_weights="none", epochs=1), tmp_path)
    assert "galaxy 1: fewer than 16 valid pixels" in caplog.text
    assert json.loads((tmp_path / "model.json").read_text())["trained_on"] == ["galaxy 0", "galaxy 2"]


def test_stamps_of_another_size_are_refused(changed, write_shard, tmp_path):
    maps, _, _ = write_shard(n=2)
    with fits.open(maps) as hdus:
        hdus["VELOCITY"].data = hdus["VELOCITY"].data[:, 16:48, 16:48]
        hdus.writeto(tmp_path / "small.fits")
    with pytest.raises(ModelError, match=r"VELOCITY is not \(2, 64, 64\)"):
        train([tmp_path / "small.fits"], None, changed(initial_weights="none"), tmp_path)


def test_loss_that_turns_nan_names_the_first_galaxy_not_those_after(changed, model):
    """Its step makes the weights NaN, so every later loss is NaN too."""
    model.network = changed(epochs=1, batch_size=2).network
    stamps = drawn(model, 9)
    stamps.velocity[4, 31, 31] = torch.nan
    with pytest.raises(ModelError, match="galaxy 4 is not finite"):
        fit(model, stamps)


def test_step_that_makes_every_loss_nan_names_its_galaxies(changed, model, monkeypatch):
    model.network = changed(epochs=1, batch_size=2).network
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1)).tolist()
    step = torch.optim.Adam.step
    taken = []

    def poisoned(self):
        step(self)
        taken.append(1)
        if len(taken) == 2:
            with torch.no_grad():
                model.encoders.last.bias[0] = torch.nan

    monkeypatch.setattr(torch.optim.Adam, "step", poisoned)
    with pytest.raises(ModelError, match=f"step on galaxy {order[2]}, galaxy {order[3]} made every loss NaN"):
        fit(model, drawn(model, 6))


def small_memory(monkeypatch, holds, error):
    """Let a loss of more than ``holds`` galaxies end in ``error``; return the sizes that did not."""
    sizes = []

    def limited(function):
        def call(model, stamps, *others):
            n = len(getattr(stamps, "stamps", stamps))
            if n > holds:
                raise error
            sizes.append(n)
            return function(model, stamps, *others)

        return call

    for name in ("_loss_of", "_synthetic_loss"):
        monkeypatch.setattr(fitting, name, limited(getattr(fitting, name)))
    return sizes


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
)
def test_batch_is_halved_where_memory_runs_out_and_every_galaxy_is_still_met(changed, model, monkeypatch, caplog, error):
    model.network = changed(epochs=2, batch_size=8).network
    sizes = small_memory(monkeypatch, 3, error)
    with caplog.at_level(logging.INFO, logger="tullyflow"):
        history = fit(model, drawn(model, 7))
    assert sizes == [2, 2, 2, 1] * 2 and len(history) == 2
    assert [r.message for r in caplog.records if "memory" in r.message] == [
        "network: out of memory with 8 galaxies per step: 4 from here on",
        "network: out of memory with 4 galaxies per step: 2 from here on",
    ]


def test_batch_of_synthetic_discs_is_halved_where_memory_runs_out(model, monkeypatch):
    sizes = small_memory(monkeypatch, 3, MemoryError())
    fit_synthetic(model, 3, 4, 1e-3, torch.Generator().manual_seed(0))
    assert sizes == [2, 2, 2]


def test_too_little_memory_for_one_galaxy_is_said(changed, model, monkeypatch):
    model.network = changed(epochs=1).network
    small_memory(monkeypatch, 0, MemoryError())
    with pytest.raises(ModelError, match="out of memory with a single galaxy"):
        fit(model, drawn(model, 2))


def test_other_errors_of_the_device_are_not_taken_for_memory(changed, model, monkeypatch):
    model.network = changed(epochs=1).network
    small_memory(monkeypatch, 0, RuntimeError("CUDA error: device-side assert triggered"))
    with pytest.raises(RuntimeError, match="device-side assert"):
        fit(model, drawn(model, 2))


@pytest.mark.parametrize("command", ["pretrain", "train"])
def test_gpu_that_is_not_there_ends_in_one_sentence(write_shard, tmp_path, monkeypatch, capsys, command):
    maps, _, _ = write_shard(n=2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = ["--maps", str(maps)] if command == "train" else []
    assert main([command, "--settings", '{"device": "cuda"}', "--out", str(tmp_path), *options]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "device: 'cuda' is not on this machine" in said and "use 'auto' or 'cpu'" in said
    assert not list(tmp_path.iterdir())


class Terminal(io.StringIO):
    def __init__(self, is_one):
        super().__init__()
        self.is_one = is_one

    def isatty(self):
        return self.is_one


@pytest.mark.parametrize("is_one", [True, False])
def test_progress_is_drawn_on_a_terminal_only(changed, model, monkeypatch, is_one):
    model.network = changed(epochs=2).network
    screen = Terminal(is_one)
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", screen)
        history = fit(model, drawn(model, 2))
    if is_one:
        assert "epochs: 100%" in screen.getvalue() and f"loss {history['loss'].iloc[-1]:.5f}" in screen.getvalue()
    else:
        assert screen.getvalue() == ""
