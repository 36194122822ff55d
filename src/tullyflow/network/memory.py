"""How many galaxies go into a step: as many as the settings say, fewer where the memory does not hold them; and through an inference."""

import logging

import torch

from tullyflow.errors import ModelError

__all__ = ["BatchSize", "galaxies_at_a_time"]

log = logging.getLogger("tullyflow")

# of CUDA and MPS, Windows, Linux, C++, cuBLAS, and oneDNN, which does not say why
_WORDS = ("out of memory", "not enough memory", "allocate memory", "bad_alloc", "alloc_failed", "could not create a primitive")


_AT_A_TIME, _AT_A_TIME_GPU = 64, 4096  # what stays in a cpu's caches; what keeps a GPU busy with 100 samples of each
_USUAL_SAMPLES = 100


def galaxies_at_a_time(device: torch.device, samples: int = _USUAL_SAMPLES) -> int:
    """Return how many galaxies go through the network at a time: so many that their samples take about 1 GB on a GPU."""
    if device.type == "cpu":
        return _AT_A_TIME
    return max(_AT_A_TIME, _AT_A_TIME_GPU * _USUAL_SAMPLES // max(samples, _USUAL_SAMPLES))


class BatchSize:
    """Galaxies per step."""

    def __init__(self, size: int):
        self.size = size

    def halve(self, error: Exception) -> None:
        """Halve it where ``error`` says that memory ran out, and say so; raise `ModelError` at one galaxy, any other error as it is."""
        if not _out_of_memory(error):
            raise error
        if self.size == 1:
            said = " ".join(str(error).split())[:100] or type(error).__name__
            raise ModelError(f"network: out of memory with a single galaxy per step ({said}); free some, or use another device.") from error
        log.warning("network: out of memory with %d galaxies per step: %d from here on", self.size, self.size // 2)
        self.size //= 2


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error).lower() for words in _WORDS)
