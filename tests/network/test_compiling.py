"""A compiled training is the same training; memory kept between steps is not asked for again."""

import subprocess
import sys

import pytest
import torch

from tullyflow.errors import ModelError
from tullyflow.network import allocator, compiling
from tullyflow.network.autoencoder import DiscAutoencoder
from tullyflow.network.fitting import fit_stamps, fit_synthetic
from tullyflow.network.synthetic import draw_discs

FAULTS = """
import resource
import numpy as np
from tullyflow.network.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(1 << 22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), keep_freed_memory(), (faults(), faults())[1])
"""


@pytest.fixture
def met(monkeypatch):
    """The batches a step was compiled for; what is compiled runs as it is."""
    sizes = []

    def backend(graph, inputs):
        sizes.append(max(i.shape[0] for i in inputs if isinstance(i, torch.Tensor) and i.ndim == 3 and i.shape[1:] == (64, 64)))
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(compiling, "_BACKEND", backend)
    yield sizes
    torch.compiler.reset()


def fitted(network, stamps):
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = DiscAutoencoder(network)
        names = [f"galaxy {k}" for k in range(len(stamps))]
        history = fit_stamps(model, stamps, names, stamps.select(slice(0, 0)), [], torch.Generator().manual_seed(1), rehearse=False)
    return model.state_dict(), history["loss"].tolist()


def test_compiled_training_is_the_same_and_compiles_whole_batches_once(changed, model, met):
    stamps = draw_discs(10, model, torch.Generator().manual_seed(3)).stamps
    plain, losses = fitted(changed(epochs=3, batch_size=4).network, stamps)
    assert met == []
    quick, quick_losses = fitted(changed(epochs=3, batch_size=4, compile=True).network, stamps)
    assert met == [4]
    assert quick_losses == pytest.approx(losses, rel=1e-5)
    assert list(quick) == list(plain)
    assert all(torch.allclose(quick[name], plain[name], atol=1e-6) for name in plain)


def test_only_what_follows_the_encoders_is_compiled_on_the_cpu(changed, met):
    model = DiscAutoencoder(changed(compile=True).network)
    fit_synthetic(model, 2, 6, 1e-3, torch.Generator().manual_seed(1))
    assert met == []


def test_machine_without_a_compiler_is_said_in_one_sentence(changed, model, monkeypatch):
    def backend(*_):
        raise OSError("no g++ here")

    torch.compiler.reset()
    monkeypatch.setattr(compiling, "_BACKEND", backend)
    stamps = draw_discs(4, model, torch.Generator().manual_seed(3)).stamps
    with pytest.raises(ModelError, match=r"network.compile: this machine cannot compile .*no g\+\+ here"):
        fitted(changed(epochs=1, compile=True).network, stamps)


def test_freed_memory_is_kept():
    if sys.platform != "linux":
        pytest.skip("page faults are counted on Linux")
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, kept, after = run.stdout.split()
    if kept == "False":
        pytest.skip("this C library has no mallopt")
    assert int(after) < int(before) / 10


@pytest.mark.parametrize(("largest", "kept"), [(2**31 - 1, True), (32 * 2**20, True), (0, False)])
def test_older_c_libraries_keep_what_they_allow(monkeypatch, largest, kept):
    """glibc before 2.35 refuses mmap thresholds above 32 MiB; the trim threshold alone would do harm."""
    done = {}

    class Library:
        gnu_get_libc_version = None

        @staticmethod
        def mallopt(option, size):
            if option == -3 and size > largest:
                return 0
            done[option] = size
            return 1

    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: Library)
    assert allocator.keep_freed_memory() is kept
    assert done == ({-3: largest, -1: 2**31 - 1} if kept else {})
