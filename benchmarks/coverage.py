"""Do calibrated errors mean what they say? Shares within one and two sigma, before and after, of galaxies that no calibration saw.

    python benchmarks/coverage.py --weights DIR [--galaxies 600] [--fits 1000]

The errors of the fit, and those of the network, are calibrated on `network.mismatch` and tested on three populations of other seeds:
``model``, discs that are the model (noise, gaps, beams and errors of axis, centre and v_sys as there, and no mismatch); ``own family``,
discs of the calibration's kinds of mismatch; ``kinms``, galaxies of another family (`kinms_galaxies`: KinMS, polyex and bulge-disc-halo
curves, warps, bars, streams, thick and flaring discs). Intervals are those of the samples that velocities are made of; of galaxies whose
fit does not stand, or held inclination and scale length, they are the network's.
``per S/N`` has the thirds of the kinms galaxies by the error of V_2.2 sin i. Kept in coverage.json and coverage.png. One thread.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from kinms_galaxies import draw_survey, read_galaxies
from mock_stamps import load
from record import keep

from tullyflow.conventions import HALF_WIDTH, UNRESOLVED_BEAMS
from tullyflow.network import mismatch
from tullyflow.network.allocator import keep_freed_memory
from tullyflow.network.autoencoder import DiscAutoencoder
from tullyflow.network.batch import seeded_generator
from tullyflow.network.calibration import Calibration, calibrate
from tullyflow.network.fit_calibration import FitCalibration, calibrate_fit, unchanged
from tullyflow.network.fitted import CALIBRATED, calibrated_coordinates
from tullyflow.network.inference import sample_posterior
from tullyflow.network.mismatch import MismatchedDiscs, draw_mismatched
from tullyflow.network.refinement import refine_discs
from tullyflow.network.velocities import calibrated_samples

HERE = Path(__file__).parent
SEED, TEST_SEED, BATCH = 42 + 1_000_004, 90_210, 100
SAMPLES, LEVEL = 400, 0.6827
GALAXIES = HERE.parent / "results" / "kinms_galaxies.npz"  # python benchmarks/kinms_galaxies.py makes them
POPULATIONS = ("model", "own family", "kinms")
NAMES = (*CALIBRATED, "v_max_sini")


def drawn(n: int, model: DiscAutoencoder, seed: int) -> MismatchedDiscs:
    generator = seeded_generator(seed, model.device)
    return MismatchedDiscs.joined([draw_mismatched(BATCH, model, generator) for _ in range(n // BATCH)])


def without_mismatch(n: int, model: DiscAutoencoder, seed: int) -> MismatchedDiscs:
    """Discs that are the model: every kind of mismatch has a share of 0, and no oval streams."""
    shares, oval = dict(mismatch.KINDS), mismatch._OVAL
    try:
        mismatch.KINDS.update(dict.fromkeys(mismatch.KINDS, 0.0))
        mismatch._OVAL = (0.0, 0.0)
        return drawn(n, model, seed)
    finally:
        mismatch.KINDS.update(shares)
        mismatch._OVAL = oval


def true_values(discs: MismatchedDiscs) -> np.ndarray:
    """What `NAMES` are in truth, (galaxy, 9)."""
    parameters = discs.parameters.stack().double().numpy()
    v_22 = discs.v_22_sini.double().numpy()
    disc, placing = calibrated_coordinates(parameters)[:, :3], discs.placing.double().numpy()
    return np.column_stack([disc, np.log(v_22), placing, np.log(parameters[:, 3])])


def values_of(parameters: np.ndarray, placing: np.ndarray) -> np.ndarray:
    """`NAMES` of parameters (..., galaxy, 4) and placing (..., galaxy, 4)."""
    return np.concatenate([calibrated_coordinates(parameters), placing, np.log(parameters[..., 3:])], axis=-1)


def halves(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half of the middle 68.27 and 95.45 % of samples (sample, galaxy, parameter)."""
    ends = np.nanpercentile(samples, (15.865, 84.135, 2.275, 97.725), axis=0)
    return (ends[1] - ends[0]) / 2, (ends[3] - ends[2]) / 2


def inferred(discs: MismatchedDiscs, model: DiscAutoencoder, calibration: Calibration, fit: FitCalibration) -> dict[str, np.ndarray]:
    """Found - true (galaxy, 9), and half widths of both intervals (2, galaxy, 9): of the network alone, of the fit as it is, calibrated."""
    rng, true = np.random.default_rng(TEST_SEED), true_values(discs)
    posterior = sample_posterior(model, discs.stamps, calibration, 100, seeded_generator(TEST_SEED, model.device))
    drawn = calibrated_samples(posterior.mean, posterior.errors, posterior.correlation, SAMPLES, rng)
    refined = refine_discs(discs.stamps, posterior.mean, np.zeros(len(discs), bool), model.network, model.device)
    unknown = np.full((len(discs), 4), np.nan)
    found = {
        "network_off": values_of(posterior.mean, unknown) - true,
        "network": np.stack(halves(values_of(drawn, np.broadcast_to(unknown, drawn.shape)))),
    }
    for name, calibrated in (("raw", unchanged()), ("after", fit)):
        fitted = calibrated.apply(refined)
        samples = fitted.samples(drawn, rng)
        sides = np.array(halves(values_of(samples, np.zeros_like(samples))))
        placed = np.where(fitted.used[:, None], fitted.sigma[:, 4:], np.nan)
        sides[0, :, 4:8], sides[1, :, 4:8] = placed, 2 * placed * fitted.tail[:, 4:]
        found[name] = sides
    best = np.where(fitted.used[:, None], fitted.parameters, posterior.mean)
    unresolved = best[:, 2] * HALF_WIDTH < UNRESOLVED_BEAMS * discs.stamps.beam.numpy()
    found["off"] = values_of(best, np.where(fitted.used[:, None], fitted.values[:, 4:], np.nan)) - true
    found["off"][unresolved, 2] = np.nan  # flagged: no map knows it
    return found | {"stands": fitted.used, "held": fitted.held & fitted.used}


