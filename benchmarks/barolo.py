"""Beside 3D-Barolo (Di Teodoro & Fraternali 2015) on the same cubes: time and result.

    python benchmarks/barolo.py --barolo-python PATH --weights DIR [--mirror MIRROR] [--work DIR]

PATH is a Python that has pyBBarolo (never this project's own), DIR a trained network, MIRROR a folder laid out like the archives.
3D-Barolo runs twice on each cube: on its own estimates, and given the centre, v_sys, and an inclination and position angle good to 5 deg.
Ours takes the cube alone, of the real ones also their position. Runs of 3D-Barolo that are in the work folder already are not repeated.
"""

import argparse
import json
import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from barolo_figure import draw
from barolo_mocks import MockCube, draw_mocks, write_cube
from barolo_run import Rings, plain_cube, run_barolo, version_of
from cubes_fitted import FittedDisc, Stopwatch, fit_maps
from cubes_reference import NGC_2903_CURVE
from mock_stamps import load
from record import keep

from tullyflow.conventions import wrap_degrees
from tullyflow.settings import Settings, load_settings
from tullyflow.surveys.cubes import read_cube

ROOT = Path(__file__).resolve().parents[1]
MOCKS, SEED, GIVEN_ERR = 20, 7, 5.0
BEAMS = 2.0  # radii nearer the centre are counted apart
REAL = {  # published i, PA, v_sys; major axis of the beam; position
    "NGC_2903": ((66.0, 204.3, 555.6), 57.4, {"ra_deg": 143.0421, "dec_deg": 21.5008}),
    "eso121-g6": (None, 28.6, {"ra_deg": 91.8740, "dec_deg": -61.8075}),
}


@dataclass(frozen=True)
class Compared:
    """One cube: its truth or None, both methods, and the radii (arcsec) of the curve of ours."""

    name: str
    cube: Path
    truth: MockCube | None
    beam: float
    own: Rings
    given: Rings | None
    ours: FittedDisc
    watch: Stopwatch


def barolo(python: Path, cube: Path, folder: Path, **options: float) -> Rings:
    """`run_barolo`, or what it found here before."""
    kept = folder / "rings.json"
    if kept.exists():
        return Rings(**{k: np.array(v) if isinstance(v, list) else v for k, v in json.loads(kept.read_text()).items()})
    rings = run_barolo(python, cube, folder, **options)
    kept.write_text(json.dumps({k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(rings).items()}))
    return rings


def ours_on(
    cube: Path, name: str, checkpoint, settings: Settings, radius: np.ndarray, threads: int, **position: float
) -> tuple[FittedDisc, Stopwatch]:
    torch.set_num_threads(threads)
    watch = Stopwatch()
    maps = watch.time("moments", lambda: read_cube(cube, {"galaxy": name, **position}, settings))
    return fit_maps(maps, checkpoint, settings, radius, watch, **position), watch


def difference(angle: float, other: float) -> float:
    return float(wrap_degrees(angle - other + 180) - 180)


def middle(rings: Rings) -> tuple[float, float, float]:
    """Inclination, position angle and v_sys of all rings: medians, the angle's about the first ring's."""
    turned = [difference(pa, rings.pa[0]) for pa in rings.pa]
    return float(np.median(rings.inclination)), float(rings.pa[0] + np.median(turned)), float(np.median(rings.v_sys))


def errors_of(truth: MockCube, beam: float, found: tuple[float, float, float], radius: np.ndarray, v_rot: np.ndarray) -> dict[str, float]:
    """Found minus true; of the curves the root mean square of V/V_true - 1 inside and beyond two beams, and of V sin i beyond."""
    true = truth.rotation(radius)
    outer, off = radius > BEAMS * beam, v_rot / true - 1
    sini = v_rot * np.sin(np.radians(found[0])) / (true * np.sin(np.radians(truth.inclination))) - 1
    rms = lambda x: float(np.sqrt(np.mean(x**2))) if len(x) else np.nan  # noqa: E731
    return {"inclination": found[0] - truth.inclination, "PA": difference(found[1], truth.pa), "v_sys": found[2] - truth.v_sys,
            "V beyond 2 beams, %": 100 * rms(off[outer]), "V within, %": 100 * rms(off[~outer]),
            "V sin i beyond, %": 100 * rms(sini[outer])}  # fmt: skip


