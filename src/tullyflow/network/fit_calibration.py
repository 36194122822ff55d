"""Make the errors of the fit mean what they say: 68 % of discs that are *not* the model within one sigma, 95 % within two.

The fit's covariance comes from its residuals (`disc.sandwich`); what no residual shows is in none of it: a bar that makes a disc look
rounder, a bulge taken for a short scale length, a curve that is no arctan. `network.mismatch` draws discs with all of that, over the
ranges of the network or like a survey's galaxies with their beams, masks and errors. The error of each parameter is then multiplied by a
``factor``, such that 68.27 % of the discs lie within one sigma, and ``tail`` says where 95.45 % lie: within 2 tail sigma. Both are taken
in bins of the error itself, that is of S/N, as many as the discs allow, and interpolated between (conformal prediction, in the manner of
Mondrian: Vovk+2005); beyond the bins they stay what they are at the end.

Calibrated are inclination (deg), ln r_scale, ln r_turn, ln V_2.2 sin i, axis (deg), centre (pixels), v_sys (km/s). V_2.2, not the
asymptote: r_turn and V_max of a curve that has not turned over are uncertain together, and one factor for each would break what is
known of both.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

import numpy as np

from tullyflow.conventions import HALF_WIDTH, UNRESOLVED_BEAMS
from tullyflow.network.autoencoder import DiscAutoencoder
from tullyflow.network.batch import median_of_valid
from tullyflow.network.fitted import CALIBRATED, Fitted, calibrated_coordinates, v_22_matrix
from tullyflow.network.mismatch import MismatchedDiscs
from tullyflow.network.refinement import Refined, refine_discs

__all__ = ["FitCalibration", "calibrate_fit", "unchanged"]

_ONE_SIGMA, _TWO_SIGMA = 0.6827, 0.9545
_IN_A_BIN, _BINS = 60, 6  # discs at least; bins at most
_FEWEST = 30  # discs: with fewer a parameter keeps the factors it had
_FACTORS, _TAILS = (0.2, 10.0), (1.0, 3.0)  # smallest and largest: a few lost discs must not widen all intervals
_MARGIN = 1.5  # of the ranges of the discs


@dataclass(frozen=True)
class FitCalibration:
    """``factor`` and ``tail`` of each of `CALIBRATED` (8, bin) at errors ``sigma`` (8, bin), in its unit; one bin where little is known.

    ``coverage`` has, before and after, the shares within one and two sigma (2, 2, 8) of the half of the discs that the calibration did
    not see (None: held in all), and ``width`` (2, 8) their median sigma. ``beam`` (stamp pixels) and ``velocity_err`` (km/s, median of
    a galaxy's pixels) are the ranges of the discs: galaxies outside are extrapolations. ``source``: "none", "synthetic" or "survey".
    """

    sigma: tuple
    factor: tuple
    tail: tuple
    coverage: tuple
    width: tuple
    beam: tuple
    velocity_err: tuple
    discs: int
    source: str

    def factors(self, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return factor and tail (galaxy, 8) at errors (galaxy, 8); 1 where there is no error."""
        found = np.ones((2, *sigma.shape))
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(sigma)
        for p, (at, factor, tail) in enumerate(zip(self.sigma, self.factor, self.tail, strict=True)):
            known = np.isfinite(logs[:, p])
            for k, (figures, turn, back) in enumerate(((factor, np.log, np.exp), (tail, np.asarray, np.asarray))):
                found[k, known, p] = back(np.interp(logs[known, p], np.log(at), turn(figures)))
        return found[0], found[1]

    def apply(self, refined: Refined) -> Fitted:
        """Return what was found with calibrated errors."""
        raw = _covariance(refined)
        factor, tail = self.factors(np.sqrt(np.einsum("gii->gi", raw)))
        return Fitted.of(refined, raw * factor[:, :, None] * factor[:, None, :], tail)

    def covers(self, beam: np.ndarray, velocity_err: np.ndarray) -> np.ndarray:
        """Return whether galaxies (galaxy,) lie within the ranges of the survey's discs; others have the network's stream's ranges."""
        if self.source != "survey":
            return np.ones(len(beam), bool)
        low, high = np.transpose([self.beam, self.velocity_err])
        values = np.column_stack([beam, velocity_err])
        return ((values >= low / _MARGIN) & (values <= high * _MARGIN)).all(axis=1)

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict) -> "FitCalibration":
        figures = {k: data[k] for k in cls.__dataclass_fields__}
        rows = list(zip(figures["sigma"], figures["factor"], figures["tail"], strict=True))
        if len(rows) != len(CALIBRATED):
            raise ValueError(f"errors of the fit for {len(rows)} parameters, not {len(CALIBRATED)}")
        for row in rows:
            numbers = np.asarray(row, float)
            if numbers.ndim != 2 or not numbers.size or not (numbers > 0).all() or (np.diff(numbers[0]) < 0).any():
                raise ValueError("errors of the fit are not rows of positive numbers, rising in sigma")
        return cls(**figures)


def unchanged() -> FitCalibration:
    """Return the calibration that leaves the fit's covariance as it is."""
    ones = ((1.0,),) * len(CALIBRATED)
    return FitCalibration(ones, ones, ones, (), (), (), (), 0, "none")


