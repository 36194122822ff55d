"""Discs refined by least squares, all nine parameters free: KinMS galaxies without noise, the own model's with noise, and the time.

    python benchmarks/refined_discs.py blind --found results/blind_test       2,000 galaxies: about ten processor minutes
    python benchmarks/refined_discs.py noise
    python benchmarks/refined_discs.py speed --weights DIR

**blind**: the galaxies of blind_test.py, none cut. Each is misplaced: moved by up to a pixel along either axis, its systemic velocity
within 10 km/s of 0; `disc.fit.fit_discs` begins at the answer of the network ``folded`` to that stamp, with the axis 5 deg off at most.
``network`` is the network's answer to the stamp in its place, ``network, misplaced`` the start. ``floor`` is what the maps of KinMS hold:
one step of weighted least squares from the truth, by our own model with 16 nodes and cells of half a pixel.

**noise**: discs of the same population by the decoder (16 nodes, 3 samples a side in central pixels) and, beyond 80 deg, by the other
projection of this project, `observe_disc`, with 4 x 4 points a pixel; the noise is that of mock_stamps.py.
Starts are off the truth by normal deviates of 5 deg, 0.1 in ln r_scale and ln V, 0.3 in ln r_turn, 3 deg, 0.5 pixels and 5 km/s. The
Cramer-Rao bound is `disc.bound`'s with all nine free. ``near normal`` are discs for which the bound itself says that errors are small
against what bends: cos^2 i three sigma from 0 and 1, ln r_turn known to 0.2, the others to 0.1.
"""

import argparse
import json
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from blind_galaxies import PARAMETERS, draw_truth, observe, read_population, read_shard
from blind_test import WANTED, stamps_of
from mock_stamps import load, mean_field, mock_stamps
from record import keep
from refined_figure import draw
from torch import Tensor

from tullyflow.conventions import HALF_WIDTH, STAMP
from tullyflow.disc.beam import Beam
from tullyflow.disc.bound import NUISANCES, MapDerivatives, cramer_rao, map_derivatives
from tullyflow.disc.coordinates import coordinates, physical, scaled
from tullyflow.disc.fit import DiscData, fit_discs
from tullyflow.disc.gradients import NAMES
from tullyflow.disc.loss import Loss, Prior
from tullyflow.disc.observation import Accuracy, observe_disc
from tullyflow.disc.profiles import Radial, exponential_intensity, rotation_velocity
from tullyflow.disc.projection import project_disc
from tullyflow.network.allocator import keep_freed_memory
from tullyflow.network.batch import Stamps
from tullyflow.settings import Network, load_settings

HERE = Path(__file__).parent
SEED, NODES, STARTS = 2030, 8, 5
TARGET = {"inclination_deg": 0.15, "r_scale": 0.0006, "r_turn": 0.0015, "v_max_sini": 0.5}
INCLINATIONS, TURNS = (10, 20, 30, 45, 60, 75, 80, 85, 90), (0, 0.5, 1, 2, 4, 8, np.inf)
SNRS, BEAMS, DISCS = (10.0, 30.0, 100.0), (2.0, 4.0), 400
FINEST, STEEP = 16, 80.0  # nodes; deg
COLUMNS = ("truth", "network", "network, misplaced", "refined", "floor", "converged", "starts", "chi2")
SCATTER = (5.0, 0.1, 0.3, 0.1, 3.0, 0.5, 0.5, 5.0, 0.05)  # of the starts: deg, ln, deg, pixels, km/s, ratio


def data_of(stamps: Stamps) -> DiscData:
    return DiscData(stamps.intensity, stamps.intensity_err, stamps.velocity, stamps.velocity_err, stamps.valid, stamps.beam)


def placed(parameters: np.ndarray, placing: np.ndarray | float = 0.0) -> Tensor:
    """Return (galaxy, 9) of (galaxy, 4) and where they are, (galaxy, 4)."""
    count = len(parameters)
    return torch.as_tensor(np.concatenate([parameters, np.broadcast_to(placing, (count, 4)), np.ones((count, 1))], axis=1))