def summary(rows: list[dict[str, float]], failed: int) -> dict:
    lines = {}
    for name in rows[0]:
        size = np.abs([row[name] for row in rows])
        lines[name] = f"median {np.nanmedian(size):.2f}, mean {np.nanmean(size):.2f}, worst {np.nanmax(size):.2f}"
    return {"galaxies": len(rows), "failed": failed, **lines}


def seconds(walls: list[float], cpus: list[float]) -> str:
    return f"wall {np.median(walls):.2f} ({min(walls):.2f}-{max(walls):.2f}), processor {np.median(cpus):.2f}"


def compare(args: argparse.Namespace, checkpoint, settings: Settings) -> list[Compared]:
    done = []
    for truth in draw_mocks(args.mocks, SEED):
        cube, folder = args.work / f"{truth.name}.fits", args.work / truth.name
        if not cube.exists():
            write_cube(truth, args.work)
        near = np.random.default_rng(truth.seed + 1).normal(0, GIVEN_ERR, 2)
        told = {"XPOS": 40 + truth.centre[0], "YPOS": 40 + truth.centre[1], "VSYS": truth.v_sys,
                "INC": float(np.clip(truth.inclination + near[0], 10, 89)), "PA": truth.pa + near[1]}  # fmt: skip
        own = barolo(args.barolo_python, cube, folder / "own", RADSEP=truth.beam[0])
        given = barolo(args.barolo_python, cube, folder / "given", RADSEP=truth.beam[0], **told)
        radius = own.radius if not own.failed else np.arange(0.5, 8) * truth.beam[0]
        ours, watch = ours_on(cube, truth.name, checkpoint, settings, radius, 1)
        done.append(Compared(truth.name, cube, truth, truth.beam[0], own, given, ours, watch))
    for name, (_, beam, position) in REAL.items() if args.mirror else ():
        cube, folder = plain_cube(args.mirror / "hi_cubes" / f"{name}.fits", args.work / f"{name}.fits"), args.work / name
        own = barolo(args.barolo_python, cube, folder / "own", RADSEP=beam)
        radius = own.radius if not own.failed else np.arange(0.5, 14) * beam
        ours, watch = ours_on(args.mirror / "hi_cubes" / f"{name}.fits", name, checkpoint, settings, radius, 1, **position)
        done.append(Compared(name, cube, None, beam, own, None, ours, watch))
    return done


def timings(args: argparse.Namespace, done: list[Compared], checkpoint, settings: Settings) -> dict:
    """Medians and ranges over the mocks; two threads on the first five of them."""
    mocks = [c for c in done if c.truth is not None]
    lines = {"3D-Barolo, own estimates, 1 thread": seconds([c.own.wall_s for c in mocks], [c.own.cpu_s for c in mocks])}
    lines["3D-Barolo, given estimates, 1 thread"] = seconds([c.given.wall_s for c in mocks], [c.given.cpu_s for c in mocks])
    two = [barolo(args.barolo_python, c.cube, args.work / c.name / "two", RADSEP=c.beam, threads=2) for c in mocks[:5]]
    lines["3D-Barolo, own estimates, 2 threads, 5 cubes"] = seconds([r.wall_s for r in two], [r.cpu_s for r in two])
    lines["the same cubes, 1 thread"] = seconds([c.own.wall_s for c in mocks[:5]], [c.own.cpu_s for c in mocks[:5]])
    both = [ours_on(c.cube, c.name, checkpoint, settings, c.ours.radius, 2)[1] for c in mocks]
    for label, watches in (("1 thread", [c.watch for c in mocks]), ("2 threads", both)):
        parts = {name: seconds([w.wall[name] for w in watches], [w.cpu[name] for w in watches]) for name in watches[0].wall}
        total = [sum(w.wall.values()) for w in watches], [sum(w.cpu.values()) for w in watches]
        lines[f"ours, cube to curve, {label}"] = seconds(*total)
        lines[f"ours, by part, {label}"] = parts
    for c in done:
        if c.truth is None:
            lines[c.name] = {"3D-Barolo, own estimates, 1 thread": seconds([c.own.wall_s], [c.own.cpu_s]),
                             "ours, 1 thread": seconds([sum(c.watch.wall.values())], [sum(c.watch.cpu.values())])}  # fmt: skip
    return lines


def spread(off: np.ndarray) -> str:
    return f"median {np.median(off):+.1f}, from {off.min():+.1f} to {off.max():+.1f}"


