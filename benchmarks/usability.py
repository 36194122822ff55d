"""Usability of velocity fields on plates never seen: the default network beside the published one, and whether either learnt a footprint.

    OMP_NUM_THREADS=1 python benchmarks/usability.py learn ../shared      three cross-validations, footprints changed: ``usability.json``
    OMP_NUM_THREADS=1 python benchmarks/usability.py alone ../shared      one field of each galaxy alone: ``usability_alone.json``
    python benchmarks/usability.py draw                                   ``usability.png`` of it
    OMP_NUM_THREADS=1 python benchmarks/usability.py errors TABLE.csv OUT.png ../shared   the surest errors as a sheet to look at

TABLE.csv is what ``usability_weights.py`` writes.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from record import HERE, keep
from usability_data import KINDS, TRAINING, read_fields
from usability_footprints import SHOWN, masks_alone, noise_alone, shown

from tullyflow.network.judges.fields import fields_of, in_batches
from tullyflow.network.judges.reliability import accuracy_kept, calibration_error, reliability
from tullyflow.network.judges.usability import read_fields as read_by
from tullyflow.network.judges.usability_fitting import prepare_fields
from tullyflow.network.judges.usability_training import cross_validate

SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
TRAININGS = {
    "default": TRAINING,
    "footprints as observed": replace(TRAINING, varied=0, epochs=20),
    "published": replace(TRAINING, architecture="duckworth2019", varied=0),
}
ERRORS = 30


def parts(values):
    """All fields, those of gas, those of stars."""
    return {"all": values, **{kind: values[:, k] for k, kind in enumerate(KINDS)}}


def figures(probability, usable) -> dict:
    found = {}
    for name, p in parts(probability).items():
        u = parts(usable)[name]
        curve, kept = reliability(p, u), accuracy_kept(p, u, SHARES)
        found[name] = {
            "fields": int(np.isfinite(p * u).sum()), "accuracy": round(float(kept.accuracy[-1]), 4),
            "calibration_error": round(calibration_error(p, u), 4),
            "kept": {f"{s:g}": round(float(a), 4) for s, a in zip(SHARES, kept.accuracy, strict=True)},
            "reliability": [[round(float(x), 4) for x in row] for row in (curve.probability, curve.share, curve.number)],
        }  # fmt: skip
    return found


def judge(crossed, images) -> np.ndarray:
    """What each fold's network says of fields (galaxy, 2) of plates it was not trained on."""
    (gas, gas_there), (stars, stars_there) = (fields_of(one) for one in images)
    there = torch.from_numpy(np.stack([gas_there, stars_there], axis=1))
    found = np.full(there.shape, np.nan)
    for k, network in enumerate(crossed.networks):
        index = torch.from_numpy(np.flatnonzero(crossed.fold == k))
        for part in index.split(256):
            seen = [read_by(network.architecture, next(in_batches(fields.select(part), len(part)))) for fields in (gas, stars)]
            said = network.probability(network.logits(*seen, there[part]))
            found[part.numpy()] = torch.where(there[part], said, torch.nan).numpy()
    return found


def accuracy(probability, usable) -> dict:
    found = {}
    for name, p in parts(probability).items():
        u = parts(usable)[name]
        there = np.isfinite(p * u)
        found[name] = round(float(((p >= 0.5) == (u > 0.5))[there].mean()), 4)
    return found | {"calibration_error": round(calibration_error(probability, usable), 4)}


