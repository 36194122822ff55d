"""Make the dropout scatter an error: 68 % of synthetic discs within one calibrated sigma.

Monte-Carlo dropout knows only the model's own uncertainty, a lower limit (Dawson+2021 section 2.7 and their 35 % instead of 68 %).
Here err^2 = (scale * scatter)^2 + floor^2, fitted by maximum likelihood to a held-out synthetic stream in bins of the inferred
inclination (inclination, scale length) or turnover radius (turnover radius, velocity), and then scaled so that 68.27 % of the bin
lie within one sigma. Inclination in degrees; lengths and velocity in ln.
The errors are right for synthetic discs with beam, noise, gaps and clumps; how real galaxies differ from such discs is not in them.
"""

import math
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.stats import kendalltau

from tullyflow.network.autoencoder import DiscAutoencoder
from tullyflow.network.synthetic import draw_discs

__all__ = ["Calibration", "calibrate", "identity", "scatter_of_samples"]

ONE_SIGMA = 0.6827
_EDGES_I = (30.0, 45.0, 60.0, 75.0)  # deg, between the bins of inferred inclination
_EDGES_TURN = (0.03, 0.08, 0.2, 0.5)  # of the half-width, between the bins of inferred turnover radius
_CHUNK = 100
_FEWEST = 50  # discs in a bin; with fewer the bin takes the whole sample's figures


@dataclass(frozen=True)
class Calibration:
    """``scale`` and ``floor`` per bin and parameter (bin, 4), ``correlation`` of the errors of r_turn and V per bin of r_turn (bin,).

    ``edges_deg`` bin inclination and scale length, ``edges_turn`` (of the half-width) turnover radius and velocity. Coverage (4,) of
    1 sigma before and after, on discs the fit did not see.
    """

    edges_deg: tuple[float, ...]
    edges_turn: tuple[float, ...]
    scale: tuple[tuple[float, ...], ...]
    floor: tuple[tuple[float, ...], ...]
    correlation: tuple[float, ...]
    coverage_before: tuple[float, ...]
    coverage_after: tuple[float, ...]
    discs: int

    def errors(self, mean: np.ndarray, scatter: np.ndarray) -> np.ndarray:
        """Return calibrated sigmas (galaxy, 4) of means and dropout scatters (galaxy, 4): deg, then ln. NaN stays NaN."""
        at = _bins(mean, self.edges_deg, self.edges_turn)
        columns = np.arange(4)
        return np.hypot(np.asarray(self.scale)[at, columns] * scatter, np.asarray(self.floor)[at, columns])

    def correlations(self, mean: np.ndarray) -> np.ndarray:
        """Return the correlation of the errors of ln r_turn and ln V, (galaxy,), for means (galaxy, 4): deg, then ln."""
        return np.asarray(self.correlation)[_bins(mean, self.edges_deg, self.edges_turn)[:, 2]]

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict) -> "Calibration":
        figures = {k: tuple(tuple(v) if isinstance(v, list) else v for v in data[k]) for k in data if k != "discs"}
        return cls(**figures, discs=int(data["discs"]))


def _bins(mean: np.ndarray, edges_deg: tuple[float, ...], edges_turn: tuple[float, ...]) -> np.ndarray:
    """Return the bin of each parameter (galaxy, 4) of means (galaxy, 4): deg, then ln."""
    by_inclination = np.searchsorted(edges_deg, mean[:, 0])
    by_turn = np.searchsorted(np.log(edges_turn), mean[:, 2])
    return np.stack([by_inclination, by_inclination, by_turn, by_turn], axis=1)


def identity() -> Calibration:
    """Return the calibration that leaves the dropout scatter as it is."""
    nan = (math.nan,) * 4
    return Calibration((), (), ((1.0,) * 4,), ((0.0,) * 4,), (0.0,), nan, nan, 0)


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
    inside = np.abs(residual) < 5 * width * (1 + scatter / typical)  # a few lost discs must not set the width of all

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
    bins = _bins(mean, _EDGES_I, _EDGES_TURN)
    count = len(_EDGES_I) + 1
    figures, correlation = np.empty((count, 4, 2)), np.empty(count)
    for k in range(count):
        for p in range(4):
            chosen = fitting & (bins[:, p] == k)
            chosen = chosen if chosen.sum() >= _FEWEST else fitting
            figures[k, p] = _fit(residual[chosen, p], scatter[chosen, p])
        turn, velocity = residual[chosen, 2:].T  # of the last parameter's bin, which is r_turn's too
        correlation[k] = np.sin(np.pi / 2 * kendalltau(turn, velocity).statistic)  # robust, exact for normal errors
    scale, floor = (tuple(tuple(float(v) for v in row) for row in figures[..., j]) for j in (0, 1))
    correlated = tuple(float(v) for v in np.nan_to_num(correlation))
    fitted = Calibration(_EDGES_I, _EDGES_TURN, scale, floor, correlated, (), (), discs)

    def covered(errors: np.ndarray) -> tuple[float, ...]:
        return tuple(float(v) for v in np.mean(np.abs(residual[~fitting]) <= errors[~fitting], axis=0))

    return replace(fitted, coverage_before=covered(scatter), coverage_after=covered(fitted.errors(mean, scatter)))
