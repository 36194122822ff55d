"""Simulated velocity fields of known circularity: their cost, that the beam is KinMS's own, and what fills the tenths of kappa.

    python benchmarks/simulated_fields.py [--galaxies 100] [--views 10]     about a minute, and a picture: simulated_fields.png
"""

import argparse
import math
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import record
from astropy.convolution import convolve

from tullyflow.network.judges import particle_views
from tullyflow.network.judges.circularity_maps import SimulatedFields, simulate_fields
from tullyflow.network.judges.particle_kinds import Galaxy, draw_galaxy

HERE = Path(__file__).parent
SEED, COMPARED = 4, 12  # cubes whose beam is compared with KinMS's


def _spent(since: float) -> float:
    """Milliseconds of this process since; others on the machine do not count."""
    return 1e3 * (time.process_time() - since)


def _own_beam(cube: np.ndarray, beam: float, margin: int) -> np.ndarray:
    """What KinMS does with its cube: `astropy` convolves every channel with the beam that it makes."""
    from kinms import KinMS

    psf = KinMS(len(cube), len(cube), 10.0, 1.0, 1.0, [beam, beam, 0.0], nSamps=1).psf
    inner = slice(margin, -margin)
    return np.stack([convolve(cube[..., k], psf)[inner, inner] for k in range(cube.shape[2])], axis=2)


def _beams(galaxies: list[Galaxy]) -> dict:
    """Cost of a beam on a whole cube, KinMS's and ours, and how far apart their moments 1 are where the light is."""
    kinms_ms, ours_ms, away = [], [], []
    for k, galaxy in enumerate(galaxies):
        view = replace(particle_views.plain(particle_views.draw_view(np.random.default_rng([SEED, k])), math.inf), pixels=64)
        beam, margin = view.beam * 64, math.ceil(1.5 * view.beam * 64)
        cube, channels = particle_views._kinms_cube(galaxy.particles, view, margin)
        began = time.process_time()
        theirs = _own_beam(cube, beam, margin)
        kinms_ms.append(_spent(began))
        began = time.process_time()
        ours = particle_views._blur(particle_views.beam_matrix(64, margin, beam), cube)
        ours_ms.append(_spent(began))
        bright = ours.sum(axis=2) > view.faintest * ours.sum(axis=2).max()
        difference = (theirs @ channels / theirs.sum(axis=2).clip(min=1e-30) - ours @ channels / ours.sum(axis=2))[bright]
        away.append(float(np.sqrt(np.mean(difference**2)) / view.v_max_kms))
    return {
        "kinms_beam_ms": round(float(np.median(kinms_ms)), 2), "our_beam_ms": round(float(np.median(ours_ms)), 2),
        "velocity_rms_over_v_max": round(float(np.median(away)), 5),
    }  # fmt: skip


def _show(simulated: SimulatedFields, path: Path, columns: int = 8) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(10, columns, figsize=(columns, 10.6))
    rng = np.random.default_rng(SEED)
    for tenth, row in enumerate(axes[::-1]):
        here = rng.permutation(np.flatnonzero(np.minimum(simulated.kappa * 10, 9).astype(int) == tenth))
        for axis, k in zip(row, here[:columns], strict=False):
            largest = np.nanpercentile(np.abs(simulated.field[k]), 96)
            axis.imshow(simulated.field[k], cmap="RdBu_r", vmin=-largest, vmax=largest, origin="lower")
            axis.set_title(f"{simulated.kappa[k]:.2f} {simulated.kind[k]}", fontsize=5, pad=1)
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.985, 0.03, 0.14)
    figure.savefig(path, dpi=75)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--galaxies", type=int, default=100)
    parser.add_argument("--views", type=int, default=10)
    asked = parser.parse_args()
    import kinms  # noqa: F401  its import is not what is timed

    simulate_fields(10, 1, SEED + 1)
    began = time.process_time()
    simulated = simulate_fields(asked.galaxies, asked.views, SEED)
    whole = _spent(began) / len(simulated)
    began = time.process_time()
    galaxies = [draw_galaxy(np.random.default_rng([SEED, k, 0]), (k % 10 / 10, k % 10 / 10 + 0.1)) for k in range(asked.galaxies)]
    drawing = _spent(began) / len(galaxies)
    tenth = np.minimum(simulated.kappa * 10, 9).astype(int)[:: asked.views]
    kinds = {f"{t / 10:.1f}": dict(Counter(simulated.kind[:: asked.views][tenth == t].tolist()).most_common()) for t in range(10)}
    covered = np.isfinite(simulated.field).mean(axis=(1, 2))
    record.keep("simulated_fields", {
        "fields": len(simulated), "ms_per_field": round(whole, 1), "ms_per_galaxy_drawn": round(drawing, 1),
        "beam": _beams(galaxies[:: max(1, len(galaxies) // COMPARED)][:COMPARED]),
        "kinds_by_tenth_of_kappa": kinds,
        "covered_share_p5_p50_p95": np.percentile(covered, (5, 50, 95)).round(3).tolist(),
    })  # fmt: skip
    _show(simulated, HERE / "simulated_fields.png")
