"""The blind test of Dawson+2021 section 3.1 for a network: train on synthetic discs, infer 2,000 KinMS galaxies never seen, compare.

    snakemake -s benchmarks/blind_test.smk --cores 2                      all of it: under an hour
    python benchmarks/blind_test.py train SETTINGS.yaml OUT_DIR           `pretrain`, or self-supervised as the paper
    python benchmarks/blind_test.py infer [--beams] SETTINGS.yaml WEIGHTS_DIR OUT.csv GALAXIES.npz...
    python benchmarks/blind_test.py score FOUND_DIR OUT.csv               also writes blind_test.json

``folded`` is trained on the labels of its own stream. ``dawson2021`` is trained as the paper trains it, on the maps alone, with a
decoder that has no beam; its maps are drawn once from the same stream as those of ``folded`` and seen in every epoch.
Deviations are found - true of all galaxies; lengths are fractions of the half-width, V is sin i times the asymptote, or times the largest
velocity inside the map (the network's own: that of its model, with the beam, over the valid pixels).
"""

import argparse
import logging
import math
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from blind_galaxies import HALF, PARAMETERS, Observed, observe, read_population, read_shard
from record import keep

from tullyflow.disc.projection import project_disc
from tullyflow.network.autoencoder import DiscAutoencoder
from tullyflow.network.batch import Stamps, norm_of, resolve_device
from tullyflow.network.calibration import identity
from tullyflow.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tullyflow.network.fitting import fit_stamps
from tullyflow.network.inference import sample_posterior
from tullyflow.network.synthetic import draw_discs
from tullyflow.network.training import new_model, pretrain
from tullyflow.settings import Settings, load_settings

__all__ = ["cut_by_turnover", "deviations", "infer", "stamps_of", "summary", "train"]

HERE = Path(__file__).parent
PAPER = {"inclination_deg": 0.98, "r_scale": 0.003, "r_turn": 0.017, "v_max_sini": 3.48, "covered": 0.35, "cut": 0.13}
WANTED = {"inclination_deg": 0.3, "r_scale": 0.001, "r_turn": 0.004, "v_max_sini": 1.0}
_MAPS = 6400  # that dawson2021 is trained on
_BATCH = 200
_BINS = (10, 20, 30, 45, 60, 75, 85, 90)  # deg
_BEAMS_CUT = 1.5


def stamps_of(galaxies: Observed, settings: Settings) -> Stamps:
    """Return KinMS galaxies as stamps, with errors in the middle of those of the stream `folded` is trained on."""
    stream = load_settings(HERE / "blind_test" / "folded.yaml").network.stream
    intensity, velocity = (torch.as_tensor(m, dtype=torch.float32) for m in (galaxies.intensity, galaxies.velocity))
    valid = torch.as_tensor(galaxies.valid)
    intensity_err = (0.3 + 0.7 * intensity.sqrt()) / math.sqrt(stream.snr[0] * stream.snr[1])
    velocity_err = math.sqrt(stream.velocity_err[0] * stream.velocity_err[1]) * intensity.clamp(min=1e-3).rsqrt()
    beam = torch.full((len(intensity),), galaxies.beam)
    norm = norm_of(velocity, valid, settings.network.velocity_norm)
    return Stamps(intensity, intensity_err * valid, velocity, velocity_err * valid, valid, beam, norm)


