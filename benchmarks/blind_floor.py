"""What KinMS leaves in the galaxies of the blind test: time and noise of its cloudlets, and whether it draws our discs.

    python benchmarks/blind_floor.py [--galaxies 20]

The maps of the same galaxies (`blind_galaxies`, beam of 2 pixels) are fitted, to first order about the truth, with our own disc model
(`observe_disc`, 12 nodes, 3 x 3 points a pixel): i and r_scale to the intensity, r_turn and V to the velocity. ``offset`` is the mean found
- true with its standard error, which a wrong centre, beam or projection would show; ``noise`` the mean |found - true|, the best that can be
done with such maps. Weights: those of counting noise, with the brightness free; or equal, brightness 1 at the peak, as the paper's loss.
"""

import argparse
import time

import numpy as np
import torch
from blind_galaxies import HALF, PARAMETERS, draw_clouds, draw_truth, effective_beam, observe, read_population
from record import keep

from tullyflow.disc.beam import Beam
from tullyflow.disc.observation import Accuracy, observe_disc
from tullyflow.disc.profiles import Radial, exponential_intensity, rotation_velocity

STEP = np.array([0.05, 0.0005, 0.001, 0.1])  # of the derivatives, in the unit of each parameter
DRAWN = ((500_000, "random"), (1_000_000, "random"), (2_000_000, "random"), (5_000_000, "random"), (2_000_000, "lattice"))


def our_maps(parameters: np.ndarray, beam: float) -> tuple[np.ndarray, np.ndarray]:
    """Return intensity (peak 1) and velocity (disc, y, x) of parameters (disc, 4)."""
    inclination, r_scale, r_turn, v_max_sini = torch.as_tensor(parameters).unbind(-1)
    light = Radial(exponential_intensity, (r_scale * HALF,))
    curve = Radial(rotation_velocity, (v_max_sini / torch.sin(torch.deg2rad(inclination)), r_turn * HALF))
    round_beam = Beam.round(torch.full_like(inclination, beam))
    maps = observe_disc(inclination, light, curve, thickness=1.0, beam=round_beam, accuracy=Accuracy(12, 3, HALF))
    return (maps.intensity / maps.intensity.amax((1, 2), keepdim=True)).numpy(), maps.velocity.numpy()


def derivatives(truth: np.ndarray, beam: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the true maps (y, x) of one disc and their derivatives (4, y, x)."""
    steps = np.concatenate([np.eye(4), -np.eye(4)]) * STEP
    intensity, velocity = our_maps(np.concatenate([truth[None], truth + steps]), beam)
    slopes = ((m[1:5] - m[5:]) / (2 * STEP[:, None, None]) for m in (intensity, velocity))
    return intensity[0], velocity[0], *slopes


def fitted(galaxy: tuple[np.ndarray, np.ndarray, np.ndarray], ours: tuple, counting: bool) -> np.ndarray:
    """Return found - true (4,) of KinMS's intensity, velocity and valid pixels."""
    (intensity, velocity, valid), (true_intensity, true_velocity, by_i, by_v) = galaxy, ours
    light = true_intensity[valid]
    weight = light**-0.5 if counting else np.ones_like(light)
    columns = [by_i[0][valid], by_i[1][valid], *([light] if counting else [])]
    first = np.linalg.lstsq(np.stack(columns, 1) * weight[:, None], (intensity[valid] - light) * weight, rcond=None)[0][:2]
    weight = light**0.5 if counting else weight
    left = (velocity - true_velocity)[valid] - first @ by_v[:2, valid]
    second = np.linalg.lstsq(by_v[2:, valid].T * weight[:, None], left * weight, rcond=None)[0]
    return np.concatenate([first, second])


def main(galaxies: int) -> None:
    population = read_population()
    truth = draw_truth(population)[:galaxies]
    ours = [derivatives(t, effective_beam(population["beam"])) for t in truth]
    figures = {}
    for cloudlets, sampling in DRAWN:
        began = time.process_time()
        seeds = np.arange(galaxies) + 10_001
        clouds = draw_clouds(truth, seeds, cloudlets=cloudlets, sampling=sampling, thickness=population["thickness"])
        seconds = (time.process_time() - began) / galaxies
        seen = observe(clouds, population["beam"], population["faintest"])
        figure = {"CPU s per galaxy": round(seconds, 2)}
        galaxy_maps = list(zip(seen.intensity, seen.velocity, seen.valid, strict=True))
        residuals = [((i - o[0])[m], (v - o[1])[m]) for (i, v, m), o in zip(galaxy_maps, ours, strict=True)]
        figure["median rms of intensity, of the peak"] = float(f"{np.median([r[0].std() for r in residuals]):.2g}")
        figure["median rms of velocity, km/s"] = float(f"{np.median([r[1].std() for r in residuals]):.2g}")
        for name, counting in (("counting weights", True), ("equal weights", False)):
            found = np.array([fitted(g, o, counting) for g, o in zip(galaxy_maps, ours, strict=True)])
            offset, error, noise = found.mean(0), found.std(0, ddof=1) / np.sqrt(galaxies), np.abs(found).mean(0)
            figure[name] = {
                p: f"offset {o:.2g} +- {e:.1g}, noise {n:.2g}" for p, o, e, n in zip(PARAMETERS, offset, error, noise, strict=True)
            }
        figures[f"{cloudlets} {sampling}"] = figure
    keep("blind_floor", {"galaxies": galaxies, "units": "deg, half-widths, km/s"} | figures)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--galaxies", type=int, default=20)
    torch.set_num_threads(1)
    main(parser.parse_args().galaxies)
