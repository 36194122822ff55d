"""What least squares adds to the network's rotation curves: errors of V sin i with and without it, and what its own errors are worth.

    python benchmarks/refinement.py --weights DIR

Galaxies of `survey_galaxies` (bulges, clumps, tanh and two-power curves, misplaced axes and centres: none is the network's or the fit's
model). V at 2.2 *true* scale lengths times sin i, so that the scale length's own error stays out. Three inclinations to hold: the
network's, the truth, and the truth with 5 deg of error, as of photometry. Kept in refinement.json. One thread.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from mock_stamps import load, mean_field
from record import keep
from survey_galaxies import KINDS, RADIUS_22, draw_survey

from tullyflow.network.allocator import keep_freed_memory
from tullyflow.network.refinement import refine_curves

SEED, GALAXIES = 2027, 400
PHOTOMETRIC_ERR_DEG = 5.0


def v_22(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return found[:, 3] * 2 / np.pi * np.arctan(RADIUS_22 * truth[:, 1] / found[:, 2])


def scatter(found: np.ndarray, truth: np.ndarray) -> dict:
    off = 100 * np.log(found / truth)
    return {"68 % within, %": round(float(np.quantile(np.abs(off), 0.6827)), 2), "median, %": round(float(np.median(off)), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="folder of a network trained on synthetic discs alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    model = load(args.weights).model
    rng, figures = np.random.default_rng(SEED), {}
    for kind in KINDS.values():
        survey = draw_survey(kind, GALAXIES, torch.Generator().manual_seed(SEED), model.network)
        network, truth = mean_field(model, survey.stamps), survey.truth
        rows = {"network": {"V_2.2 sin i": scatter(v_22(network, truth), truth[:, 2]), "V asymptote": scatter(network[:, 3], truth[:, 3])}}
        held = {"its inclination": network[:, 0], "the true one": truth[:, 0]}
        held["the true one with 5 deg"] = (truth[:, 0] + PHOTOMETRIC_ERR_DEG * rng.standard_normal(GALAXIES)).clip(15, 87)
        for words, inclination in held.items():
            start = network.copy()
            start[:, 0] = inclination
            if words != "its inclination":
                start[:, 1] = truth[:, 1]
            began = time.process_time()
            refined = refine_curves(survey.stamps, start, model.network, model.device)
            seconds = (time.process_time() - began) / GALAXIES
            good = refined.converged
            found = np.where(good[:, None], refined.parameters, start)
            x = RADIUS_22 * truth[:, 1] / found[:, 2]
            by_turn = -x / ((1 + x**2) * np.arctan(x))  # d ln V_2.2 / d ln r_turn
            by = np.stack([by_turn, np.ones_like(by_turn)], axis=1)
            own = np.einsum("gi,gij,gj->g", by, refined.covariance, by)
            off = np.log(v_22(found, truth) / truth[:, 2])
            if words == "the true one with 5 deg":  # what the held inclination brings with it
                own = own + (PHOTOMETRIC_ERR_DEG * np.einsum("gi,gi->g", by, refined.by_held[..., 0])) ** 2
            pull = np.abs(off / np.sqrt(own))[good]
            rows[f"fit, held {words}"] = {
                "V_2.2 sin i": scatter(v_22(found, truth), truth[:, 2]), "V asymptote": scatter(found[:, 3], truth[:, 3]),
                "converged, %": round(100 * float(good.mean()), 1), "of V_2.2 within 1 sigma, %": round(100 * float(np.mean(pull < 1)), 1),
                "within 2 sigma, %": round(100 * float(np.mean(pull < 2)), 1),
                "median error, %": round(100 * float(np.median(np.sqrt(own[good]))), 2),
                "processor ms each": round(1000 * seconds, 1),
            }  # fmt: skip
        figures[kind.name] = rows
    keep("refinement", figures)


if __name__ == "__main__":
    main()