def real_lines(c: Compared) -> dict:
    ring = middle(c.own)
    outer = c.own.radius > BEAMS * c.beam
    off = 100 * (c.ours.v_rot / c.own.v_rot - 1)[outer]
    lines = {
        "3D-Barolo": f"i {ring[0]:.1f}, PA {ring[1]:.1f}, v_sys {ring[2]:.1f}; velocities as in the header",
        "ours": f"i {c.ours.inclination:.1f} +- {c.ours.inclination_err:.1f}, PA {c.ours.pa:.1f} +- {c.ours.pa_err:.1f}, "
        f"v_sys {c.ours.v_sys:.1f}; {c.ours.curve}; velocities heliocentric",
        "V of ours over 3D-Barolo's beyond 2 beams, %": spread(off),
    }
    if REAL[c.name][0]:
        lines["published"] = "i {:g}, PA {:g}, v_sys {:g}".format(*REAL[c.name][0])
    if c.name == "NGC_2903":
        at, known = NGC_2903_CURVE
        beyond = (at > BEAMS * c.beam) & (at < c.own.radius.max())
        for label, radius, v in (("3D-Barolo", c.own.radius, c.own.v_rot), ("ours", c.ours.radius, c.ours.v_rot)):
            off = 100 * (np.interp(at[beyond], radius, v) / known[beyond] - 1)
            lines[f"V of {label} over SPARC's beyond 2 beams, %"] = spread(off)
    return lines


def accuracy(done: list[Compared]) -> dict:
    lines = {}
    groups = {"all": lambda t: True, "arctan curves": lambda t: t.rise is None, "other curves": lambda t: t.rise is not None}
    for group, inside in groups.items():
        mocks = [c for c in done if c.truth is not None and inside(c.truth)]
        part = {}
        for label, rings in (("own", [c.own for c in mocks]), ("given", [c.given for c in mocks])):
            good = [(c, r) for c, r in zip(mocks, rings, strict=True) if not r.failed]
            rows = [errors_of(c.truth, c.beam, middle(r), r.radius, r.v_rot) for c, r in good]
            part[f"3D-Barolo, {label} estimates"] = summary(rows, len(mocks) - len(good))
        for label, field in (("ours, arctan", "v_rot"), ("ours, curve preferred", "v_chosen")):
            rows = [errors_of(c.truth, c.beam, (c.ours.inclination, c.ours.pa, c.ours.v_sys), c.ours.radius, getattr(c.ours, field))
                    for c in mocks]  # fmt: skip
            part[label] = summary(rows, sum(not c.ours.refined for c in mocks))
        pulls = [(row["inclination"] / c.ours.inclination_err, row["PA"] / c.ours.pa_err) for row, c in zip(rows, mocks, strict=True)]
        part["ours, errors before calibration"] = "rms of (found - true) / error: inclination {:.2f}, PA {:.2f}".format(
            *np.sqrt(np.nanmean(np.square(pulls), axis=0))
        )
        lines[group] = part
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--barolo-python", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--mirror", type=Path)
    parser.add_argument("--work", type=Path, default=ROOT / "results" / "barolo")
    parser.add_argument("--mocks", type=int, default=MOCKS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    args.work = args.work.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    checkpoint, settings = load(args.weights), load_settings(ROOT / "config" / "local.yaml")
    version = version_of(args.barolo_python)
    compare(argparse.Namespace(**{**vars(args), "mocks": 1, "mirror": None}), checkpoint, settings)  # modules are read, once
    done = compare(args, checkpoint, settings)
    keep("barolo", {
        "3D-Barolo": f"pyBBarolo {version}: 3DFIT, rings of one beam, free VROT VDISP INC PA, all else its defaults",
        "mocks": f"{args.mocks} KinMS cubes of 80 x 80 x 60, i 30-80 deg, beam 3.5-4.5 pixels, peak S/N 8-40, every other curve no arctan",
        "load when measured": f"{os.getloadavg()[1]:.1f} processes on {os.cpu_count()} cores: compare processor seconds, not wall seconds",
        "seconds per galaxy": timings(args, done, checkpoint, settings),
        "found minus true, mocks": accuracy(done),
        **{c.name: real_lines(c) for c in done if c.truth is None},
    })  # fmt: skip
    draw(ROOT / "benchmarks" / "barolo.png", done)


if __name__ == "__main__":
    main()
