"""The training step as one compiled program (torch.compile), for trainings long enough to pay for the minute or two it takes."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from tullyflow.disc.sight_lines import gauss_legendre
from tullyflow.errors import ModelError

__all__ = ["compiled"]

log = logging.getLogger("tullyflow")

_BACKEND = "inductor"


def compiled(loss_of: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return ``loss_of``, compiled anew for each shape of stamps it meets; weights keep their names.

    Raises `ModelError` at the first call where this machine cannot compile.
    """
    torch.compiler.assume_constant_result(gauss_legendre)  # here, not where it stands: it loads the compiler, a second of start-up
    fast = torch.compile(loss_of, dynamic=False, backend=_BACKEND)
    log.info("network: the training step is compiled: up to two minutes before the first")

    def run(*arguments) -> Tensor:
        try:
            return fast(*arguments)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            said = " ".join(str(error).split())[:200]
            raise ModelError(f"network.compile: this machine cannot compile the training step ({said}); set it to false.") from error

    return run
