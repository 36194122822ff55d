"""Do the errors of refined discs keep their word on real galaxies? Two halves of each field, the same field twice, gas against stars.

    python benchmarks/splits.py --fields RUN

RUN is a finished run over the real MaNGA velocity fields (its maps and sample.parquet; ``--native`` the fields themselves). A thousand
galaxies without a flag of their map or their fit are refined as the inference does, cut into halves (`split_halves`: squares of two beams
in two colours, and approaching against receding side; half a beam between), and each half is refined from the whole's answer. The pull of
what they differ by should have unit width. Shared by both halves and taken off: the priors, exactly,

    Cov(x1 - x2) = sum of (C - B P^-1 B^T) + (B1 - B2) P^-1 (B1 - B2)^T,   B = H^-1 P,

with H the curvature and P the priors' precision; inclination and scale length, held; on the sides centre and v_sys too, since one side
cannot tell them from V. What both halves share is not in a pull: a wrong inclination, a warp, a curve that is no arctan, for the sides all
that is alike on both. What `refine_discs` adds for such mismatch is left out unless said. Gas and stars may really differ: an upper bound.
Kept in splits.json, drawn in splits.png. One thread, six minutes.
"""

import argparse
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from record import HERE, keep
from split_halves import Cut, Field, cut_halves, read_fields
from splits_figure import draw

from tullyflow.conventions import HALF_WIDTH
from tullyflow.disc.gradients import NAMES, disc_gradients
from tullyflow.flags import GALAXY
from tullyflow.network.allocator import keep_freed_memory
from tullyflow.network.batch import Stamps
from tullyflow.network.checkpoint import read_card
from tullyflow.network.fit_calibration import FitCalibration
from tullyflow.network.fitted import CALIBRATED
from tullyflow.network.refinement import _BLOCK_BEAMS, _MISMATCH, _PRIOR, _fit_twice
from tullyflow.settings import Settings

NATIVE = Path(__file__).parents[2] / "shared/mirror/manga_velocity_fields"
SEED, FLAGGED, VARIED, STARRED = 11, 70, 70, 220
FREE = ("r_turn", "v_max_sini", "axis_deg", "centre_x", "centre_y", "v_sys")
FREE_ON_A_SIDE = FREE[:3]
QUANTITIES = ("axis_deg", "v_max_sini", "v_22_sini", "r_turn", "centre_x", "centre_y", "v_sys")
MAIN, SIDES = Cut("squares of 2 beams", 2.0), Cut("approaching and receding side", None)
VARIANTS = (*(Cut(f"squares of {w:g} beams", w) for w in (1.0, 1.5, 3.0)), Cut("squares of 2 beams, no gap", 2.0, 0.0))
FLAGS = (  # of the map and of the fit
    GALAXY.PA_FAILED | GALAXY.NO_ROTATION | GALAXY.UNCERTAIN_AXIS | GALAXY.POOR_RECONSTRUCTION
    | GALAXY.AT_BOUND_R_TURN | GALAXY.AT_BOUND_V_MAX
)  # fmt: skip
RADIUS_22, CLIP, CHUNK = 2.2, 2.5, 16
ALIGNED_DEG, TWICE_ARCSEC = 30.0, 5.0


