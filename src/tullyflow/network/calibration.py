"""Make the dropout scatter an error: 68 % of synthetic discs within one calibrated sigma, and their median where the truth is.

Monte-Carlo dropout knows only the model's own uncertainty, a lower limit (Dawson+2021 section 2.7 and their 35 % instead of 68 %).
Here the median offset (found - true) is taken off where it is significant, and err^2 = (scale * scatter)^2 + floor^2, fitted by
maximum likelihood to a held-out stream of discs in bins of the inferred inclination (inclination, scale length) or turnover radius
(turnover radius, velocity), and then scaled so that 68.27 % of the bin lie within one sigma. Inclination in degrees; lengths and
velocity in ln. Discs of every kind show larger errors than discs like a survey's own, so a survey is calibrated on the latter.
The errors are right for synthetic discs with beam, noise, gaps and clumps; how real galaxies differ from such discs is not in them.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
import torch

from tullyflow.network.autoencoder import DiscAutoencoder, Sampled
from tullyflow.network.synthetic import SyntheticDiscs

__all__ = ["Calibration", "calibrate", "deg_and_logs", "identity", "mean_and_scatter", "scatter_of_samples"]

ONE_SIGMA = 0.6827
_EDGES_I = (30.0, 45.0, 60.0, 75.0)  # deg, between the bins of inferred inclination
_EDGES_TURN = (0.03, 0.08, 0.2, 0.5)  # of the half-width, between the bins of inferred turnover radius
_FEWEST = 60  # discs in a bin; with fewer it is joined to its neighbour
_SIGNIFICANT = 2.0  # standard errors of a median: smaller offsets are left
_MEDIAN_ERR = math.sqrt(math.pi / 2)  # standard error of a median over that of a mean, normal errors


@dataclass(frozen=True)
class Calibration:
    """``scale``, ``floor`` and ``offset`` per bin and parameter (bin, 4), ``correlation`` of the errors of r_turn and V per bin (bin,).

    ``edges_deg`` bin inclination and scale length, ``edges_turn`` (of the half-width) turnover radius and velocity. ``source`` says
    which discs it was made on; ``fitted`` (bin, 4) how many of them: bins of a survey that has none keep the figures of the synthetic
    stream. Of ``discs`` the fit saw half; coverage (4,) of 1 sigma is that of the other half, with the errors before and after.
    """

    edges_deg: tuple[float, ...]
    edges_turn: tuple[float, ...]
    scale: tuple[tuple[float, ...], ...]
    floor: tuple[tuple[float, ...], ...]
    offset: tuple[tuple[float, ...], ...]
    correlation: tuple[float, ...]
    fitted: tuple[tuple[int, ...], ...]
    coverage_before: tuple[float, ...]
    coverage_after: tuple[float, ...]
    discs: int
    source: Literal["none", "synthetic", "survey"]

    def offsets(self, mean: np.ndarray) -> np.ndarray:
        """Return what to take off the means (galaxy, 4): deg, then ln."""
        return np.asarray(self.offset)[_bins(mean, self.edges_deg, self.edges_turn), np.arange(4)]

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
        figures = {k: tuple(tuple(v) if isinstance(v, list) else v for v in data[k]) for k in data if isinstance(data[k], (list, tuple))}
        return cls(**figures, discs=int(data["discs"]), source=data["source"])


def _bins(mean: np.ndarray, edges_deg: tuple[float, ...], edges_turn: tuple[float, ...]) -> np.ndarray:
    """Return the bin of each parameter (galaxy, 4) of means (galaxy, 4): deg, then ln."""
    by_inclination = np.searchsorted(edges_deg, mean[:, 0])
    by_turn = np.searchsorted(np.log(edges_turn), mean[:, 2])
    return np.stack([by_inclination, by_inclination, by_turn, by_turn], axis=1)


def identity() -> Calibration:
    """Return the calibration that leaves the dropout scatter as it is."""
    nan = (math.nan,) * 4
    return Calibration((), (), ((1.0,) * 4,), ((0.0,) * 4,), ((0.0,) * 4,), (0.0,), ((0,) * 4,), nan, nan, 0, "none")


def deg_and_logs(parameters: np.ndarray) -> np.ndarray:
    """Return parameters (..., 4) as their errors are stated: deg, then ln of the positive ones."""
    return np.concatenate([parameters[..., :1], np.log(parameters[..., 1:])], axis=-1)


def scatter_of_samples(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and scatter (galaxy, 4) of samples (sample, galaxy, 4): deg, then ln of the positive parameters.

    The mean is the ln of the arithmetic mean (Dawson+2021 eq. 6), the scatter the standard deviation.
    """
    return deg_and_logs(samples.mean(axis=0)), deg_and_logs(samples).std(axis=0, ddof=1)