def figures_of(deviation: np.ndarray) -> dict:
    """Mean and median |deviation| (galaxy, 4) by name."""
    size = np.abs(deviation)
    return {name: [float(f"{f(size[:, k]):.3g}") for f in (np.mean, np.median)] for k, name in enumerate(PARAMETERS)}


def floor(data: DiscData, truth: Tensor) -> np.ndarray:
    """Return found - true (galaxy, 4) of one step from the truth, in cos^2 i and ln."""
    space, start = coordinates(len(NAMES), truth.device), scaled(truth)
    nothing = torch.zeros_like(start)
    loss = Loss(data, Prior(start, nothing, nothing), True, clip=2.5, curve="arctan", central_light=0, nodes=16, cells=2)
    parts = [loss.select(rows).state(start[rows]) for rows in torch.arange(len(truth)).split(4)]
    at = space.forward(start)
    slope = space.slope(at)
    curvature = torch.cat([part.curvature for part in parts]) * slope.unsqueeze(1) * slope.unsqueeze(2)
    root = curvature.diagonal(dim1=1, dim2=2).sqrt()
    gradient = torch.cat([part.gradient for part in parts]) * slope / root
    step = torch.linalg.solve(curvature / (root.unsqueeze(1) * root.unsqueeze(2)), gradient) / root
    found = physical(space.back(torch.minimum(torch.maximum(at + step, space.low), space.high)))
    return (found - truth)[:, :4].numpy()


def blind(found_dir: Path) -> dict:
    """Return the figures of all galaxies, and in bins."""
    population, settings = read_population(), load_settings(HERE / "blind_test" / "folded.yaml")
    model, rng = load(found_dir / "weights" / "folded").model, np.random.default_rng(SEED)
    columns, seconds = {key: [] for key in COLUMNS}, 0.0
    for path in sorted(found_dir.glob("galaxies/[0-9]*.npz")):
        clouds = read_shard(path)
        count = len(clouds.truth)
        moved, v_sys, axis = rng.integers(-1, 2, (count, 2)), rng.uniform(-10, 10, count), rng.uniform(-5, 5, count)
        in_place = stamps_of(observe(clouds, population["beam"], population["faintest"]), settings)
        shifted = [np.stack([np.roll(m, at, (1, 0)) for m, at in zip(maps, moved, strict=True)]) for maps in (clouds.flux, clouds.momentum)]
        seen = observe(replace(clouds, flux=shifted[0], momentum=shifted[1]), population["beam"], population["faintest"])
        seen = replace(seen, velocity=np.where(seen.valid, seen.velocity + v_sys[:, None, None], 0))
        stamps = stamps_of(seen, settings)
        network, start = mean_field(model, in_place), mean_field(model, stamps)
        began = time.process_time()
        turned = np.stack([axis, *[np.zeros(count)] * 3], axis=1)
        fit = fit_discs(data_of(stamps), placed(start, turned), NAMES, nodes=NODES, starts=STARTS)
        seconds += time.process_time() - began
        truth = clouds.truth
        where = placed(truth, np.column_stack([np.zeros(count), moved, v_sys]))
        values = (
            truth, network - truth, start - truth, fit.parameters[:, :4].numpy() - truth, floor(data_of(stamps), where),
            fit.converged.numpy(), fit.starts.numpy(), (fit.chi2 / fit.measured).numpy(),
        )  # fmt: skip
        for key, column in zip(COLUMNS, values, strict=True):
            columns[key].append(column)
    table = {key: np.concatenate(values) for key, values in columns.items()}
    inclination, beams = table["truth"][:, 0], table["truth"][:, 2] * HALF_WIDTH / float(stamps.beam[0])
    sets = {"all": inclination > 0, "i <= 80": inclination <= 80, "i > 80": inclination > 80}
    sets |= {f"{a} <= i < {b}": (inclination >= a) & (inclination < b) for a, b in pairwise(INCLINATIONS)}
    sets |= {f"{a} <= r_turn/beam < {b}": (beams >= a) & (beams < b) for a, b in pairwise(TURNS)}
    figures = {
        name: {"galaxies": int(chosen.sum()), "converged, %": round(100 * float(table["converged"][chosen].mean()), 2)}
        | {key: figures_of(table[key][chosen]) for key in ("network", "network, misplaced", "refined", "floor")}
        for name, chosen in sets.items()
    }
    largest = {name: float(f"{np.abs(table['refined'][:, k]).max():.3g}") for k, name in enumerate(PARAMETERS)}
    return {
        "units": "[mean, median] of |found - true|: deg, half-widths, km/s", "wanted": TARGET, "wanted of the network": WANTED,
        "processor ms per galaxy": round(1000 * seconds / len(inclination), 1),
        "median chi2 per pixel": float(f"{np.median(table['chi2']):.3g}"),
        "more than one start, %": round(100 * float((table["starts"] > 1).mean()), 2),
        "largest deviation": largest, "sets": figures,
    }  # fmt: skip