@dataclass(frozen=True)
class Part:
    """A refined galaxy or half: ``values`` (galaxy,) by quantity; what they follow (galaxy, free); ``covariance`` (galaxy, free, free),
    its share by priors ``of_prior``, ``by_prior`` = B; parameters (galaxy, 9); ``good`` (galaxy,) where the fit converged."""

    free: tuple[str, ...]
    parameters: torch.Tensor
    covariance: np.ndarray
    by_prior: np.ndarray
    good: np.ndarray

    @property
    def prior_variance(self) -> np.ndarray:
        return np.diag([_PRIOR.get(name, 0.0) ** 2 for name in self.free])

    def quantity(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Value (galaxy,), ln of velocities and lengths, and its derivatives (galaxy, free)."""
        p, by = self.parameters.numpy(), np.zeros((len(self.parameters), len(self.free)))
        if name == "v_22_sini":
            x = RADIUS_22 * p[:, 1] / p[:, 2]
            by[:, self.free.index("r_turn")] = -x / ((1 + x**2) * np.arctan(x))
            by[:, self.free.index("v_max_sini")] = 1
            return np.log(p[:, 3] * np.arctan(x)), by
        by[:, self.free.index(name)] = 1
        value = p[:, NAMES.index(name)]
        return (np.log(value) if name in ("r_turn", "v_max_sini") else value), by


def refine(stamps: Stamps, start: torch.Tensor, network, free: tuple[str, ...] = FREE) -> Part:
    """Refine from ``start`` (galaxy, 9) as `network.refinement.refine_discs` does where inclination and scale length are held."""
    fit, added, counts = _fit_twice(stamps, start, free, network)
    rows = [NAMES.index(name) for name in fit.free]
    precision = torch.tensor([_PRIOR.get(name, np.inf) ** -2 for name in fit.free], dtype=torch.float64)
    curvature = []
    for part in torch.arange(len(start)).split(CHUNK):
        here = stamps.select(part)
        model = disc_gradients(fit.parameters[part].to(here.velocity), here.beam, network.quadrature_nodes)
        error = torch.hypot(here.velocity_err, added[part, 1].to(here.velocity).view(-1, 1, 1))
        inverse = torch.where(here.valid, error.reciprocal(), 0)
        inside = ((here.velocity - model.velocity).abs() * inverse < CLIP) * inverse
        left, right = ((model.by_velocity[:, rows] * w.unsqueeze(1)).flatten(2) for w in (inside, inverse))
        curvature.append((left @ right.mT).double())
    weighed = counts.unsqueeze(1) * precision
    by_prior = torch.linalg.pinv(torch.cat(curvature).nan_to_num() + torch.diag_embed(weighed), hermitian=True) * weighed.unsqueeze(1)
    return Part(fit.free, fit.parameters, fit.covariance.numpy(), by_prior.numpy(), fit.converged.numpy())


def own_variance(part: Part, by: np.ndarray) -> np.ndarray:
    """Variance (galaxy,) of a quantity by the maps alone, what the priors add left out."""
    data = part.covariance - part.by_prior @ part.prior_variance @ part.by_prior.transpose(0, 2, 1)
    return np.einsum("gi,gij,gj->g", by, data, by)


def mismatch_of(name: str) -> float:
    """Variance that `refine_discs` adds for what no residual shows: that of V is that of V_2.2 too."""
    return _MISMATCH.get("v_max_sini" if name == "v_22_sini" else name, 0.0) ** 2


def pulls(first: Part, second: Part, name: str, mismatch: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Pull of first - second (galaxy,) and the error of one, shared priors taken off; with ``mismatch`` as the inference states errors."""
    (x1, by1), (x2, by2) = first.quantity(name), second.quantity(name)
    apart, by = first.by_prior - second.by_prior, (by1 + by2) / 2
    shared = np.einsum("gi,gij,gj->g", by, apart @ first.prior_variance @ apart.transpose(0, 2, 1), by)
    off = x1 - x2
    if name == "axis_deg":
        off = (off + 180) % 360 - 180
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(own_variance(first, by1) + own_variance(second, by2) + shared + 2 * mismatch * mismatch_of(name))
        return off / error, error / np.sqrt(2)


def told(pull: np.ndarray, error: np.ndarray | None = None) -> dict:
    """Shares within 1 and 2 (0.683 and 0.954 wanted), the robust width (1) and the tail; of finite pulls."""
    fine = np.isfinite(pull)
    size = np.abs(pull[fine])
    if not len(size):
        return {"galaxies": 0}
    said = {
        "galaxies": len(size), "within 1": round(float(np.mean(size < 1)), 3), "within 2": round(float(np.mean(size < 2)), 3),
        "width": round(float(np.quantile(size, 0.6827)), 2), "beyond 4, %": round(100 * float(np.mean(size > 4)), 1),
    }  # fmt: skip
    return said if error is None else said | {"median error": round(float(np.median(error[fine])), 4)}


@dataclass(frozen=True)
class Halves:
    """Both halves, the galaxies (galaxy,) in which both were refined, and of each galaxy the share of its bins a border cut."""

    parts: tuple[Part, Part]
    good: np.ndarray
    cut_bins: np.ndarray

    @property
    def names(self) -> list[str]:
        return [name for name in QUANTITIES if name in (*self.parts[0].free, "v_22_sini")]

    def pulls(self, name: str, mismatch: bool = False) -> tuple[np.ndarray, np.ndarray]:
        pull, error = pulls(*self.parts, name, mismatch)
        return np.where(self.good, pull, np.nan), error

    def stated(self, rows: np.ndarray, calibration: FitCalibration) -> dict:
        """As `told`, with what is added for mismatch and the factors of a survey's calibration: errors as a run states them."""
        said = {}
        for name in self.names:
            pull, error = self.pulls(name, mismatch=True)
            at = CALIBRATED.index(name if name in CALIBRATED else "v_22_sini")  # V_max has that of V_2.2
            with np.errstate(invalid="ignore", divide="ignore"):
                logs = np.log(calibration.sigma[at]), np.log(calibration.factor[at])
                factor = np.exp(np.interp(np.log(error), *logs))
            said[name] = told((pull / factor)[rows], (error * factor)[rows])
        return said

    def told(self, rows=slice(None), mismatch: bool = False) -> dict:
        return {name: told(*(p[rows] for p in self.pulls(name, mismatch))) for name in self.names}


def halve(cut: Cut, stamps: Stamps, fields: list[Field], whole: Part, network) -> Halves:
    placing = whole.parameters[:, 4:7].numpy()
    beam, valid = stamps.beam.numpy(), stamps.valid.numpy()
    made = [cut_halves(cut, field, valid[k], float(beam[k]), placing[k]) for k, field in enumerate(fields)]
    masks = torch.from_numpy(np.stack([halves for halves, _ in made]))
    free = FREE_ON_A_SIDE if cut.width is None else FREE
    parts = tuple(refine(replace(stamps, valid=masks[:, k]), whole.parameters, network, free) for k in (0, 1))
    return Halves(parts, whole.good & parts[0].good & parts[1].good, np.array([share for _, share in made]))


def select(part: Part, rows: np.ndarray) -> Part:
    return Part(part.free, part.parameters[rows], part.covariance[rows], part.by_prior[rows], part.good[rows])


def by_thirds(halves: dict[str, Halves], columns: dict[str, np.ndarray], rows: np.ndarray) -> dict:
    """Share within 1 in thirds of each column, per cut, for axis, V sin i and V_2.2 sin i."""
    said = {}
    for label, column in columns.items():
        edges = np.nanquantile(column[rows], [0, 1 / 3, 2 / 3, 1])
        said[label] = {"edges": [round(float(e), 3) for e in edges]}
        for cut, pair in halves.items():
            for name in QUANTITIES[:3]:
                pull = np.abs(pair.pulls(name)[0])
                used = rows & np.isfinite(pull)
                thirds = [used & (column >= low) & (column <= high) for low, high in pairwise(edges)]
                said[label][f"{name}, {cut}"] = [round(float(np.mean(pull[third] < 1)), 2) for third in thirds]
    return said


def stars(table: pd.DataFrame, stamps: Stamps, fields: list[Field], whole: Part, rows: np.ndarray, network) -> dict:
    """Pull of the axes of gas and stars where they are aligned, by the fits and by the position angles of the maps stage."""
    seen = np.stack([fields[k].stars for k in rows])
    valid, chosen = torch.from_numpy(np.isfinite(seen)), stamps.select(torch.from_numpy(rows))
    start = whole.parameters[rows].clone()
    map_ = torch.from_numpy(np.nan_to_num(seen)).to(stamps.velocity)
    chosen = replace(chosen, velocity=map_, valid=valid)
    found, gas = refine(chosen, start, network), select(whole, rows)
    (a, by_a), (b, by_b) = gas.quantity("axis_deg"), found.quantity("axis_deg")
    error = np.sqrt(own_variance(gas, by_a) + own_variance(found, by_b))
    pull = np.where(gas.good & found.good & (np.abs(a - b) < ALIGNED_DEG), (a - b) / error, np.nan)
    rough, rough_err = (table[column].to_numpy(float)[rows] for column in ("delta_pa_deg", "delta_pa_err_deg"))
    said = {"fits": told(pull, error), "position angles of the maps": told(rough / rough_err, rough_err)}
    for name, off in (("fits", pull * error), ("position angles of the maps", rough)):
        said[name]["median |difference|, deg"] = round(float(np.nanmedian(np.abs(off))), 2)
    return said


def twice(table: pd.DataFrame, whole: Part, unflagged: np.ndarray) -> dict:
    """Pulls between separate observations of one galaxy: everything is its own, except the photometry both use."""
    sky = np.radians(table[["ra_deg", "dec_deg"]].to_numpy(float))
    xyz = np.stack([np.cos(sky[:, 1]) * np.cos(sky[:, 0]), np.cos(sky[:, 1]) * np.sin(sky[:, 0]), np.sin(sky[:, 1])], axis=1)
    chord = 2 * np.sin(np.radians(TWICE_ARCSEC / 3600) / 2)
    near = [i + 1 + np.flatnonzero(np.linalg.norm(xyz[i + 1 :] - xyz[i], axis=1) < chord) for i in range(len(xyz))]
    pairs = np.array([(i, j) for i, others in enumerate(near) for j in others], dtype=int).reshape(-1, 2)
    said = {"pairs": len(pairs)}
    good, scale = whole.good, np.log(table["stamp_scale_arcsec"].to_numpy(float))
    for words, rows in (("both without a flag", unflagged), ("all refined", good)):
        kept = pairs[(rows & good)[pairs].all(axis=1)]
        said[words] = {}
        for name in QUANTITIES[:4]:
            x, by = whole.quantity(name)
            x = x + (table["pa_deg"].to_numpy(float) if name == "axis_deg" else scale if name == "r_turn" else 0)
            variance = np.einsum("gi,gij,gj->g", by, whole.covariance, by)
            off = np.diff(x[kept], axis=1)[:, 0]
            off = (off + 180) % 360 - 180 if name == "axis_deg" else off
            error = np.sqrt(variance[kept].sum(axis=1))
            said[words][name] = told(off / error, error / np.sqrt(2))
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=Path, required=True, help="folder of a finished run: maps/, sample.parquet")
    parser.add_argument("--native", type=Path, default=NATIVE, help="the velocity fields as published")
    parser.add_argument("--limit", type=int, default=1050, help="so many unflagged galaxies, drawn at random")
    parser.add_argument("--network", type=Path, required=True, help="folder of that run's network, whose card has the calibration")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    calibration = FitCalibration.from_json(read_card(args.network / "model.json")["fit_calibration"])
    settings, rng, began = Settings(), np.random.default_rng(SEED), time.process_time()
    network = settings.network
    sample = pd.read_parquet(args.fields / "sample.parquet")
    inferred = sample[sample["n_pixels"] > 0]
    clean = (inferred["flags"].to_numpy(np.int64) & FLAGS) == 0
    names = inferred["galaxy"].to_numpy()
    wanted = rng.permutation(names[clean])[: args.limit]
    flagged = rng.permutation(names[~clean])[:FLAGGED]
    repeated = names[inferred.duplicated(["ra_deg", "dec_deg"], keep=False)]
    galaxies, stamps, fields = read_fields(args.fields, args.native, {*wanted, *flagged, *repeated}, settings.maps.velocity_err_default)
    table = inferred.set_index("galaxy").loc[galaxies["galaxy"]].reset_index()
    half = HALF_WIDTH * table["stamp_scale_arcsec"].to_numpy(float)
    lengths = (table["r_scale_used_arcsec"] / half, table["r_turn_network_arcsec"] / half)
    four = np.column_stack([table["inclination_used_deg"], *lengths, table["v_max_sini_network_kms"]])
    start = torch.from_numpy(np.column_stack([four, np.zeros_like(four), np.ones(len(four))]))
    whole = refine(stamps, start, network)
    unflagged, out = table["galaxy"].isin(wanted).to_numpy(), table["galaxy"].isin(flagged).to_numpy()
    halves = {cut.name: halve(cut, stamps, fields, whole, network) for cut in (MAIN, SIDES)}
    residual = table["reconstruction_velocity_kms"] / table["v_max_sini_kms"]
    columns = {
        "rms residual / V sin i": residual, "outermost radius / beam": table["r_max_arcsec"] / table["psf_fwhm_arcsec"],
        "inclination, deg": table["inclination_used_deg"], "chi2 of the velocity": table["chi2_velocity"],
        "bins": pd.Series([len(np.unique(f.bins[v])) for f, v in zip(fields, stamps.valid.numpy(), strict=True)]),
    }  # fmt: skip
    figures = {
        "as refined": {"area of one measurement, beams": _BLOCK_BEAMS, "priors": _PRIOR, "added for mismatch": _MISMATCH},
        "galaxies": {"unflagged": int(unflagged.sum()), "refined": int((unflagged & whole.good).sum()),
                     **{f"both halves refined, {cut}": int((unflagged & pair.good).sum()) for cut, pair in halves.items()}},
        "unflagged": {cut: pair.told(unflagged) for cut, pair in halves.items()},
        "flagged": {cut: pair.told(out) for cut, pair in halves.items()},
        "unflagged, with what is added for mismatch": {cut: pair.told(unflagged, True) for cut, pair in halves.items()},
        "unflagged, calibrated": {cut: pair.stated(unflagged, calibration) for cut, pair in halves.items()},
        "share of bins cut by a border": {cut: round(float(np.nanmean(pair.cut_bins[unflagged])), 3) for cut, pair in halves.items()},
        "within 1 by thirds": by_thirds(halves, {label: c.to_numpy(float) for label, c in columns.items()}, unflagged),
    }  # fmt: skip
    some = np.sort(rng.permutation(np.flatnonzero(unflagged & whole.good))[:VARIED])
    of_some = (stamps.select(torch.from_numpy(some)), [fields[k] for k in some], select(whole, some))
    variants = {MAIN.name: halves[MAIN.name].told(some)} | {cut.name: halve(cut, *of_some, network).told() for cut in VARIANTS}
    figures["the same galaxies cut otherwise"] = {
        cut: {name: said[name] for name in QUANTITIES[:4]} for cut, said in variants.items()
    }
    aligned = unflagged & whole.good & (table["delta_pa_deg"] < ALIGNED_DEG).to_numpy()
    figures["gas against stars"] = stars(table, stamps, fields, whole, rng.permutation(np.flatnonzero(aligned))[:STARRED], network)
    figures["the same galaxy observed twice"] = twice(table, whole, unflagged)
    figures["processor seconds"] = round(time.process_time() - began)
    drawn = {name: {cut: pair.pulls(name)[0][unflagged] for cut, pair in halves.items() if name in pair.names} for name in QUANTITIES}
    draw(drawn, HERE / "splits.png")
    keep("splits", figures)


if __name__ == "__main__":
    main()