def _covariance(refined: Refined) -> np.ndarray:
    """Return the fit's own covariance (galaxy, 8, 8) of `CALIBRATED`."""
    turned = v_22_matrix(refined.parameters)
    return turned @ refined.covariance @ turned.transpose(0, 2, 1)


def _bins(off: np.ndarray, sigma: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """Return sigma, factor and tail (bin,) of |found - true| ``off`` (disc,) and errors ``sigma`` (disc,)."""
    order = np.argsort(sigma)
    found = []
    for some in np.array_split(order, min(max(1, len(order) // _IN_A_BIN), _BINS)):
        pull = off[some] / sigma[some]
        factor = float(np.clip(np.quantile(pull, _ONE_SIGMA), *_FACTORS))
        tail = float(np.clip(np.quantile(pull, _TWO_SIGMA) / (2 * factor), *_TAILS))
        found.append((float(np.median(sigma[some])), factor, tail if len(some) >= _IN_A_BIN // 2 else 1.0))
    return tuple(zip(*found, strict=True))


def _off(refined: Refined, discs: MismatchedDiscs, asked: np.ndarray) -> np.ndarray:
    """Return found - true (galaxy, 8), as `CALIBRATED` counts; NaN where the fit does not stand and for what was held.

    NaN too for turnover radii found below half a beam, which no map knows and which are flagged, and for curves at an inclination that was
    not ``asked`` (galaxy,) to be held: what the network's error of it does to them is added where they are used.
    """
    true, v_22 = discs.parameters.stack().double().cpu().numpy(), discs.v_22_sini.double().cpu().numpy()
    off = calibrated_coordinates(refined.parameters) - np.column_stack([calibrated_coordinates(true)[:, :3], np.log(v_22)])
    off[refined.held, :2] = np.nan
    off[refined.parameters[:, 2] * HALF_WIDTH < UNRESOLVED_BEAMS * discs.stamps.beam.cpu().numpy(), 2] = np.nan
    off[refined.held & ~asked, 2:4] = np.nan
    return np.concatenate([off, refined.placing - discs.placing.double().cpu().numpy()], axis=1)


def calibrate_fit(
    model: DiscAutoencoder,
    discs: Iterable[tuple[MismatchedDiscs, np.ndarray]],
    source: str = "synthetic",
    before: FitCalibration | None = None,
    seed: int = 0,
) -> FitCalibration:
    """Calibrate on batches of (discs, held (galaxy,)); the coverage stored is that of a half not seen by factors of the other half.

    Parameters of fewer than 30 discs keep those of ``before``. Where inclination and scale length are held, they are held at the truth. The
    fit starts from the network's answer without dropout.
    """
    import torch

    offs, raws, beams, noises, count = [], [], [], [], 0
    for drawn, held in discs:
        with torch.no_grad():
            start = model.parameters_of(model.encode(drawn.stamps), drawn.stamps.norm).stack().double().cpu().numpy()
        start[held, :2] = drawn.parameters.stack().double().cpu().numpy()[held, :2]
        refined = refine_discs(drawn.stamps, start, held, model.network, model.device)
        beams.append(drawn.stamps.beam.cpu().numpy())
        noises.append(median_of_valid(drawn.stamps.velocity_err, drawn.stamps.valid).cpu().numpy())
        offs.append(np.abs(_off(refined, drawn, held))[refined.converged])
        raws.append(np.sqrt(np.einsum("gii->gi", _covariance(refined)))[refined.converged])
        count += len(drawn)
    off, raw = np.concatenate(offs), np.concatenate(raws)
    fitting, known = np.random.default_rng(seed).permutation(len(off)) % 2 == 0, np.isfinite(off) & (raw > 0)
    ranges = tuple((float(np.min(v)), float(np.max(v))) for v in (np.concatenate(beams), np.concatenate(noises)))
    kept = before or unchanged()

    def fitted_to(some: np.ndarray) -> FitCalibration:
        rows = [
            _bins(off[k, p], raw[k, p]) if k.sum() >= _FEWEST else (kept.sigma[p], kept.factor[p], kept.tail[p])
            for p, k in enumerate((known & some[:, None]).T)
        ]
        return FitCalibration(*(tuple(row[k] for row in rows) for k in range(3)), (), (), *ranges, count, source)

    factor, tail = fitted_to(fitting).factors(raw)

    def covered(limit: np.ndarray) -> tuple[float | None, ...]:
        counted = [(off[:, p] <= limit[:, p])[known[:, p] & ~fitting] for p in range(len(CALIBRATED))]
        return tuple(float(c.mean()) if c.size else None for c in counted)

    def typical(sigma: np.ndarray) -> tuple[float | None, ...]:
        kept = [sigma[known[:, p] & ~fitting, p] for p in range(len(CALIBRATED))]
        return tuple(float(np.median(s)) if s.size else None for s in kept)

    coverage = ((covered(raw), covered(2 * raw)), (covered(factor * raw), covered(2 * tail * factor * raw)))
    return replace(fitted_to(np.ones_like(fitting)), coverage=coverage, width=(typical(raw), typical(factor * raw)))
