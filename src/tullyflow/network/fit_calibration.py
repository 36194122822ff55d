"""Make the errors of the fit mean what they say: 68 % of discs that are *not* the model within one sigma, 95 % within two.

The fit's covariance comes from its residuals (`disc.sandwich`); what no residual shows is in none of it: a bar that makes a disc look
rounder, a bulge taken for a short scale length, a curve that is no arctan. `network.mismatch` draws discs with all of that, over the
ranges of the network or like a survey's galaxies with their beams, masks and errors. On them, in bins, the variances become
(scale * sigma)^2 + floor^2, with 68.27 % of each bin within one sigma, and ``tail`` says where 95.45 % lie: within 2 tail sigma.

Calibrated are inclination (deg), ln r_scale, ln r_turn, ln V_2.2 sin i, axis (deg), centre (pixels), v_sys (km/s). V_2.2, not the
asymptote: r_turn and V_max of a curve that has not turned over are uncertain together, and one factor for each would break what is
known of both.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from tullyflow.conventions import HALF_WIDTH
from tullyflow.network.autoencoder import DiscAutoencoder
from tullyflow.network.calibration import fit_scale_and_floor, join_bins
from tullyflow.network.fitted import CALIBRATED, Fitted, calibrated_coordinates, v_22_matrix
from tullyflow.network.mismatch import MismatchedDiscs
from tullyflow.network.refinement import Refined, refine_discs

__all__ = ["FitCalibration", "calibrate_fit", "unchanged"]

_EDGES_I = (30.0, 45.0, 60.0, 75.0)  # deg, of the inclination found
_EDGES_TURN = (0.25, 0.5, 1.0, 2.0)  # of the beam: r_turn found
_BY_TURN = (2, 3)
_TWO_SIGMA = 0.9545
_TAILS = (1.0, 3.0)  # smallest and largest: a few lost discs must not widen all intervals
_FEWEST_IN_TAIL = 60
_MARGIN = 1.5  # of the ranges of the discs


@dataclass(frozen=True)
class FitCalibration:
    """``scale``, ``floor`` and ``tail`` per bin and parameter (bin, 8), in the order of `CALIBRATED`.

    ``fitted`` (bin, 8) counts the discs behind them. ``coverage`` has, before and after, the shares within one and two sigma (2, 2, 8)
    of the half of the discs that the calibration did not see (None: held in all), and ``width`` (2, 8) their median sigma. ``beam``
    (stamp pixels) and ``velocity_err`` (km/s, median of a galaxy's pixels) are the ranges of the discs: galaxies outside are
    extrapolations. ``source``: "none", "synthetic" or "survey".
    """

    edges_deg: tuple
    edges_turn: tuple
    scale: tuple
    floor: tuple
    tail: tuple
    fitted: tuple
    coverage: tuple
    width: tuple
    beam: tuple
    velocity_err: tuple
    discs: int
    source: str

    def apply(self, refined: Refined, beam: np.ndarray) -> Fitted:
        """Return what was found with calibrated errors, for beams (galaxy,) in stamp pixels."""
        turned = v_22_matrix(refined.parameters)
        raw = turned @ refined.covariance @ turned.transpose(0, 2, 1)
        at, columns = _bins(refined, beam, self.edges_deg, self.edges_turn), np.arange(len(CALIBRATED))
        scale, floor, tail = (np.asarray(figures)[at, columns] for figures in (self.scale, self.floor, self.tail))
        covariance = raw * scale[:, :, None] * scale[:, None, :]
        covariance[:, columns, columns] += np.where(np.einsum("gii->gi", raw) > 0, floor, 0) ** 2
        return Fitted.of(refined, covariance, tail)

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
        shape = (len(figures["edges_deg"]) + 1, len(CALIBRATED))
        for name in ("scale", "floor", "tail"):
            if np.shape(figures[name]) != shape or not np.isfinite(np.asarray(figures[name], float)).all():
                raise ValueError(f"{name} of the fit's errors is not {shape[0]} x {shape[1]} numbers")
        return cls(**figures)


def unchanged() -> FitCalibration:
    """Return the calibration that leaves the fit's covariance as it is."""
    eight = len(CALIBRATED)
    return FitCalibration((), (), ((1.0,) * eight,), ((0.0,) * eight,), ((1.0,) * eight,), ((0,) * eight,), (), (), (), (), 0, "none")


def _bins(refined: Refined, beam: np.ndarray, edges_deg: tuple, edges_turn: tuple) -> np.ndarray:
    by_inclination = np.searchsorted(edges_deg, refined.parameters[:, 0])
    with np.errstate(divide="ignore"):
        by_turn = np.searchsorted(edges_turn, refined.parameters[:, 2] * HALF_WIDTH / beam)
    bins = np.repeat(by_inclination[:, None], len(CALIBRATED), axis=1)
    bins[:, _BY_TURN] = by_turn[:, None]
    return np.where(np.isfinite(refined.parameters[:, :1]), bins, 0)


def _off(refined: Refined, discs: MismatchedDiscs) -> np.ndarray:
    """Return found - true (galaxy, 8), as `CALIBRATED` counts; NaN where the fit does not stand and for what was held."""
    true, v_22 = discs.parameters.stack().double().cpu().numpy(), discs.v_22_sini.double().cpu().numpy()
    off = calibrated_coordinates(refined.parameters) - np.column_stack([calibrated_coordinates(true)[:, :3], np.log(v_22)])
    off[refined.held, :2] = np.nan
    return np.concatenate([off, refined.placing - discs.placing.double().cpu().numpy()], axis=1)


def calibrate_fit(
    model: DiscAutoencoder, discs: Iterable[tuple[MismatchedDiscs, np.ndarray]], source: str = "synthetic"
) -> FitCalibration:
    """Calibrate on batches of (discs, held (galaxy,)); half fit, half measure what is stored as coverage.

    Where inclination and scale length are held, they are held at the truth. The fit starts from the network's answer without dropout.
    """
    import torch

    offs, raws, bins, beams, noises, count = [], [], [], [], [], 0
    for drawn, held in discs:
        with torch.no_grad():
            start = model.parameters_of(model.encode(drawn.stamps), drawn.stamps.norm).stack().double().cpu().numpy()
        true = drawn.parameters.stack().double().cpu().numpy()
        start[held, :2] = true[held, :2]
        refined = refine_discs(drawn.stamps, start, held, model.network, model.device)
        good, beam, count = refined.converged, drawn.stamps.beam.cpu().numpy(), count + len(drawn)
        valid = drawn.stamps.valid
        median = torch.where(valid, drawn.stamps.velocity_err, torch.nan).flatten(1).nanmedian(dim=1).values
        beams.append(beam)
        noises.append(median.cpu().numpy())
        offs.append(_off(refined, drawn)[good])
        turned = v_22_matrix(refined.parameters[good])
        raws.append(np.sqrt(np.einsum("gij,gjk,gik->gi", turned, refined.covariance[good], turned)))
        bins.append(_bins(refined, beam, _EDGES_I, _EDGES_TURN)[good])
    off, raw, at = (np.concatenate(parts) for parts in (offs, raws, bins))
    fitting, number = np.arange(len(off)) % 2 == 0, len(_EDGES_I) + 1
    scale, floor, tail = np.ones((number, 8)), np.zeros((number, 8)), np.ones((number, 8))
    fitted = np.zeros((number, 8), dtype=int)
    for p in range(len(CALIBRATED)):
        known = fitting & np.isfinite(off[:, p]) & (raw[:, p] > 0)
        fitted[:, p] = np.bincount(at[known, p], minlength=number)
        if not known.any():
            continue
        for group in join_bins(fitted[:, p], keep_empty=True):
            chosen = known & np.isin(at[:, p], group)
            scale[group, p], floor[group, p] = fit_scale_and_floor(off[chosen, p], raw[chosen, p])
            if chosen.sum() >= _FEWEST_IN_TAIL:
                pull = np.abs(off[chosen, p]) / np.hypot(scale[group[0], p] * raw[chosen, p], floor[group[0], p])
                tail[group, p] = np.clip(np.quantile(pull, _TWO_SIGMA) / 2, *_TAILS)
    columns = np.arange(len(CALIBRATED))
    after = np.hypot(scale[at, columns] * raw, floor[at, columns])
    held_out = ~fitting

    def covered(sigma: np.ndarray, reach: np.ndarray) -> list[list[float | None]]:
        shares = []
        for limit in (sigma, 2 * reach * sigma):
            inside = np.where(np.isfinite(off) & (raw > 0), np.abs(off) <= limit, np.nan)[held_out]
            shares.append([float(np.nanmean(c)) if np.isfinite(c).any() else None for c in inside.T])
        return shares

    def listed(values: np.ndarray) -> tuple:
        return tuple(tuple(v) for v in np.asarray(values).tolist())

    coverage = tuple(tuple(tuple(row) for row in covered(*each)) for each in ((raw, np.ones_like(raw)), (after, tail[at, columns])))
    width = listed([np.median(sigma[held_out], axis=0) if held_out.any() else np.zeros(8) for sigma in (raw, after)])
    ranges = tuple((float(np.min(v)), float(np.max(v))) for v in (np.concatenate(beams), np.concatenate(noises)))
    return FitCalibration(
        _EDGES_I, _EDGES_TURN, listed(scale), listed(floor), listed(tail), listed(fitted), coverage, width, *ranges, count, source
    )