def mean_and_scatter(sampled: Sampled) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of dropout samples and the scatter that a `Calibration` scales, both (galaxy, 4): deg, then ln.

    The scatter is that of the samples, with the sigma the network states in quadrature.
    """
    mean, scatter = scatter_of_samples(sampled.parameters.stack().double().cpu().numpy())
    return mean, np.hypot(scatter, sampled.spread.double().cpu().numpy())


def _fit(residual: np.ndarray, scatter: np.ndarray) -> tuple[float, float]:
    """Return scale and floor: maximum likelihood of normal residuals, then 68.27 % within one sigma."""
    from scipy.optimize import minimize  # slow to load, and inference does without

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


def _infer(
    model: DiscAutoencoder, discs: Iterable[SyntheticDiscs], samples: int, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truth, mean and scatter, each (disc, 4): deg, then ln."""
    truths, means, scatters = [], [], []
    for drawn in discs:
        sampled = model.sample(drawn.stamps, samples, generator)
        mean, scatter = mean_and_scatter(sampled)
        truth = drawn.parameters.stack().double().cpu().numpy()
        truths.append(deg_and_logs(truth))
        means.append(mean)
        scatters.append(scatter)
    return np.concatenate(truths), np.concatenate(means), np.concatenate(scatters)


def _join(counts: np.ndarray, keep_empty: bool) -> list[list[int]]:
    """Return groups of neighbouring bins with at least `_FEWEST` discs, as far as there are so many.

    Empty bins are left out, or with ``keep_empty`` joined to a neighbour too. A bin joins the smaller of its neighbours.
    """
    groups = [[k] for k, n in enumerate(counts) if n or keep_empty]
    while len(groups) > 1:
        sizes = [counts[g].sum() for g in groups]
        small = int(np.argmin(sizes))
        if sizes[small] >= _FEWEST:
            break
        other = min((k for k in (small - 1, small + 1) if 0 <= k < len(groups)), key=lambda k: sizes[k])
        first = min(small, other)
        groups[first : first + 2] = [groups[first] + groups[first + 1]]
    return groups


def _offset(difference: np.ndarray) -> float:
    """Return the median of found - true where it is more than two of its standard errors, else 0."""
    median = float(np.median(difference))
    error = _MEDIAN_ERR * float(np.quantile(np.abs(difference - median), ONE_SIGMA)) / math.sqrt(len(difference))
    return median if abs(median) > _SIGNIFICANT * error else 0.0


def calibrate(
    model: DiscAutoencoder,
    discs: Iterable[SyntheticDiscs],
    generator: torch.Generator,
    source: Literal["synthetic", "survey"] = "synthetic",
    before: Calibration | None = None,
    samples: int = 50,
) -> Calibration:
    """Fit offsets and errors of a trained model on batches of ``discs``; half fit, half measure the coverage stored beside.

    ``generator`` drops out and must not be the one the model was trained from. ``before`` is what coverage is compared with
    (default: the dropout scatter as it is); where it has the same bins, those without discs keep its figures. The model's mode is
    left as it was.
    """
    from scipy.stats import kendalltau  # likewise

    before = before or identity()
    truth, mean, scatter = _infer(model, discs, samples, generator)
    fitting = np.arange(len(truth)) % 2 == 0
    bins = _bins(mean, _EDGES_I, _EDGES_TURN)
    count = len(_EDGES_I) + 1
    kept = before.edges_deg == _EDGES_I and before.edges_turn == _EDGES_TURN
    figures, correlation, fitted = np.zeros((count, 4, 3)), np.zeros(count), np.zeros((count, 4), dtype=int)
    if kept:
        figures, correlation = np.stack([before.scale, before.floor, before.offset], axis=-1), np.array(before.correlation)
    for p in range(4):
        fitted[:, p] = np.bincount(bins[fitting, p], minlength=count)
        for group in _join(fitted[:, p], keep_empty=not kept):
            chosen = fitting & np.isin(bins[:, p], group)
            offset = _offset((mean - truth)[chosen, p])
            figures[group, p] = *_fit((truth - mean)[chosen, p] + offset, scatter[chosen, p]), offset
            if p == 3:
                tau = kendalltau(*(truth - mean)[chosen, 2:].T).statistic  # robust, exact for normal errors
                correlation[group] = np.nan_to_num(np.sin(np.pi / 2 * tau))
    scale, floor, offset = (tuple(tuple(float(v) for v in row) for row in figures[..., j]) for j in range(3))
    correlated, numbers = tuple(float(v) for v in correlation), tuple(tuple(int(v) for v in row) for row in fitted)
    after = Calibration(_EDGES_I, _EDGES_TURN, scale, floor, offset, correlated, numbers, (), (), len(truth), source)

    def covered(calibration: Calibration) -> tuple[float, ...]:
        error = np.abs(mean - calibration.offsets(mean) - truth) <= calibration.errors(mean, scatter)
        return tuple(float(v) for v in np.mean(error[~fitting], axis=0))

    return replace(after, coverage_before=covered(before), coverage_after=covered(after))