def shares(off: np.ndarray, sides: np.ndarray) -> dict[str, list[float | None]]:
    known = np.isfinite(off) & np.isfinite(sides[0])
    counted = [np.where(known, np.abs(off) <= side, np.nan) for side in sides]
    counted = [[round(100 * float(np.nanmean(c)), 1) if np.isfinite(c).any() else None for c in w.T] for w in counted]
    width = [round(float(np.median(s[k])), 4) if k.any() else None for s, k in zip(sides[0].T, known.T, strict=True)]
    return {"within 68 %": counted[0], "within 95 %": counted[1], "median sigma": width}


def scatter(off: np.ndarray) -> list[float | None]:
    return [round(float(np.nanquantile(np.abs(c), LEVEL)), 4) if np.isfinite(c).any() else None for c in off.T]


def report(found: dict[str, np.ndarray]) -> dict:
    return {
        "fit stands, %": round(100 * float(found["stands"].mean()), 1),
        "of these with inclination and scale length held, %": round(100 * float(found["held"].sum() / found["stands"].sum()), 1),
        "68 % of |found - true| within, network": scatter(found["network_off"]), "the same, fit": scatter(found["off"]),
        "network": shares(found["network_off"], found["network"]),
        "before": shares(found["off"], found["raw"]), "after": shares(found["off"], found["after"]),
    }  # fmt: skip


def draw(figures: dict) -> None:
    """Shares within 68 and 95 % intervals of each population: calibrated (filled), as the fit says (open), of the network alone."""
    disc = ("inclination", "scale length", "turnover radius", "V$_{2.2}$ sin i")
    words = (*disc, "axis", "centre x", "centre y", "v$_{sys}$", "V$_{max}$ sin i")
    figure, panels = plt.subplots(1, 2, figsize=(11, 5.2), sharey=True, layout="constrained")
    at = np.arange(len(words))[::-1]
    for panel, level, goal, asked in zip(panels, (68, 95), (LEVEL, 0.9545), ((64, 72), (92, 97)), strict=True):
        panel.axvspan(*asked, color="0.9")
        panel.axvline(100 * goal, color="0.5", lw=1)
        for shift, name, colour in zip((0.22, 0, -0.22), POPULATIONS, ("#7f8c8d", "#1f77b4", "#c0392b"), strict=True):
            for which, marker, fill in (("network", "x", colour), ("before", "o", "none"), ("after", "o", colour)):
                share = [np.nan if v is None else v for v in figures[name][which][f"within {level} %"]]
                label = name if which == "after" else None
                panel.plot(share, at + shift, marker, color=colour, mfc=fill, ms=4 if marker == "x" else 6, label=label)
        panel.set(xlabel=f"% of galaxies inside their {level} % interval", yticks=at, yticklabels=words)
        panel.grid(axis="y", color="0.93")
        panel.set_axisbelow(True)
    handles, labels = panels[0].get_legend_handles_labels()
    said = "filled: calibrated; open: as the fit says; cross: the network alone, calibrated"
    figure.legend(handles, labels, title=said, ncols=3, loc="outside upper center", frameon=False, fontsize=9, title_fontsize=9)
    panels[0].set_xlim(20, 100)
    panels[1].set_xlim(40, 101)
    figure.savefig(HERE / "coverage.png", dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="folder of a network trained on synthetic discs alone")
    parser.add_argument("--galaxies", type=int, default=600)
    parser.add_argument("--fits", type=int, default=1000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    checkpoint = load(args.weights)
    model = checkpoint.model.eval()
    generator = seeded_generator(SEED, model.device)
    none = np.zeros(BATCH, bool)
    fit = calibrate_fit(model, ((draw_mismatched(BATCH, model, generator), none) for _ in range(args.fits // BATCH)))
    sets = {
        "model": without_mismatch(args.galaxies, model, TEST_SEED), "own family": drawn(args.galaxies, model, TEST_SEED + 1),
        "kinms": draw_survey(read_galaxies(GALAXIES), model.network, TEST_SEED),
    }  # fmt: skip
    generator = seeded_generator(SEED + 1, model.device)
    network = calibrate(model, (draw_mismatched(BATCH, model, generator) for _ in range(20)), generator)
    populations = {name: inferred(discs, model, network, fit) for name, discs in sets.items()}
    figures = {"parameters": list(NAMES), "units": "deg, ln, ln, ln, deg, pixels, pixels, km/s, ln", "calibration": fit.to_json()}
    figures |= {name: report(found) for name, found in populations.items()}
    found = populations["kinms"]
    error = found["after"][0, :, 3]
    third = np.searchsorted(np.quantile(error, (1 / 3, 2 / 3)), error)
    figures["kinms, by the error of V_2.2 sin i"] = {
        words: shares(found["off"][third == k], found["after"][:, third == k]) for k, words in enumerate(("small", "middle", "large"))
    }
    keep("coverage", figures)
    draw(figures)


if __name__ == "__main__":
    main()