def _maps_to_train_on(settings: Settings, generator: torch.Generator) -> Stamps:
    """Draw maps of the stream of `folded` with the norm and ranges of ``settings``."""
    folded = load_settings(HERE / "blind_test" / "folded.yaml").network
    own = {"velocity_norm": settings.network.velocity_norm, "ranges": settings.network.ranges}
    source = DiscAutoencoder(folded.model_copy(update=own))
    return Stamps.joined([draw_discs(_BATCH, source, generator).stamps for _ in range(_MAPS // _BATCH)])


def train(settings_path: Path, out_dir: Path) -> None:
    """Write the weights of a network trained as its settings say."""
    settings = load_settings(settings_path)
    if settings.network.initial_weights == "synthetic":
        pretrain(settings, out_dir)
        return
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    stamps = _maps_to_train_on(settings, generator)
    model = new_model(settings, resolve_device(settings.device))
    names = [str(k) for k in range(len(stamps))]
    history = fit_stamps(model, stamps, names, stamps.select(slice(0, 0)), [], generator, rehearse=False)
    out_dir.mkdir(parents=True, exist_ok=True)
    history.to_csv(out_dir / "history.csv", index=False)
    save_checkpoint(Checkpoint(model, identity(), (), "the maps of synthetic discs"), out_dir, settings.seed)


def _largest_velocity(parameters: np.ndarray, stamps: Stamps) -> np.ndarray:
    """Return the largest |velocity| (galaxy,) that discs of parameters (galaxy, 4) show in the valid pixels, with the beam."""
    largest = []
    for start in range(0, len(parameters), _BATCH):
        chosen = slice(start, start + _BATCH)
        columns = torch.as_tensor(parameters[chosen]).unbind(-1)
        beam = stamps.beam[chosen].double()
        velocity = project_disc(*columns, nodes=8, beam_fwhm=beam, central_cells=3).velocity
        largest.append(torch.where(stamps.valid[chosen], velocity.abs(), 0).amax((1, 2)))
    return torch.cat(largest).numpy()


def infer(settings_path: Path, weights: Path, galaxies: Observed) -> pd.DataFrame:
    """Return one row per galaxy: truth, found, errors (dropout scatter or calibrated), mean absolute deviation of the samples."""
    settings = load_settings(settings_path)
    checkpoint = load_checkpoint(weights, settings.network, resolve_device(settings.device))
    stamps = stamps_of(galaxies, settings)
    generator = torch.Generator().manual_seed(settings.seed)
    posterior = sample_posterior(checkpoint.model.eval(), stamps, checkpoint.calibration, settings.network.samples, generator)
    table = {}
    relative = np.concatenate([np.ones((len(stamps), 1)), posterior.mean[:, 1:]], axis=1)
    for k, name in enumerate(PARAMETERS):
        drawn = posterior.samples[..., k]
        table |= {
            f"{name}_true": galaxies.truth[:, k],
            name: drawn.mean(axis=0),
            f"{name}_err": posterior.errors[:, k] * relative[:, k],
            f"{name}_mad": np.abs(drawn - drawn.mean(axis=0)).mean(axis=0),
            f"{name}_at_bound": posterior.at_bound[:, k],
        }
    table["v_largest_true"] = galaxies.v_largest
    table["v_largest"] = _largest_velocity(posterior.mean, stamps)
    table["beam"] = galaxies.beam
    return pd.DataFrame(table)


def cut_by_turnover(table: pd.DataFrame, beam: float, pixels: float = HALF) -> np.ndarray:
    """Return the galaxies (galaxy,) whose r_turn, seen along the minor axis, is below 1.5 beams: ``pixels`` r_turn cos i < 1.5 ``beam``.

    The paper does not print its formula. ``pixels`` is the length whose fraction r_turn is: half the map's width, or all of it.
    """
    return pixels * table["r_turn_true"] * np.cos(np.radians(table["inclination_deg_true"])) < _BEAMS_CUT * beam


def deviations(table: pd.DataFrame) -> pd.DataFrame:
    """Return found - true of the four parameters and of the largest velocity, in their units."""
    names = (*PARAMETERS, "v_largest")
    return pd.DataFrame({name: table[name] - table[f"{name}_true"] for name in names})


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per parameter: n, mean and median |deviation|, median deviation, 90th percentile, and coverage of 1 sigma."""
    rows = []
    for name, deviation in deviations(table).items():
        size = deviation.abs()
        known = f"{name}_err" in table
        rows.append({
            "parameter": name, "n": len(size), "mean": size.mean(), "median": size.median(), "bias": deviation.median(),
            "p90": size.quantile(0.9), "largest": size.max(),
            "covered": (size <= table[f"{name}_err"]).mean() if known else np.nan,
            "covered_mad": (size <= table[f"{name}_mad"]).mean() if known else np.nan,
            "at_bound": table[f"{name}_at_bound"].mean() if known else np.nan,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _sets(table: pd.DataFrame, beam: float) -> dict[str, pd.DataFrame]:
    """Return the galaxies without any cut, after the paper's (both readings), and in bins of inclination."""
    sets = {
        "all": table,
        "32 r_turn cos i >= 1.5 beams": table[~cut_by_turnover(table, beam)],
        "64 r_turn cos i >= 1.5 beams": table[~cut_by_turnover(table, beam, 2 * HALF)],
    }
    for low, high in pairwise(_BINS):
        sets[f"{low} <= i < {high}"] = table[table["inclination_deg_true"].between(low, high, inclusive="left")]
    return sets


def _control(table: pd.DataFrame, control: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the galaxies that were drawn twice: as all are, and with KinMS's own random numbers."""
    return {"control: as drawn": table.iloc[: len(control)], "control: KinMS's own random numbers": control}


def score(found_dir: Path, out: Path) -> None:
    """Write the summary of every architecture and set as CSV, and the figures of all galaxies and both cuts as JSON."""
    beam = read_population()["beam"]
    rows, figures = [], {"paper, after cutting 13 %": PAPER, "wanted of folded, without a cut": WANTED}
    for path in sorted(found_dir.glob("*.csv")):
        table, control = (pd.read_csv(p) for p in (path, found_dir / "control" / path.name))
        for name, chosen in (_sets(table, beam) | _control(table, control)).items():
            part = summary(chosen)
            rows.append(part.assign(network=path.stem, set=name))
            if "<" not in name:
                columns = part.set_index("parameter")[["mean", "median", "bias", "covered", "covered_mad"]]
                digits = {key: {c: float(f"{v:.3g}") for c, v in row.items() if np.isfinite(v)} for key, row in columns.iterrows()}
                figures.setdefault(path.stem, {})[name] = {"galaxies": len(chosen), **digits}
    order = ["network", "set", "parameter", "n", "mean", "median", "bias", "p90", "largest", "covered", "covered_mad", "at_bound"]
    pd.concat(rows)[order].to_csv(out, index=False, float_format="%.5g")
    keep("blind_test", figures)


def _observed(paths: list[Path], beam: float) -> Observed:
    parts = [observe(read_shard(path), beam, read_population()["faintest"]) for path in paths]
    arrays = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Observed) if f.name != "beam"}
    return replace(parts[0], **arrays)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="what", required=True)
    command = commands.add_parser("train")
    command.add_argument("settings", type=Path)
    command.add_argument("out", type=Path)
    command = commands.add_parser("infer")
    command.add_argument("--beams", action="store_true", help="with every beam of the population, not only its own")
    command.add_argument("settings", type=Path)
    command.add_argument("weights", type=Path)
    command.add_argument("out", type=Path)
    command.add_argument("galaxies", type=Path, nargs="+")
    command = commands.add_parser("score")
    command.add_argument("found", type=Path)
    command.add_argument("out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if asked.what == "train":
        train(asked.settings, asked.out)
    elif asked.what == "infer":
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        population = read_population()
        beams = population["beams"] if asked.beams else [population["beam"]]
        tables = [infer(asked.settings, asked.weights, _observed(asked.galaxies, beam)) for beam in beams]
        pd.concat(tables).to_csv(asked.out, index=False, float_format="%.6g")
    else:
        score(asked.found, asked.out)