def learn(shared: Path) -> dict:
    labelled, classes = read_fields(shared)
    usable = labelled.usable
    found = {"seed": TRAINING.seed, "classes": {}, "networks": {}, "footprint_alone": {}, "footprints": {}}
    for k, kind in enumerate(KINDS):
        found["classes"][kind] = {str(c): int((classes[:, k] == c).sum()) for c in (0, 1, 2)}
    crossed = {}
    for name, training in TRAININGS.items():
        start = time.process_time()
        crossed[name] = cross_validate(labelled, prepare_fields(labelled, training), training)
        found["networks"][name] = figures(crossed[name].probability, usable) | {"cpu_s": round(time.process_time() - start)}
        print(name, accuracy(crossed[name].probability, usable), flush=True)
    always = {name: round(float(max(np.nanmean(u), 1 - np.nanmean(u))), 4) for name, u in parts(usable).items()}
    found["footprint_alone"]["the commoner class"] = always
    for name, (prepared, training) in {
        "published network given masks": masks_alone(labelled, TRAININGS["published"]),
        "default network given noise in the masks": noise_alone(labelled, TRAININGS["footprints as observed"]),
    }.items():
        found["footprint_alone"][name] = accuracy(cross_validate(labelled, prepared, training).probability, usable)
        print(name, found["footprint_alone"][name], flush=True)
    for name in SHOWN:
        images = shown(labelled, name)
        found["footprints"][name] = {network: accuracy(judge(one, images), usable) for network, one in crossed.items()}
        print(name, {network: one["all"] for network, one in found["footprints"][name].items()}, flush=True)
    return found


def alone(shared: Path) -> dict:
    """Cross-validated accuracy where a galaxy's other field is not given, of the training without varied footprints."""
    labelled, _ = read_fields(shared)
    training, nothing = TRAININGS["footprints as observed"], np.full_like(labelled.gas, np.nan)
    crossed = cross_validate(labelled, prepare_fields(labelled, training), training)
    gas, stars = judge(crossed, [labelled.gas, nothing])[:, 0], judge(crossed, [nothing, labelled.stars])[:, 1]
    by_both, by_one = crossed.probability, np.stack([gas, stars], axis=1)
    return {"both fields": figures(by_both, labelled.usable), "one field alone": figures(by_one, labelled.usable)}


def surest_errors(table: pd.DataFrame, classes: np.ndarray) -> list[tuple[int, int]]:
    """Galaxy and field of the errors that are farthest from one half."""
    probability = table[["prob_gas", "prob_stars"]].to_numpy()
    wrong = (probability >= 0.5) != (classes >= 1)
    sure = np.where(wrong & np.isfinite(probability * classes), np.abs(probability - 0.5), -1)
    return [divmod(int(i), 2) for i in np.argsort(-sure.ravel())[:ERRORS]]


def looked_at(labelled, classes, table, errors) -> dict:
    """The surest errors with whose each is, as looked at on the sheet (``usability_verdicts.csv``)."""
    verdicts = pd.read_csv(HERE / "usability_verdicts.csv").set_index(["galaxy", "field"])
    probability = table[["prob_gas", "prob_stars"]].to_numpy()
    listed = []
    for galaxy, field in errors:
        name = labelled.galaxy[galaxy], KINDS[field]
        whose, why = verdicts.loc[name] if name in verdicts.index else ("not looked at", "")
        listed.append({"galaxy": name[0], "field": name[1], "class_by_eye": int(classes[galaxy, field]),
                       "probability": round(float(probability[galaxy, field]), 4), "whose_error": whose, "why": why})  # fmt: skip
    return {"whose": pd.Series([one["whose_error"] for one in listed]).value_counts().to_dict(), "errors": listed}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    for name in ("learn", "alone"):
        commands.add_parser(name).add_argument("shared", type=Path)
    commands.add_parser("draw")
    errors = commands.add_parser("errors")
    for name in ("table", "out", "shared"):
        errors.add_argument(name, type=Path)
    args = parser.parse_args()
    if args.what in ("learn", "alone"):
        torch.set_num_threads(1)
        keep(*(("usability", learn(args.shared)) if args.what == "learn" else ("usability_alone", alone(args.shared))))
        return
    from usability_figure import draw, draw_errors

    if args.what == "draw":
        draw(json.loads((HERE / "usability.json").read_text())["figures"], HERE / "usability.png")
    else:
        labelled, classes = read_fields(args.shared)
        table = pd.read_csv(args.table)
        errors = surest_errors(table, classes)
        draw_errors(labelled, classes, table, errors, args.out)
        keep("usability_errors", looked_at(labelled, classes, table, errors))


if __name__ == "__main__":
    main()