def _bound(truth: Tensor, beam: float) -> MapDerivatives:
    parts = [
        map_derivatives(*some.unbind(1), free=NUISANCES, beam_fwhm=torch.full((len(some),), beam), nodes=FINEST, central_cells=3)
        for some in truth.split(25)
    ]
    return MapDerivatives(parts[0].names, *(torch.cat([getattr(p, m) for p in parts]) for m in ("intensity", "velocity")))


def _maps(truth: Tensor, beam: float) -> tuple[Tensor, Tensor]:
    """Return true maps: the decoder's, and beyond 80 deg, where pixels are too coarse for it, `observe_disc`'s, 4 x 4 points a pixel."""
    decoded = [
        project_disc(*some.unbind(1), nodes=FINEST, beam_fwhm=torch.full((len(some),), beam).double(), central_cells=3)
        for some in truth.split(25)
    ]
    intensity, velocity = (torch.cat([getattr(m, name) for m in decoded]) for name in ("intensity", "velocity"))
    for rows in (truth[:, 0] > STEEP).nonzero().squeeze(1).split(4):
        inclination, r_scale, r_turn, v_max_sini = truth[rows].unbind(1)
        light = Radial(exponential_intensity, (r_scale * HALF_WIDTH,))
        curve = Radial(rotation_velocity, (v_max_sini / torch.sin(torch.deg2rad(inclination)), r_turn * HALF_WIDTH))
        round_beam = Beam.round(torch.full((len(rows),), beam).double())
        seen = observe_disc(inclination, light, curve, beam=round_beam, accuracy=Accuracy(FINEST, 4, HALF_WIDTH))
        intensity[rows], velocity[rows] = seen.intensity / seen.intensity.amax((1, 2), keepdim=True), seen.velocity
    return intensity.float(), velocity.float()


def noise() -> dict:
    """Return error over bound by S/N and beam, of all discs, of those near normal, and by inclination."""
    generator = torch.Generator().manual_seed(SEED)
    truth = torch.as_tensor(draw_truth(read_population() | {"seed": SEED, "galaxies": DISCS}))
    deviates = tuple(torch.randn((DISCS, STAMP, STAMP), generator=generator) for _ in range(2))
    start = scaled(placed(truth.numpy())) + torch.randn((DISCS, 9), generator=generator, dtype=torch.float64) * torch.tensor(SCATTER)
    start = physical(start)
    start[:, 0] = start[:, 0].clamp(5, 88)
    figures = {}
    for beam in BEAMS:
        fwhm, derivatives = torch.full((DISCS,), beam), _bound(truth, beam)
        intensity, velocity = _maps(truth, beam)
        for snr in SNRS:
            everywhere = torch.ones_like(intensity, dtype=torch.bool)
            stamps = mock_stamps(intensity, velocity, torch.full((DISCS,), snr), everywhere, deviates, fwhm, Network())
            began = time.process_time()
            fit = fit_discs(data_of(stamps), start, NAMES, nodes=NODES, starts=STARTS)
            seconds = time.process_time() - began
            bound = cramer_rao(derivatives, stamps.intensity_err, stamps.velocity_err, stamps.valid).sigma[:, :4].clone()
            bound[:, 1:] /= truth[:, 1:]
            off = torch.cat([fit.parameters[:, :1] - truth[:, :1], (fit.parameters[:, 1:4] / truth[:, 1:]).log()], dim=1)
            own = fit.covariance.diagonal(dim1=1, dim2=2)[:, :4].sqrt()
            angle = torch.deg2rad(truth[:, 0])
            room = torch.minimum(angle.cos(), angle.sin()).square() / ((2 * angle).sin() * torch.deg2rad(bound[:, 0]))
            normal = (room > 3) & (bound[:, 1] < 0.1) & (bound[:, 2] < 0.2) & (bound[:, 3] < 0.1)
            sets = {"near normal": normal, "all": torch.ones_like(normal)}
            for a, b in ((10, 30), (30, 60), (60, 80), (80, 90)):
                sets[f"near normal, {a} <= i < {b}"] = normal & (truth[:, 0] >= a) & (truth[:, 0] < b)
            cell = {"processor ms per galaxy": round(1000 * seconds / DISCS, 1)}
            for name, chosen in sets.items():
                if not chosen.any():
                    continue
                ratio, width = (off / bound)[chosen].numpy(), (own / bound)[chosen].numpy()
                cell[name] = {"discs": int(chosen.sum()), "converged, %": round(100 * float(fit.converged[chosen].double().mean()), 1)} | {
                    p: {
                        "rms error / bound": round(float(np.sqrt(np.mean(ratio[:, k] ** 2))), 3),
                        "68 % within, bounds": round(float(np.quantile(np.abs(ratio[:, k]), 0.6827)), 3),
                        "stated error / bound": round(float(np.median(width[:, k])), 3),
                        "within 1 stated error, %": round(100 * float(np.mean(np.abs(ratio[:, k]) < width[:, k])), 1),
                    }
                    for k, p in enumerate(PARAMETERS)
                }
            figures[f"S/N {snr:g}, beam {beam:g}"] = cell
    return figures


