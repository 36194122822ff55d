"""Make the weights of usability that ship: cross-validated and calibrated by plate, then trained on every plate.

    python benchmarks/usability_weights.py ../shared FOLDER [TABLE.csv]

FOLDER/weights.safetensors and model.json ship as network/judges/weights/usability.{safetensors,json}; TABLE.csv gets what networks that
had not seen a galaxy's plate say of it.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from usability_data import TRAINING, read_fields

from tullyflow.network.judges.usability import save_usability
from tullyflow.network.judges.usability_training import figures_of, sum_up, train_usability

CARD = {
    "data": "4,107 MaNGA galaxies to MPL-8: velocity fields of ionised gas (H alpha) and of stars with classes by eye (0 do not use, "
    "1 messy, 2 clean; 1 and 2 against 0; two stellar fields of class 3 left out), read back from the figures of Duckworth et al.",
    "citation": "Duckworth, Tojeiro & Kraljic 2020, MNRAS 492, 1869 (github.com/cduckastro); SDSS-IV MaNGA, Bundy et al. 2015, ApJ 798, 7",
    "split": "5 folds by plate, all galaxies of a plate in one; figures are of plates not trained on; the weights are trained on every "
    "plate, calibrated on the held-out answers of the five",
    "command": "python benchmarks/usability_weights.py ../shared FOLDER",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("table", type=Path, nargs="?")
    args = parser.parse_args()
    torch.set_num_threads(1)
    labelled, _ = read_fields(args.shared)
    network, crossed = train_usability(labelled, TRAINING)
    figures = figures_of(crossed.probability, labelled.usable)
    print(figures)
    training = {key: value for key, value in asdict(TRAINING).items() if not key.startswith("published")}
    summary = sum_up("the velocity fields of 4,107 MaNGA galaxies, gas and stars, classed by eye (Duckworth+2020)", figures)
    save_usability(network, {"summary": summary} | CARD | {"seed": TRAINING.seed, "training": training, "figures": figures}, args.folder)
    if args.table:
        prob = crossed.probability.round(5)
        pd.DataFrame({"galaxy": labelled.galaxy, "prob_gas": prob[:, 0], "prob_stars": prob[:, 1], "fold": crossed.fold}).to_csv(
            args.table, index=False
        )


if __name__ == "__main__":
    main()
