"""Make the dropout scatter an error: 68 % of synthetic discs within one calibrated sigma.

Monte-Carlo dropout knows only the model's own uncertainty, a lower limit (Dawson+2021 section 2.7 and their 35 % instead of 68 %).
Here err^2 = (scale * scatter)^2 + floor^2, fitted by maximum likelihood to a held-out synthetic stream in bins of the inferred
inclination, and then scaled so that 68.27 % of the bin lie within one sigma. Inclination in degrees; lengths and velocity in ln.
The errors are right for synthetic discs with beam, noise, gaps and clumps; how real galaxies differ from such discs is not in them.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from scipy.optimize import minimize

from tullyflow.network.autoencoder import DiscAutoencoder
from tullyflow.network.synthetic import draw_discs

__all__ = ["Calibration", "calibrate", "identity", "scatter_of_samples"]

ONE_SIGMA = 0.6827
_EDGES = (30.0, 45.0, 60.0, 75.0)  # deg, between the bins of inferred inclination
_CHUNK = 100
_FEWEST = 50  # discs in a bin; with fewer the bin takes the whole sample's figures


@dataclass(frozen=True)
class Calibration:
    """``scale`` and ``floor`` per inclination bin and parameter (bin, 4); coverage (4,) of 1 sigma before and after, on other discs."""

    edges_deg: tuple[float, ...]
    scale: tuple[tuple[float, ...], ...]
    floor: tuple[tuple[float, ...], ...]
    coverage_before: tuple[float, ...]
    coverage_after: tuple[float, ...]
    discs: int

    def errors(self, inclination_deg: np.ndarray, scatter: np.ndarray) -> np.ndarray:
        """Return calibrated sigmas (galaxy, 4) of dropout scatters (galaxy, 4): deg, then ln. NaN stays NaN."""
        at = np.searchsorted(self.edges_deg, inclination_deg)
        return np.hypot(np.asarray(self.scale)[at] * scatter, np.asarray(self.floor)[at])

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict) -> "Calibration":
        tuples = {k: tuple(tuple(v) if isinstance(v, list) else v for v in data[k]) for k in ("edges_deg", "scale", "floor")}
        covered = {k: tuple(data[k]) for k in ("coverage_before", "coverage_after")}
        return cls(**tuples, **covered, discs=int(data["discs"]))


def identity() -> Calibration:
    """Return the calibration that leaves the dropout scatter as it is."""
    nan = (math.nan,) * 4
    return Calibration((), ((1.0,) * 4,), ((0.0,) * 4,), nan, nan, 0)


def scatter_of_samples(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and scatter (galaxy, 4) of samples (sample, galaxy, 4): deg, then ln of the positive parameters.

    The mean is the ln of the arithmetic mean (Dawson+2021 eq. 6), the scatter the standard deviation.
    """
    logs = np.concatenate([samples[..., :1], np.log(samples[..., 1:])], axis=-1)
    mean = samples.mean(axis=0)
    return np.concatenate([mean[:, :1], np.log(mean[:, 1:])], axis=1), logs.std(axis=0, ddof=1)


def _fit(residual: np.ndarray, scatter: np.ndarray) -> tuple[float, float]:
    """Return scale and floor: maximum likelihood of normal residuals, then 68.27 % within one sigma."""
    width = max(float(np.quantile(np.abs(residual), ONE_SIGMA)), 1e-9)
    typical = max(float(np.median(scatter)), 1e-9)
    inside = np.abs(residual) < 5 * width  # a few lost discs must not set the width of all

    def unlikelihood(logs: np.ndarray) -> float:
        variance = np.square(np.exp(logs[0]) * scatter[inside]) + np.exp(2 * logs[1])
        return float(np.sum(np.log(variance) + np.square(residual[inside]) / variance))

    start = np.log([0.7 * width / typical, 0.5 * width])
    fit = minimize(unlikelihood, start, method="L-BFGS-B", bounds=[(x - 8, x + 3) for x in start])
    scale, floor = np.exp(fit.x)
    stretch = np.quantile(np.abs(residual) / np.hypot(scale * scatter, floor), ONE_SIGMA)
    return float(scale * stretch), float(floor * stretch)


def _infer_synthetic(
    model: DiscAutoencoder, discs: int, samples: int, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truth, mean and scatter, each (disc, 4): deg, then ln."""
    truths, means, scatters = [], [], []
    for start in range(0, discs, _CHUNK):
        drawn = draw_discs(min(_CHUNK, discs - start), model, generator)
        sampled = model.sample(drawn.stamps, samples, generator).stack().double().cpu().numpy()
        mean, scatter = scatter_of_samples(sampled)
        truth = drawn.parameters.stack().double().cpu().numpy()
        truths.append(np.concatenate([truth[:, :1], np.log(truth[:, 1:])], axis=1))
        means.append(mean)
        scatters.append(scatter)
    return np.concatenate(truths), np.concatenate(means), np.concatenate(scatters)


def calibrate(model: DiscAutoencoder, generator: torch.Generator, discs: int = 2000, samples: int = 50) -> Calibration:
    """Fit the errors of a trained model on new synthetic discs; half fit, half measure the coverage stored beside.

    ``generator`` (cpu) must not be the one the model was trained from. The model's mode is left as it was.
    """
    truth, mean, scatter = _infer_synthetic(model, discs, samples, generator)
    residual = truth - mean
    fitting = np.arange(len(truth)) % 2 == 0
    bins = np.searchsorted(_EDGES, mean[:, 0])
    figures = np.empty((len(_EDGES) + 1, 4, 2))
    for k in range(len(_EDGES) + 1):
        chosen = fitting & (bins == k) if np.sum(fitting & (bins == k)) >= _FEWEST else fitting
        for p in range(4):
            figures[k, p] = _fit(residual[chosen, p], scatter[chosen, p])
    scale, floor = (tuple(tuple(float(v) for v in row) for row in figures[..., j]) for j in (0, 1))
    fitted = Calibration(_EDGES, scale, floor, (), (), discs)

    def covered(errors: np.ndarray) -> tuple[float, ...]:
        return tuple(float(v) for v in np.mean(np.abs(residual[~fitting]) <= errors[~fitting], axis=0))

    return Calibration(_EDGES, scale, floor, covered(scatter), covered(fitted.errors(mean[:, 0], scatter)), discs)