def speed(weights: Path) -> dict:
    """Return processor milliseconds per galaxy, one thread, on noisy stamps of the population, from the network to the covariance."""
    model, count = load(weights).model, 320
    generator = torch.Generator().manual_seed(SEED)
    truth = torch.as_tensor(draw_truth(read_population() | {"seed": SEED, "galaxies": count})).float()
    fwhm = torch.full((count,), 4.0)
    maps = project_disc(*truth.unbind(1), beam_fwhm=fwhm)
    deviates = tuple(torch.randn((count, STAMP, STAMP), generator=generator) for _ in range(2))
    stamps = mock_stamps(*maps, torch.full((count,), 30.0), torch.ones_like(deviates[0], dtype=torch.bool), deviates, fwhm, model.network)
    figures = {}
    for nodes in (4, 8):
        mean_field(model, stamps)
        times = [(time.process_time(), time.monotonic())]
        start = mean_field(model, stamps)
        times.append((time.process_time(), time.monotonic()))
        fit = fit_discs(data_of(stamps), placed(start), NAMES, nodes=nodes)
        times.append((time.process_time(), time.monotonic()))
        (network, _), (refined, wall) = ([1000 * (b - a) / count for a, b in zip(*pair, strict=True)] for pair in pairwise(times))
        figures[f"{nodes} nodes"] = {
            "processor ms, network": round(network, 2), "processor ms, refined start and covariance": round(refined, 1),
            "wall ms, the same": round(wall, 1),
            "converged, %": round(100 * float(fit.converged.double().mean()), 1),
            "wall s per galaxy on 2 cores, a process each": round((network + refined) / 2000, 4), "wanted": 0.06,
        }  # fmt: skip
    return figures | {"galaxies": count, "S/N": 30, "beam": 4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["blind", "noise", "speed"])
    parser.add_argument("--found", type=Path, default=Path("results/blind_test"), help="where blind_test.smk has its galaxies and weights")
    parser.add_argument("--weights", type=Path, help="folder of a network trained on synthetic discs alone, for speed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    kept = Path(__file__).with_suffix(".json")
    measured = {"blind": lambda: blind(args.found), "noise": noise, "speed": lambda: speed(args.weights)}[args.what]()
    figures = (json.loads(kept.read_text())["figures"] if kept.exists() else {}) | {args.what: measured}
    keep(kept.stem, figures)
    if {"blind", "noise"} <= set(figures):
        draw(figures, kept.with_suffix(".png"))


if __name__ == "__main__":
    main()
