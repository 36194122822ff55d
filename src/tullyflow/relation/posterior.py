"""Draws from the posterior of a marginalised normal regression.

Its five parameters of line and x are close to a bell curve, and so are the three of the outliers where there are some; where
there are none, any place and width will do for them as long as their share is small. Draws from these two shapes, weighted by
the posterior over what they were drawn from, are as exact as a Markov chain's and independent of each other: 2,000 to 5,000
do where a chain takes 16,000. Where the weights say that the shapes do not fit, `emcee` walks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import emcee
import numpy as np
from scipy.special import gammaln

__all__ = ["Draws", "Start", "sample_posterior", "walk"]

CORE = 5  # parameters of the line and of the distribution of x; those of the outliers follow
WANTED = 1000  # effective draws: standard deviations to 2 %
BATCH = 1000
MOST = 12_000
WALKERS = 32
BURN_IN = 150
STEPS = 350
_STEP = 0.3  # of the finite differences, in rough sigmas
_LEAST_PART = 0.02  # of the draws, for each shape
_BELL = 4.0  # degrees of freedom of the multivariate t: its tails are wider than the posterior's
_TAILS = 2.0  # those of the share and offset of the outliers where there are few


@dataclass(frozen=True)
class Start:
    """Where the search begins, what one sigma roughly is, and the limits; all (parameter,). ``n`` points."""

    theta: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: int

    def inside(self, theta: np.ndarray) -> np.ndarray:
        return np.all((theta >= self.low) & (theta <= self.high), axis=1)


@dataclass(frozen=True)
class Draws:
    """Draws (draw, parameter), their weights (draw,), and how many equally weighted ones they are worth (NaN: a chain)."""

    theta: np.ndarray
    weight: np.ndarray
    effective: float

    def covariance(self) -> np.ndarray:
        return np.cov(self.theta, rowvar=False, aweights=self.weight)


def sample_posterior(log_likelihood: Callable, best: np.ndarray, start: Start, rng: np.random.Generator) -> Draws:
    """Draw from a posterior with priors flat within the limits.

    ``log_likelihood`` takes (trial, parameter) and returns (trial,); ``best`` is where it is largest.

    Source: adaptive importance sampling, Cappe+2008 (Stat. Comput. 18, 447), all rounds weighted as one mixture.
    """
    core = _bell(log_likelihood, best, start, CORE)
    if core is None:
        return walk(log_likelihood, best, start, rng)
    shapes: list = [core]
    if best.size > CORE:
        whole = _bell(log_likelihood, best, start, best.size)
        faint = [_FewOutliers(core, start, 2 / start.n, None), _FewOutliers(core, start, 5 / start.n, np.exp(start.low[CORE + 1]))]
        shapes = [*faint, *([] if whole is None else [whole])]
    rounds = [_Mixture(shapes, np.full(len(shapes), 1 / len(shapes)))]
    draws, value = np.empty((0, best.size)), np.empty(0)
    while draws.shape[0] < MOST:
        new = rounds[-1].draw(BATCH, rng)
        found = np.full(BATCH, -np.inf)
        inside = start.inside(new)
        found[inside] = log_likelihood(new[inside])
        draws, value = np.concatenate([draws, new]), np.append(value, found)
        log_weight = value - np.logaddexp.reduce([mixture.log_density(draws) for mixture in rounds])
        weight = np.exp(log_weight - log_weight.max())
        effective = float(weight.sum() ** 2 / np.sum(weight**2))
        if effective >= WANTED:
            return Draws(draws, weight, effective)
        rounds.append(rounds[-1].adapted(draws, weight / weight.sum(), effective))
    return walk(log_likelihood, best, start, rng)


class _Mixture:
    """Several shapes, each with its share of the draws."""

    def __init__(self, shapes: list, shares: np.ndarray):
        self.shapes, self.shares = shapes, shares

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return np.concatenate([shape.draw(k, rng) for shape, k in zip(self.shapes, rng.multinomial(n, self.shares), strict=True)])

    def log_density(self, theta: np.ndarray) -> np.ndarray:
        return np.logaddexp.reduce(self._parts(theta))

    def _parts(self, theta: np.ndarray) -> np.ndarray:
        return np.array([np.log(share) + shape.log_density(theta) for shape, share in zip(self.shapes, self.shares, strict=True)])

    def adapted(self, theta: np.ndarray, weight: np.ndarray, effective: float) -> "_Mixture":
        """The mixture nearer to the weighted draws: one step of expectation and maximisation."""
        parts = self._parts(theta)
        members = weight * np.exp(parts - np.logaddexp.reduce(parts))
        shares = np.maximum(members.sum(axis=1), _LEAST_PART)
        shapes = [shape.adapted(theta, part, effective) for shape, part in zip(self.shapes, members, strict=True)]
        return _Mixture(shapes, shares / shares.sum())


class _Bell:
    """A multivariate t about ``mean`` (parameter,)."""

    def __init__(self, mean: np.ndarray, covariance: np.ndarray):
        self.mean, self.root = mean, np.linalg.cholesky(covariance)
        k = mean.size
        self.norm = gammaln((_BELL + k) / 2) - gammaln(_BELL / 2) - k / 2 * np.log(_BELL * np.pi) - np.log(np.diag(self.root)).sum()

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        z = rng.standard_normal((n, self.mean.size)) / np.sqrt(rng.chisquare(_BELL, n) / _BELL)[:, None]
        return self.mean + z @ self.root.T

    def adapted(self, theta: np.ndarray, weight: np.ndarray, effective: float) -> "_Bell":
        if effective * weight.sum() < 10 * self.mean.size:
            return self
        mean = np.average(theta, axis=0, weights=weight)
        return _Bell(mean, np.cov(theta, rowvar=False, aweights=weight) * (_BELL - 2) / _BELL)

    def log_density(self, theta: np.ndarray) -> np.ndarray:
        q = np.sum(np.linalg.solve(self.root, (theta - self.mean).T) ** 2, axis=0)
        return self.norm - (_BELL + self.mean.size) / 2 * np.log1p(q / _BELL)


class _FewOutliers:
    """The bell of line and x, with outliers of a share of about ``share``, any width, and any offset, or one of about ``offset``."""

    def __init__(self, core: _Bell, start: Start, share: float, offset: float | None):
        self.core, self.share, self.offset = core, share, offset
        self.low, self.high = start.low[CORE + 1 :], start.high[CORE + 1 :]

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        core, share, rest = self.core.draw(n, rng), np.abs(self.share * rng.standard_t(_TAILS, n)), rng.uniform(self.low, self.high, (n, 2))
        if self.offset is not None:
            rest[:, 1] = self.offset * rng.standard_t(_TAILS, n)
        return np.column_stack([core, share, rest])

    def adapted(self, theta: np.ndarray, weight: np.ndarray, effective: float) -> "_FewOutliers":
        return self

    def log_density(self, theta: np.ndarray) -> np.ndarray:
        share, width, offset = theta[:, CORE:].T
        inside = (share >= 0) & (width >= self.low[0]) & (width <= self.high[0])
        density = self.core.log_density(theta[:, :CORE]) + np.log(2) + _log_t(share, self.share) - np.log(self.high[0] - self.low[0])
        if self.offset is None:
            inside &= (offset >= self.low[1]) & (offset <= self.high[1])
            density -= np.log(self.high[1] - self.low[1])
        else:
            density += _log_t(offset, self.offset)
        return np.where(inside, density, -np.inf)


def _log_t(value: np.ndarray, scale: float) -> np.ndarray:
    norm = gammaln((_TAILS + 1) / 2) - gammaln(_TAILS / 2) - 0.5 * np.log(_TAILS * np.pi) - np.log(scale)
    return norm - (_TAILS + 1) / 2 * np.log1p((value / scale) ** 2 / _TAILS)


def _bell(log_likelihood: Callable, best: np.ndarray, start: Start, k: int) -> _Bell | None:
    """The bell curve of the first ``k`` parameters about the maximum, from the curvature there; None where it curves upwards."""
    step = _STEP * start.scale
    centre = np.clip(best, start.low + step, start.high - step)  # the differences stay within the limits
    unit = np.diag(step)[:k]
    i, j = np.tril_indices(k, -1)
    signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    trials = [centre[None], centre + unit, centre - unit, *(centre + a * unit[i] + b * unit[j] for a, b in signs)]
    values = np.split(log_likelihood(np.concatenate(trials)), np.cumsum([trial.shape[0] for trial in trials])[:-1])
    curvature = np.diag(values[1] + values[2] - 2 * values[0])
    curvature[i, j] = curvature[j, i] = (values[3] - values[4] - values[5] + values[6]) / 4
    try:
        return _Bell(best[:k], np.linalg.inv(-curvature) * np.outer(step[:k], step[:k]))
    except np.linalg.LinAlgError:
        return None


def walk(log_likelihood: Callable, best: np.ndarray, start: Start, rng: np.random.Generator, steps: int = STEPS) -> Draws:
    """Draw by emcee's walkers from around the maximum; priors as in `sample_posterior`."""

    def log_probability(theta):
        inside = start.inside(theta)
        result = np.full(theta.shape[0], -np.inf)
        if inside.any():
            result[inside] = log_likelihood(theta[inside])
        return result

    first = best + start.scale * rng.standard_normal((WALKERS, best.size))
    over, under = first > start.high, first < start.low
    first = np.where(over, 2 * start.high - first, np.where(under, 2 * start.low - first, first))  # reflect at the limits
    first = np.clip(first, start.low, start.high)
    sampler = emcee.EnsembleSampler(WALKERS, best.size, log_probability, vectorize=True)
    sampler.random_state = np.random.RandomState(int(rng.integers(2**32))).get_state()
    sampler.run_mcmc(first, BURN_IN + steps)
    chain = sampler.get_chain(discard=BURN_IN, flat=True)
    return Draws(chain, np.ones(chain.shape[0]), float("nan"))
